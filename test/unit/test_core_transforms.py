# SPDX-License-Identifier: Apache-2.0
"""The transform tree: walking, interpolation, and errors that name the missing link."""

from __future__ import annotations

import numpy as np
import pytest

from fourdgen_ros.core import se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.transforms import TransformError, TransformTree

S = 1_000_000_000


def moved(x: float, yaw: float = 0.0) -> np.ndarray:
    return se3.make(se3.exp_so3(np.array([0.0, 0.0, yaw])), np.array([x, 0.0, 0.0]))


@pytest.fixture
def tree() -> TransformTree:
    tree = TransformTree(cache_s=5.0)
    tree.set('base', 'camera', moved(1.0, 0.5), 0, static=True)
    for second in range(3):
        tree.set('base', 'hand', moved(0.1 * second, 0.2 * second), second * S)
    tree.set('hand', 'tcp', moved(0.0), 0, static=True)
    return tree


def test_a_chain_is_walked_over_the_common_ancestor(tree):
    expected = se3.inverse(moved(1.0, 0.5)) @ moved(0.2, 0.4)
    np.testing.assert_allclose(tree.lookup('camera', 'tcp'), expected, atol=1e-12)
    np.testing.assert_allclose(tree.lookup('tcp', 'camera'), se3.inverse(expected), atol=1e-12)
    np.testing.assert_array_equal(tree.lookup('hand', 'hand'), np.eye(4))


def test_poses_are_interpolated_between_stamps(tree):
    np.testing.assert_allclose(tree.lookup('base', 'hand', S // 2), moved(0.05, 0.1), atol=1e-12)


@pytest.mark.parametrize('stamp', [-1, 2 * S + 1])
def test_extrapolation_is_an_error(tree, stamp):
    with pytest.raises(TransformError, match=r'base -> hand .* 0.000 s (before|after)'):
        tree.lookup('base', 'tcp', stamp)


def test_static_frames_hold_at_every_time_and_the_last_one_wins(tree):
    np.testing.assert_array_equal(tree.lookup('base', 'camera', 99 * S), moved(1.0, 0.5))
    tree.set('base', 'camera', moved(2.0), 0, static=True)
    np.testing.assert_array_equal(tree.lookup('base', 'camera', 99 * S), moved(2.0))


def test_a_stale_link_is_named(tree):
    tree.lookup('base', 'tcp', max_age_s=1.0, now_ns=3 * S)
    with pytest.raises(TransformError, match=r'base -> hand is stale.*got 1.50 s'):
        tree.lookup('base', 'tcp', max_age_s=1.0, now_ns=3 * S + S // 2)
    tree.lookup('base', 'tcp', max_age_s=1.0, now_ns=S)
    with pytest.raises(TransformError, match=r'base -> hand is ahead of the clock.*got 1.50 s'):
        tree.lookup('base', 'tcp', max_age_s=1.0, now_ns=S // 2)
    tree.lookup('base', 'camera', max_age_s=1.0, now_ns=99 * S)
    with pytest.raises(InputError, match='now_ns'):
        tree.lookup('base', 'tcp', max_age_s=1.0)


def test_a_link_that_was_silent_meanwhile_is_named(tree):
    tree.lookup('base', 'tcp', S // 2, max_gap_s=1.0)
    tree.lookup('base', 'tcp', S, max_gap_s=0.1)  # there is a sample
    tree.lookup('base', 'camera', S // 2, max_gap_s=0.1)  # static
    with pytest.raises(TransformError, match=r'base -> hand was silent.*0.9 s.*got 1.00 s'):
        tree.lookup('base', 'tcp', S // 2, max_gap_s=0.9)


def test_an_unknown_frame_is_named_with_the_known_ones(tree):
    with pytest.raises(TransformError, match=r"'cam2' is unknown; got frames base, camera.*static"):
        tree.lookup('base', 'cam2')


def test_two_trees_name_the_missing_link(tree):
    tree.set('cam2_link', 'cam2', moved(0.0), 0, static=True)
    with pytest.raises(TransformError, match='Missing link: base -> cam2_link'):
        tree.lookup('hand', 'cam2')


def test_a_loop_is_an_error(tree):
    tree.set('tcp', 'base', moved(0.0), 0, static=True)
    with pytest.raises(TransformError, match='loop'):
        tree.lookup('base', 'tcp')


def test_history_is_bounded(tree):
    for second in range(3, 20):
        tree.set('base', 'hand', moved(0.0), second * S)
    with pytest.raises(TransformError, match='before its first sample.*raise .*`history`'):
        tree.lookup('base', 'hand', 13 * S)
    tree.lookup('base', 'hand', 14 * S)


def test_a_clock_that_jumps_back_restarts_the_history(tree):
    tree.set('base', 'hand', moved(7.0), 100 * S)
    tree.set('base', 'hand', moved(8.0), 1 * S)
    np.testing.assert_array_equal(tree.lookup('base', 'hand'), moved(8.0))


def test_a_clock_that_is_set_back_by_less_than_the_history_restarts_it(tree):
    tree.set('base', 'hand', moved(7.0), S // 2)
    tree.lookup('base', 'hand', S // 2)
    with pytest.raises(TransformError, match='after its last'):
        tree.lookup('base', 'hand', S)
    tree.set('base', 'hand', moved(7.0), 10 * S)
    tree.set('base', 'hand', moved(8.0), 9 * S + S // 2)
    np.testing.assert_array_equal(tree.lookup('base', 'hand'), moved(7.0))  # overtaken


def test_moving_links_can_be_forgotten(tree):
    tree.forget_moving()
    with pytest.raises(TransformError, match="'tcp' .*'hand'"):
        tree.lookup('base', 'tcp')
    np.testing.assert_array_equal(tree.lookup('base', 'camera'), moved(1.0, 0.5))


@pytest.mark.parametrize(('parent', 'child', 'T'), [
    ('a', 'a', np.eye(4)), ('', 'a', np.eye(4)), ('a', 'b', np.full((4, 4), np.nan)),
    ('a', 'b', np.zeros((4, 4)))])
def test_nonsense_is_refused(parent, child, T):
    with pytest.raises(InputError, match='transform'):
        TransformTree().set(parent, child, T, 0)
