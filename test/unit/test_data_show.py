# SPDX-License-Identifier: Apache-2.0
"""What `fourdgen data show` draws lies where it was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.data.bag_job import BagJob
from fourdgen_ros.data.convert import convert
from fourdgen_ros.data.dataset import Dataset
from fourdgen_ros.evaluation.drawing import REAL
from fourdgen_ros.evaluation.episode_pages import load_frames, pages

from .data_bags import Recording, topic_map, write_bag


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('made')
    bag = write_bag(folder / 'a', Recording(seconds=0.6))
    convert([BagJob(bag, topic_map(folder / 'map.yaml', text='Äpfel <b>'))], folder / 'set')
    return folder / 'set'


@pytest.mark.parametrize('kind', ['gif', 'png', 'html'])
def test_every_kind_of_file(made: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f'episode.{kind}'
    assert cli.main(['data', 'show', str(made), '--out', str(out)]) == 0
    if kind == 'html':
        text = out.read_text(encoding='utf-8')
        assert text.count('data:image/jpeg') == 4 and 'Äpfel &lt;b>' in text
    else:
        with Image.open(out) as image:
            assert getattr(image, 'n_frames', 1) == (4 if kind == 'gif' else 1)


def test_the_path_is_drawn_where_the_tcp_was(made: Path) -> None:
    data = Dataset(made)
    episode, frames = data.episode(0), load_frames(data, 0, 2)
    page = np.asarray(next(iter(pages(episode, frames))))
    # camera 0 looks down from (0.5, -0.1, 1.0), x to the right, y of the base upwards in the image
    x, y, z = episode.tcp[0, :3, 3]
    u = 60.0 * (x - 0.5) / (1.0 - z) + 31.5
    v = 60.0 * -(y + 0.1) / (1.0 - z) + 23.5
    u, v = round((u + 0.5) * 5 - 0.5), round((v + 0.5) * 5 - 0.5)
    near = page[v - 4:v + 5, u - 4:u + 5].reshape(-1, 3)
    assert (near == REAL).all(-1).any()


@pytest.mark.parametrize(('options', 'expected'), [
    (['--episode', '7', '--out', 'a.gif'], '0 to 0'), (['--out', 'a.bmp'], '.gif, .png, .html')])
def test_wrong_options_are_named(made: Path, capsys, options: list[str], expected: str) -> None:
    assert cli.main(['data', 'show', str(made), *options]) == 1
    assert expected in ' '.join(capsys.readouterr().err.split())
