# SPDX-License-Identifier: Apache-2.0
"""A policy behind a pipe: `python -m fourdgen_ros.policy.worker FOLDER THREADS`.

Reads observations from standard input and writes actions to standard output, see `wire`, until the
input ends. What libraries print goes to standard error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fourdgen_ros.policy.wire import receive, send


def main() -> None:
    """Serve one client."""
    answers = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    import torch

    from fourdgen_ros.core.errors import FourdgenError
    from fourdgen_ros.policy.model import load

    torch.set_num_threads(int(sys.argv[2]))
    try:
        policy = load(Path(sys.argv[1]))
    except FourdgenError as error:
        send(answers, error=str(error))
        return
    send(answers, dt=policy.about.dt, height=policy.about.height, width=policy.about.width)
    while (request := receive(sys.stdin.buffer)) is not None:
        try:
            poses, opening = policy.act(request['rgb'], request['tool'], str(request['task']),
                                        int(request['seed']))
        except FourdgenError as error:
            send(answers, error=str(error))
        else:
            send(answers, poses=poses, opening=opening)


if __name__ == '__main__':
    main()
