# SPDX-License-Identifier: Apache-2.0
"""The layer rule: what each folder may import, wherever in a file the import stands."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import fourdgen_ros

PACKAGE = 'fourdgen_ros'
ROOT = Path(fourdgen_ros.__file__).resolve().parent
FILES = sorted(path for path in ROOT.rglob('*.py'))

STAGES = ('generator', 'tracker', 'motion')
ROS_FREE = ('core', *STAGES, 'sim', 'training', 'data', 'policy', 'view')
INTERFACES = (f'{PACKAGE}.msg', f'{PACKAGE}.srv', f'{PACKAGE}.action')

# What a folder may import of this package; folders that are not named may import every layer.
ALLOWED_LAYERS = {
    'core': {'core'},
    'generator': {'core', 'generator'},
    'tracker': {'core', 'tracker'},
    'motion': {'core', 'motion'},
    'sim': {'core', 'sim'},
    'training': {'core', 'generator', 'training'},
    'data': {'core', 'data'},
    'view': {'core', 'view'},
    'policy': {'core', 'generator', 'training', 'policy'},
}


def imported(source: str, module: str) -> list[tuple[int, str, bool]]:
    """(line, dotted name, at module level) of every import, also dynamic ones with a constant name.

    `module` is the dotted name of the file's module, with `.__init__` for a package. A name of
    `from x import y` is given as `x.y`, since `y` may be a module.
    """
    found: list[tuple[int, str, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = module.split('.')[:-node.level]
                base = '.'.join([*parents, base] if base else parents)
            found.extend((node.lineno, f'{base}.{alias.name}', top) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ('import_module', '__import__'):
            if node.args and isinstance(node.args[0], ast.Constant):
                found.append((node.lineno, str(node.args[0].value), top))
            else:
                found.append((node.lineno, '<computed name>', top))
        inner = top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(source), True)
    return found


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ''


def violations(source: str, module: str) -> list[str]:
    """Broken rules of one file, as `line: what`."""
    parts = module.split('.')
    layer = parts[1] if len(parts) > 2 else ''
    bad = []
    for line, name, top in imported(source, module):
        roots = name.split('.')
        if roots[0] == PACKAGE and not name.startswith(INTERFACES):
            target = roots[1] if len(roots) > 1 else ''
            allowed = ALLOWED_LAYERS.get(layer)
            is_layer = (ROOT / target).is_dir()
            if allowed is not None and is_layer and target not in allowed:
                bad.append(f'{line}: {layer} must not import {name}')
            continue
        if layer == 'core' and roots[0] not in {'numpy', *sys.stdlib_module_names}:
            bad.append(f'{line}: core must import only numpy and the standard library, not {name}')
        if name == '<computed name>' and layer in ROS_FREE:
            bad.append(f'{line}: {layer} imports a module by a computed name')
        if _is_ros(name) and (layer in ROS_FREE or (layer != 'nodes' and top)):
            bad.append(f'{line}: {layer or "the package"} must not import {name}'
                       + ('' if layer in ROS_FREE else ' at module level'))
    return bad


def _is_ros(name: str) -> bool:
    root = name.split('.')[0]
    return (name.startswith(INTERFACES) or root.endswith(('_msgs', '_interfaces', '_srvs'))
            or root in {'rclpy', 'launch', 'launch_ros', 'tf2_ros', 'moveit', 'cv_bridge',
                        'message_filters', 'rosbag2_py', 'ament_index_python',
                        'diagnostic_updater'})


def module_name(path: Path) -> str:
    return '.'.join([PACKAGE, *path.relative_to(ROOT).with_suffix('').parts])


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    assert violations(path.read_text(encoding='utf-8'), module_name(path)) == []


@pytest.mark.parametrize('stage', STAGES)
def test_stages_exist(stage: str) -> None:
    """The rule above would hold for folders that were renamed."""
    assert any(path.parent.name == stage for path in FILES)


@pytest.mark.parametrize(('module', 'source'), [
    ('core.types', 'import torch'),
    ('core.types', 'def f():\n    import scipy.spatial'),
    ('core.types', 'from fourdgen_ros.sim import cell'),
    ('generator.tiny', 'from fourdgen_ros.tracker.base import Tracker'),
    ('generator.tiny', 'from fourdgen_ros import motion'),
    ('generator.tiny', 'from ..tracker import base'),
    ('generator.tiny', 'from .. import tracker'),
    ('data.masks', 'from fourdgen_ros.tracker.gripper_model import load_gripper'),
    ('data.bags', 'def f():\n    import rosbag2_py'),
    ('generator.__init__', 'from ..tracker import base'),
    ('tracker.embedded', 'class A:\n    def f(self):\n        import rclpy.node'),
    ('tracker.embedded', 'from sensor_msgs.msg import Image'),
    ('tracker.embedded', 'from fourdgen_ros.msg import MotionPlan'),
    ('motion.embedded', 'if True:\n    try:\n        import fourdgen_ros.sim.cell as c\n'
                        '    except ImportError:\n        pass'),
    ('motion.embedded', 'import importlib\nx = importlib.import_module("fourdgen_ros.tracker")'),
    ('motion.embedded', 'x = lambda: __import__("rclpy")'),
    ('motion.embedded', 'from importlib import import_module\nimport_module(name)'),
    ('sim.cell', 'import rclpy'),
    ('cli.demo', 'import rclpy'),
    ('evaluation.rollout', 'from std_msgs.msg import Header'),
    ('tracker.base', 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rclpy'),
    ('version', 'import rclpy'),
])
def test_rule_sees(module: str, source: str) -> None:
    assert violations(source, f'{PACKAGE}.{module}')


@pytest.mark.parametrize(('module', 'source'), [
    ('core.types', 'import dataclasses\nimport numpy as np\nfrom .errors import InputError'),
    ('generator.tiny', 'import torch\nfrom fourdgen_ros.core import types\nfrom .base import X'),
    ('sim.cell', 'import mujoco\nimport mink'),
    ('nodes.cell', 'import rclpy\nfrom fourdgen_ros.sim.cell import Cell'),
    ('cli.demo', 'def run(args):\n    import rclpy\n    from fourdgen_ros.srv import ResetCell'),
    ('tracker.embedded', 'from fourdgen_ros import __version__'),
])
def test_rule_allows(module: str, source: str) -> None:
    assert violations(source, f'{PACKAGE}.{module}') == []
