# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, messages and how fast the help comes."""

from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fourdgen_ros.cli import __main__ as cli
from fourdgen_ros.cli import checks, doctor, generate, options
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.paths import share_directory
from fourdgen_ros.sim.tasks import TASKS


def test_an_error_of_ours_is_one_message(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def run(args: argparse.Namespace) -> int:
        raise InputError('the image', expected='rgb8', got='mono8', hint='Set it to colour.')

    monkeypatch.setattr(doctor, 'run', run)
    assert cli.main(['doctor']) == 1
    assert capsys.readouterr().err == (
        'fourdgen: error: the image; expected rgb8; got mono8. Set it to colour.\n')


def test_an_interrupt_exits_as_shells_expect(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, 'run', run)
    assert cli.main(['doctor']) == 130
    assert 'Traceback' not in capsys.readouterr().err


def test_an_error_of_the_file_system_is_one_message(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def run(args: argparse.Namespace) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device', 'f.gif')

    monkeypatch.setattr(doctor, 'run', run)
    assert cli.main(['doctor']) == 1
    assert capsys.readouterr().err == 'fourdgen: error: f.gif: No space left on device\n'


def test_a_full_disk_is_named_by_the_file(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(checks, 'CHECKS', ())
    assert cli.main(['doctor', '--json', '/dev/full']) == 1
    assert capsys.readouterr().err == 'fourdgen: error: /dev/full: No space left on device\n'


def test_an_error_that_is_not_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, 'run', run)
    with pytest.raises(ZeroDivisionError):
        cli.main(['doctor'])


@pytest.mark.parametrize('verb', cli.VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, '--help'])
    assert stop.value.code == 0
    assert f'fourdgen {verb}' in capsys.readouterr().out


def test_without_a_verb_the_verbs_are_shown(capsys: pytest.CaptureFixture) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert all(f'\n  {verb} ' in shown for verb in cli.VERBS)


@pytest.mark.parametrize(('argv', 'start', 'next_step'), [
    (['dmeo'], "fourdgen: error: argument VERB: invalid choice: 'dmeo'", 'fourdgen --help'),
    (['data'], 'fourdgen data: error: the following arguments are required: VERB',
     'fourdgen data --help'),
    (['rollout', '--seeds', 'x'], "fourdgen rollout: error: argument --seeds: 'x' is neither",
     'fourdgen rollout --help')])
def test_wrong_usage_is_one_line_with_the_next_step(
        argv: list[str], start: str, next_step: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.startswith(start)
    assert told.endswith(f'`{next_step}` tells how to use it.\n')
    assert told.count('\n') == 1


def test_the_tasks_that_help_names_are_those_of_the_cell() -> None:
    assert set(options.TASKS) == set(TASKS)


@pytest.mark.parametrize('verb', ['demo', 'evaluate'])
def test_help_names_every_task(verb: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, '--help'])
    shown = capsys.readouterr().out
    assert all(task in shown for task in TASKS)


def test_a_tracker_file_that_is_missing_is_told_before_anything_is_built(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr('fourdgen_ros.evaluation.openloop.evaluate', None)  # not reached
    assert cli.main(['evaluate', '--tracker', 'nix.yaml', '--seeds', '0:1']) == 1
    assert capsys.readouterr().err.startswith('fourdgen: error: --tracker nix.yaml; expected')


def test_a_file_that_is_no_future_gets_no_advice_of_numpy(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'x.npz').write_text('{}')
    assert cli.main(['view', '--future', str(tmp_path / 'x.npz')]) == 1
    told = capsys.readouterr().err
    assert 'pickle' not in told and 'fourdgen generate --out FOLDER' in told


def test_help_loads_nothing_heavy() -> None:
    code = ('import sys\n'
            'from fourdgen_ros.cli.__main__ import main\n'
            'try:\n'
            '    main(["--help"])\n'
            'except SystemExit:\n'
            '    pass\n'
            'heavy = {"torch", "mujoco", "rclpy", "numpy", "scipy", "rich"} & set(sys.modules)\n'
            'sys.exit(f"loaded {heavy}" if heavy else 0)\n')
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_a_check_that_works() -> None:
    finding = checks.examine(checks.Check('thing', lambda: '1.0'))
    assert (finding.verdict, finding.found, finding.next) == ('ok', '1.0', '')


@pytest.mark.parametrize(('optional', 'verdict'), [(False, 'missing'), (True, 'optional')])
def test_a_check_that_fails_names_the_next_step(optional: bool, verdict: str) -> None:
    def probe() -> str:
        raise ImportError('No module named thing\nmore')

    finding = checks.examine(checks.Check('thing', probe, 'Install it.', optional=optional))
    assert (finding.verdict, finding.found, finding.next) == (
        verdict, 'No module named thing', 'Install it.')


@pytest.mark.parametrize(('options', 'message'), [
    (['--svd', 'x'], '--svd; expected --preset svd-4dgen; got --preset tiny'),
    (['--init', 'x', '--no-cross-view'], '--no-cross-view; expected dynamics from random weights'),
    (['--preset', 'svd-4dgen', '--init-codec', 'x'], '--init-codec; expected --preset tiny'),
    (['--preset', 'svd-4dgen', '--no-cross-view'], '--no-cross-view; expected --preset tiny'),
    (['--preset', 'svd-4dgen', '--compile'], '--compile; expected --preset tiny'),
    (['--preset', 'svd-4dgen', '--learning-rate', '1e-5'], '--learning-rate; expected --preset'),
    (['--preset', 'diffusion-policy', '--learning-rate', '1e-5'], '--learning-rate; expected'),
    (['--learning-rate', '0'], '--learning-rate; expected above 0')])
def test_an_option_of_train_that_would_do_nothing_is_refused(
        tmp_path, capsys: pytest.CaptureFixture, options: list[str], message: str) -> None:
    arguments = ['train', '--data', str(tmp_path), '--out', str(tmp_path), *options]
    assert cli.main(arguments) == 1
    assert message in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('generator', ['oracle-rgb', 'still'])
def test_a_generator_that_no_node_has_is_refused_before_anything_starts(
        tmp_path, capsys: pytest.CaptureFixture, generator: str) -> None:
    out = tmp_path / 'demo'
    assert cli.main(['demo', '--generator', generator, '--out', str(out)]) == 1
    assert '--no-ros' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(('options', 'message'), [
    ('--from-cell 7 --camera file', '--camera; expected --images with it; got --from-cell'),
    ('--folder F --camera file', '--camera; expected --images with it; got --folder'),
    ('--from-cell 7 --depth-unit 0.001',
     '--depth-unit; expected --images or --folder with it; got --from-cell')])
def test_an_option_of_generate_that_would_do_nothing_is_refused(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, options: str,
        message: str) -> None:
    for name in ('_read', '_from_cell'):
        monkeypatch.setattr(generate, name, lambda args: pytest.fail('it has begun'))
    assert cli.main(['generate', *options.split()]) == 1
    assert message in ' '.join(capsys.readouterr().err.split())


_MAP = share_directory() / 'config' / 'data' / 'realsense_franka.yaml'
_GENERATE = 'generate --from-cell 7 --generator oracle', 'evaluation.generators.load_generator'
_COLLECT = 'collect --episodes 1 --out out', 'sim.collect.collect'
_CONVERT = f'data convert bag --map {_MAP} --out out', 'data.convert.convert'
_DEMO = 'demo', 'cli.demo_ros.run_over_ros'


@pytest.mark.parametrize(('verb', 'work', 'option', 'name'), [
    ('doctor', 'cli.checks.examine', '--json', 'x'),
    (*_DEMO, '--json', 'x'), (*_DEMO, '--out', 'x'),
    (*_GENERATE, '--json', 'x'), (*_GENERATE, '--out', 'x'),
    ('rollout --generator oracle', 'evaluation.rollout.rollout', '--json', 'x'),
    ('evaluate --generator oracle', 'evaluation.openloop.evaluate', '--json', 'x'),
    ('evaluate --generator oracle', 'evaluation.comparison.compare', '--out', 'x'),
    (*_COLLECT, '--json', 'x'), (*_COLLECT, '--out', 'x'),
    (f'data check bag --map {_MAP}', 'data.bag_job.check', '--json', 'x'),
    (*_CONVERT, '--json', 'x'), (*_CONVERT, '--out', 'x'),
    ('data import episode', 'data.convert.convert', '--out', 'x'),
    ('data cache set', 'data.cache.build', '--out', 'x'),
    ('data show set', 'data.dataset.Dataset', '--out', 'x.png'),
    ('recover bag', 'data.bag_recovery.recover', '--out', 'x'),
    ('convert weights', 'generator.svd.convert.convert', '--out', 'x'),
    ('mesh', 'tracker.estimator.gripper_object', '--out', 'x.obj'),
    ('report run', 'evaluation.report.load.load_runs', '--out', 'x'),
    ('curve run', 'evaluation.learning_curve.read_run', '--out', 'x.png')])
def test_an_output_that_cannot_be_written_is_refused_before_anything_starts(
        tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, verb: str,
        work: str, option: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)

    def started(*_: object, **__: object) -> None:
        pytest.fail('it has begun')

    monkeypatch.setattr(f'fourdgen_ros.{work}', started)
    monkeypatch.setattr('fourdgen_ros.cli.generate._from_cell', lambda args: (None, None))
    file = tmp_path / 'file' / name
    file.parent.write_text('')
    assert cli.main([*verb.split(), option, str(file)]) == 1
    assert f'{option} {file}; expected a folder that can be made' in ' '.join(
        capsys.readouterr().err.split())


def test_the_report_of_doctor_makes_its_folder_and_markup_is_text(
        tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def probe() -> str:
        raise ImportError('[/] no closing tag')

    monkeypatch.setattr(checks, 'CHECKS', (checks.Check(
        'svd', probe, "pip install '.[svd]'", optional=True),))
    assert cli.main(['doctor', '--json', str(tmp_path / 'new' / 'x.json')]) == 0
    said = capsys.readouterr().out
    assert "pip install '.[svd]'" in said
    assert '[/] no closing tag' in said
    assert json.loads((tmp_path / 'new' / 'x.json').read_text())['ok']


def test_texts_of_a_user_are_printed_as_they_are(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    message = 'no weights [/data/w.pt] in runs[new]/:dog:'

    def rollout(_: object, __: object, ___: object, on_result: Callable, **____: object) -> dict:
        on_result({'seed': 7, 'success': False, 'cause': 'error', 'stage': 'none',
                   'message': message})
        raise InputError('enough')

    monkeypatch.setattr('fourdgen_ros.evaluation.rollout.rollout', rollout)
    assert cli.main(['rollout', '--generator', 'oracle']) == 1
    assert message in ' '.join(capsys.readouterr().out.split())


def test_all_verbs_print_to_the_one_kind_of_console() -> None:
    own = [file.name for file in Path(cli.__file__).parent.glob('*.py')
           if 'Console(' in file.read_text(encoding='utf-8')]
    assert own == ['options.py']


def test_help_groups_the_verbs_by_the_path_of_a_user(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main(['--help'])
    shown = capsys.readouterr().out
    at = [shown.index(f'\n{group}:\n') for group in cli.GROUPS]
    assert at == sorted(at)
    for verb in cli.VERBS:
        assert shown.count(f'\n  {verb} ') == 1
        assert cli.module_of(verb).HELP in shown


def test_bash_completes_verbs_and_options(tmp_path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['completion', 'bash']) == 0
    script = tmp_path / 'completion'
    script.write_text(capsys.readouterr().out)
    ask = (f'source {script}; complete_of=$(complete -p fourdgen | sed "s/.*-F //; s/ .*//"); '
           'COMP_WORDS=(fourdgen roll); COMP_CWORD=1; $complete_of fourdgen roll fourdgen; '
           'echo "${COMPREPLY[@]}"; COMPREPLY=(); '
           'COMP_WORDS=(fourdgen rollout --se); COMP_CWORD=2; '
           '$complete_of fourdgen --se rollout; echo "${COMPREPLY[@]}"')
    done = subprocess.run(['bash', '-c', ask], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ['rollout', '--seeds']


def test_zsh_completion_names_every_verb(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['completion', 'zsh']) == 0
    script = capsys.readouterr().out
    assert script.startswith('#compdef fourdgen')
    for verb in cli.VERBS:
        assert f'{verb}:' in script


def test_the_generator_of_the_tutorial_is_timed_though_it_tells_no_times(
        tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (share_directory() / 'docs' / 'tutorials' / 'generator.md').read_text(encoding='utf-8')
    (tmp_path / 'tutorial_generator.py').write_text(text.split('```python\n')[1].split('```')[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(['generate', '--from-cell', '7', '--generator', 'tutorial_generator:Freeze',
                     '--out', str(tmp_path), '--json', str(tmp_path / 'f.json')]) == 0
    told = json.loads((tmp_path / 'f.json').read_text())
    assert told['timings'] == {} and told['seconds'] > 0.0
    assert (told['generator'], told['views']) == ('freeze', ['cam_left'])
