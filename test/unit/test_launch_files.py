# SPDX-License-Identifier: Apache-2.0
"""The launch files, read as source: also where launch is not installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from fourdgen_ros.core.paths import share_directory

FILES = sorted((share_directory() / 'launch').glob('*.launch.py'))


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)
            and (getattr(node.func, 'id', '') or getattr(node.func, 'attr', '')) == name]


def text(node: ast.expr) -> str:
    """A string literal, also one in several parts."""
    return ast.literal_eval(node)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_arguments_are_declared_described_and_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    declared = {}
    for call in calls(tree, 'DeclareLaunchArgument'):
        keywords = {k.arg: k.value for k in call.keywords}
        assert {'default_value', 'description'} <= keywords.keys(), text(call.args[0])
        assert len(text(keywords['description'])) > 10
        declared[text(call.args[0])] = call
    used = {text(call.args[0]) for call in calls(tree, 'LaunchConfiguration')}
    assert used == declared.keys()
    added = {call.args[0].id for call in calls(tree, 'add_action')}
    assert {f'declare_{name}' for name in declared} <= added


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_executables_exist(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    nodes = [{k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
             for call in [*calls(tree, 'Node'), *calls(tree, 'LifecycleNode')]]
    names = {node['executable'] for node in nodes
             if node['package'] == 'fourdgen_ros' and 'executable' in node}
    listed = {element.value for node in tree.body if isinstance(node, ast.Assign)
              for element in ast.walk(node.value)
              if isinstance(element, ast.Constant) and isinstance(element.value, str)}
    for name in names | listed:
        assert (share_directory() / 'scripts' / 'nodes' / name).is_file(), name


def _parameters(file: str, node: str) -> dict:
    values = yaml.safe_load((share_directory() / 'config' / file).read_text(encoding='utf-8'))
    return values[f'/**/{node}']['ros__parameters']


@pytest.mark.parametrize('file', ['tracker.yaml', 'sim.yaml', 'replay.yaml'])
def test_the_tracker_remembers_longer_than_a_generation_may_take(file: str) -> None:
    limit = _parameters('task_loop.yaml', 'task_loop')['stage_timeout']
    assert _parameters(file, 'tracker')['history'] > limit
