# SPDX-License-Identifier: Apache-2.0
"""Generators of the user by `module:Class`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fourdgen_ros.core.errors import GenerationError, InputError
from fourdgen_ros.core.types import Observation, RgbdView
from fourdgen_ros.evaluation.generators import fingerprint, load_generator, model_folder
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


ready = Mine()
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'somebodys_generator.py').write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize('name', ['somebodys_generator:Mine', 'somebodys_generator:ready'])
def test_a_class_or_an_object_is_used(name: str) -> None:
    assert load_generator(name).name == 'mine'
    assert model_folder(name) is None
    assert fingerprint(name) == ''


@pytest.mark.parametrize(('name', 'message'), [
    ('no_such_module:Mine', 'No module named'), ('somebodys_generator:Other', 'Other'),
    ('somebodys_generator:Nameless', 'an object with `name` and `generate`'),
    ('somebodys_generator:Needs', r'made without arguments; got arguments \(path\)')])
def test_what_is_no_generator_is_refused_with_the_next_step(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_generator(name)
    assert error.value.hint


def test_an_error_inside_a_constructor_is_not_hidden() -> None:
    with pytest.raises(TypeError, match='has no len'):
        load_generator('somebodys_generator:Broken')


def test_a_class_that_returns_no_future_is_named() -> None:
    view = RgbdView(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32), np.eye(3), 0, 'a')
    empty = load_generator('somebodys_generator:Empty')
    with pytest.raises(GenerationError, match='somebodys_generator:Empty.*Future; got NoneType'):
        empty.generate(Observation((view,)), task='a', seed=0)


@pytest.mark.parametrize('name', ['tiny', 'runs/a:b', './a:b', 'a:', ':b', 'C:/x', 'a:b:c'])
def test_names_and_folders_are_no_classes(name: str) -> None:
    assert not is_own(name)
