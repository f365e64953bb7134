# SPDX-License-Identifier: Apache-2.0
"""Generators of the user by `module:Class`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core.camera import pointmap
from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Future, Observation, RgbdView
from fourdgen_ros.evaluation.generators import load_generator, model_folder
from fourdgen_ros.evaluation.own import is_own

SOURCE = '''
class Mine:
    name = 'mine'

    def generate(self, observation, *, task, seed, steps=None):
        raise NotImplementedError


class Nameless:
    def generate(self, observation, *, task, seed, steps=None):
        raise NotImplementedError


class Needs(Mine):
    def __init__(self, path):
        pass


class Broken(Mine):
    def __init__(self):
        len(5)


class Empty(Mine):
    def generate(self, observation, *, task, seed, steps=None):
        pass


class Raising(Mine):
    def generate(self, observation, *, task, seed, steps=None):
        return len(5)


class Callable(Mine):
    """As a torch.nn.Module is."""

    def __call__(self, x):
        raise NotImplementedError


ready = Callable()
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'somebodys_generator.py').write_text(SOURCE)
    (tmp_path / 'somebodys_package').mkdir()
    for name, text in (('__init__', ''), ('needs', 'import no_such_dependency'),
                       ('broken', 'len(5)')):
        (tmp_path / 'somebodys_package' / f'{name}.py').write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize('name', ['somebodys_generator:Mine', 'somebodys_generator:ready'])
def test_a_class_or_an_object_is_used(name: str) -> None:
    assert load_generator(name).name == 'mine'
    assert model_folder(name) is None


@pytest.mark.parametrize(('name', 'message'), [
    ('no_such_module:Mine', 'No module named .no_such_module'),
    ('no_such_package.module:Mine', 'No module named .no_such_package'),
    ('somebodys_package.no_such_module:Mine', 'No module named .somebodys_package.no_such'),
    ('somebodys_generator:Other', 'no Other in it'),
    ('somebodys_generator:Nameless', 'an object with `name` and `generate`'),
    ('somebodys_generator:Needs', r'made without arguments; got arguments \(path\)')])
def test_what_is_no_generator_is_refused_with_the_next_step(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_generator(name)
    assert error.value.hint


def test_an_error_inside_a_constructor_is_not_hidden() -> None:
    with pytest.raises(TypeError, match='has no len'):
        load_generator('somebodys_generator:Broken')


@pytest.mark.parametrize(('name', 'error', 'message'), [
    ('needs', ModuleNotFoundError, 'no_such_dependency'), ('broken', TypeError, 'has no len')])
def test_an_error_inside_a_module_is_not_hidden(name: str, error: type[Exception],
                                                message: str) -> None:
    with pytest.raises(error, match=message):
        load_generator(f'somebodys_package.{name}:Mine')


def test_a_class_that_returns_no_future_is_named() -> None:
    empty = load_generator('somebodys_generator:Empty')
    with pytest.raises(GenerationError, match='somebodys_generator:Empty.*Future; got NoneType'):
        empty.generate(_observation(), task='a', seed=0)


def test_whatever_a_class_raises_is_a_failed_generation() -> None:
    raising = load_generator('somebodys_generator:Raising')
    with pytest.raises(GenerationError, match='somebodys_generator:Raising.*TypeError.*no len'
                       ) as error:
        raising.generate(_observation(), task='a', seed=0)
    line = SOURCE.splitlines().index('        return len(5)') + 1
    assert f'somebodys_generator.py:{line}' in error.value.hint
    assert isinstance(error.value.__cause__, TypeError)


def test_a_failed_generation_of_a_class_comes_as_it_is() -> None:
    def fail() -> Future:
        raise GenerationError('the sample', got='a bad one')

    with pytest.raises(GenerationError, match='^the sample; got a bad one$'):
        _generated(fail)


K = np.array([[5.0, 0.0, 2.5], [0.0, 5.0, 1.5], [0.0, 0.0, 1.0]])


def _observation() -> Observation:
    return Observation(tuple(
        RgbdView(np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 0.8, np.float32), K, 7, camera,
                 f'{camera}_optical') for camera in ('a', 'b')))


def _future(**changes: object) -> Future:
    points = np.tile(pointmap(np.full((4, 6), 0.8, np.float32), K), (2, 3, 1, 1, 1))
    fields = dict(
        rgb=np.zeros(points.shape, np.uint8), points=points, valid=np.ones((2, 3, 4, 6), bool),
        gripper=np.zeros((2, 3, 4, 6), np.float32), dt=0.4, K=np.stack([K, K]),
        cameras=('a', 'b'), stamp=7, generator='mine', frame_id='a_optical')
    return Future(**fields | changes)


def _generated(make: Callable[[], Future]) -> Future:
    """What a class of the user that returns `make()` gives."""
    mine = load_generator('somebodys_generator:Mine')
    mine._made.generate = lambda observation, **_: make()
    return mine.generate(_observation(), task='a', seed=0)


def test_a_future_of_the_observation_passes() -> None:
    assert _generated(_future).frames == 3
    assert _generated(_future).frame_ids == ('a_optical', 'b_optical')
    depth = _future().points.copy()
    depth[:, 1:] *= 5.0  # what comes may be elsewhere
    assert _generated(lambda: _future(points=depth)).frames == 3
    nothing = dict(points=np.full((2, 3, 4, 6, 3), np.nan, np.float32),
                   valid=np.zeros((2, 3, 4, 6), bool))
    assert not _generated(lambda: _future(**nothing)).valid.any()  # a generator of RGB alone


@pytest.mark.parametrize('views', [1, 2])
def test_a_future_may_show_the_first_views_alone(views: int) -> None:
    whole = _future()
    part = {name: getattr(whole, name)[:views]
            for name in ('rgb', 'points', 'valid', 'gripper', 'K', 'cameras')}
    assert len(_generated(lambda: _future(**part)).cameras) == views


@pytest.mark.parametrize(('changes', 'message'), [
    ({'cameras': ('left', 'right')}, "cameras of .*expected .'a', 'b'.*got .'left'"),
    ({'cameras': ('b', 'a')}, 'cameras of'),
    ({'frame_id': ''}, "frame_id of .*expected 'a_optical'; got ''"),
    ({'stamp': 8}, 'stamp of .*expected 7; got 8'),
    ({'K': np.stack([K, K + [[0, 0, 10], [0, 0, 0], [0, 0, 0]]])}, "K of .*camera 'b'.*cx = 12.5"),
    ({'points': 1e3 * _future().points}, 'points of .*measured 0.8 m; got 800.*metres'),
    ({'points': -_future().points}, 'points of .*got -0.8.*z forward')])
def test_a_future_of_something_else_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(GenerationError, match=message) as error:
        _generated(lambda: _future(**changes))
    assert error.value.hint and 'somebodys_generator:Mine' in str(error.value)


def test_a_future_that_cannot_be_built_is_a_failed_generation() -> None:
    with pytest.raises(GenerationError, match='dt of future of somebodys.*got 400.*in seconds'):
        _generated(lambda: _future(dt=400.0))
    with pytest.raises(GenerationError, match='cameras of future of somebodys.*got None'):
        _generated(lambda: _future(cameras=None))


def test_an_observation_that_a_class_refuses_is_one() -> None:
    def refuse() -> Future:
        raise InputError('observation', expected='three views', got='two')

    with pytest.raises(InputError, match='three views'):
        _generated(refuse)


@pytest.mark.parametrize('name', ['tiny', 'runs/a:b', './a:b', 'a:', ':b', 'C:/x', 'a:b:c'])
def test_names_and_folders_are_no_classes(name: str) -> None:
    assert not is_own(name)
