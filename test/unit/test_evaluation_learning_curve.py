# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fourdgen_ros.cli.__main__ import main
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.learning_curve import read_closed, read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / 'tiny' / 'dynamics'
    folder.mkdir(parents=True)
    rows = [{'step': 50, 'loss': 1.0}, {'step': 500, 'validation': {'tcp_mean_mm': 40.0}},
            {'step': 1000, 'validation': {'tcp_mean_mm': 31.0}},
            {'step': 1000, 'validation': {'tcp_mean_mm': 30.0}}]
    (folder / 'log.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    return folder


def test_validations_against_samples(run: Path) -> None:
    read = read_run(run, 'tcp_mean_mm', 32)
    assert (read.name, read.samples, read.values) == ('tiny', (16000, 32000), (40.0, 30.0))


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='log.jsonl'):
        read_run(tmp_path, 'tcp_mean_mm', 32)
    with pytest.raises(InputError, match=r"measure 'psnr'.*tcp_mean_mm"):
        read_run(run, 'psnr', 32)
    with pytest.raises(InputError, match='fourdgen rollout'):
        read_closed(1, run / 'log.jsonl')
    (run / 'list.json').write_text('[]')
    with pytest.raises(InputError, match=r'list\.json; expected JSON of fourdgen rollout'):
        read_closed(1, run / 'list.json')


def test_a_line_that_was_cut_off_is_left_out(run: Path) -> None:
    log = run / 'log.jsonl'
    log.write_bytes(log.read_bytes() + b'{"step": 1500, "valid')
    assert read_run(run, 'tcp_mean_mm', 32).samples == (16000, 32000)
    log.write_bytes(log.read_bytes() + b'\n{"step": 2000}\n')
    with pytest.raises(InputError, match=r'log\.jsonl, line 5; expected JSON'):
        read_run(run, 'tcp_mean_mm', 32)


@pytest.mark.parametrize('out', ['folder', 'x.foo'])
def test_a_picture_of_no_known_kind_is_refused(run: Path, tmp_path: Path, out: str,
                                               capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'folder').mkdir()
    before = sorted(tmp_path.iterdir())
    assert main(['curve', str(run), '--out', str(tmp_path / out)]) == 1
    assert f'{out}; expected a name that ends with .png' in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_the_verb_draws_both(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report = tmp_path / 'r.json'
    report.write_text(json.dumps({'rate': 0.8, 'wilson95': [0.5, 0.95], 'n': 10}))
    out = tmp_path / 'new' / 'curve.png'
    assert main(['curve', str(run), '--closed', f'32000={report}', '--out', str(out)]) == 0
    assert Image.open(out).width > 500
    assert str(out) in capsys.readouterr().out.replace('\n', '')
    with pytest.raises(SystemExit):
        main(['curve', str(run), '--closed', 'x', '--out', str(out)])
