# SPDX-License-Identifier: Apache-2.0
"""`fourdgen view`: the imagined future in the browser, of a running robot or of a file."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

HELP = 'look at what the robot imagines, in the browser'
HOST, PORT = '127.0.0.1', 8080
_PORTS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Serve a page that shows the imagined clouds in time, the tracked gripper and the plan, '
        'with buttons to confirm a plan and to stop the robot. It joins the nodes that run in the '
        'same ROS domain, or, with --future, shows a file without ROS. Ctrl-C ends it.')
    parser.add_argument('--future', type=Path, metavar='FILE',
                        help='a future.npz of `fourdgen generate`')
    parser.add_argument('--host',
                        help=f'address to serve on; for another than this machine\'s own ({HOST}, '
                             f'the default) a token is made, and only who has it is let in')
    parser.add_argument('--port', type=int, help=f'the first port to try; default {PORT}')
    parser.add_argument('--params-file', type=Path, metavar='FILE',
                        help='parameters of the node `view`, as in config/view.yaml: robot, '
                             'cameras; --host and --port win over it')


def run(args: argparse.Namespace) -> int:
    import secrets

    from fourdgen_ros.core.errors import InputError

    if args.port is not None and not 0 <= args.port <= 65535:
        raise InputError('--port', expected='0 to 65535', got=str(args.port))
    if args.params_file is not None and not args.params_file.is_file():
        raise InputError('--params-file', expected='a file', got=str(args.params_file))
    token = secrets.token_urlsafe(24)
    if args.future is not None:
        return _stored(args, token)
    from rclpy.parameter import Parameter

    from fourdgen_ros.nodes.base import run_node
    from fourdgen_ros.nodes.view import ViewNode

    file = [] if args.params_file is None else ['--ros-args', '--params-file',
                                                str(args.params_file)]
    given = [Parameter(name, value=value) for name, value in (('host', args.host),
                                                              ('port', args.port))
             if value is not None]

    def node() -> ViewNode:
        view = ViewNode(token=token, parameter_overrides=given)
        _announce(view.url, view.token)
        return view

    return run_node(node, args=file)


def free_port(first: int) -> int:
    """The first port from `first` on that is free on the loopback now."""
    from fourdgen_ros.core.errors import ExecutionError

    for port in range(first, first + _PORTS):
        with socket.socket() as trial:
            try:
                trial.bind(('127.0.0.1', port))
            except OSError:
                continue
            return port
    raise ExecutionError(f'ports {first} to {first + _PORTS - 1}', expected='a free one',
                         got='none')


def _stored(args: argparse.Namespace, token: str) -> int:
    import signal

    import numpy as np

    from fourdgen_ros.core import se3
    from fourdgen_ros.view.gate import Gate, serve, token_for
    from fourdgen_ros.view.geometry import upright
    from fourdgen_ros.view.hand import load_hand
    from fourdgen_ros.view.page import Outlook, Page
    from fourdgen_ros.view.stored import load_future

    future = load_future(args.future)
    # No calibration is stored: it is shown standing on the largest plane of its first frame.
    T = upright(future.points[:, 0][future.valid[:, 0]])
    beside = se3.apply(T, np.array([0.35, -0.2, 0.0]))  # the reference camera, a little aside
    host = HOST if args.host is None else args.host
    needed = token_for(host, token)
    page = Page(serve(host, PORT if args.port is None else args.port, Gate(host, needed)),
                load_hand('panda_hand'), Outlook(np.zeros(3), beside))
    page.show_future(future, T)
    _announce(page.url, needed)
    try:
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        page.close()
    return 0


def _announce(url: str, token: str | None) -> None:
    print(f'open {url}' if token is None else
          f'open {url}/?token={token}\n'
          f'The connection is not encrypted: prefer `ssh -L` where others share the network.',
          flush=True)
