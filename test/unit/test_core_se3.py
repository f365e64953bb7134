# SPDX-License-Identifier: Apache-2.0
"""SE(3): identities that must hold for every transform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourdgen_ros.core import se3

coordinate = st.floats(-3.0, 3.0, allow_subnormal=False)
twists = hnp.arrays(float, 6, elements=coordinate).filter(
    lambda w: np.linalg.norm(w[3:]) < np.pi - 1e-3)
transforms = twists.map(se3.exp)


@given(twists)
def test_log_inverts_exp(twist):
    np.testing.assert_allclose(se3.log(se3.exp(twist)), twist, atol=1e-9)


@given(transforms)
def test_exp_is_rigid_and_inverse_inverts(T):
    assert se3.is_rigid(T, 1e-9)
    np.testing.assert_allclose(se3.inverse(T) @ T, np.eye(4), atol=1e-12)


@given(st.lists(transforms, min_size=1, max_size=3).map(np.stack))
def test_make_takes_one_or_many(T):
    np.testing.assert_array_equal(se3.make(T[:, :3, :3], T[:, :3, 3]), T)
    np.testing.assert_array_equal(se3.make(T[0, :3, :3], T[0, :3, 3]), T[0])
    shifted = se3.make(translation=T[:, :3, 3])
    np.testing.assert_array_equal(shifted[:, :3, :3], np.broadcast_to(np.eye(3), (len(T), 3, 3)))
    np.testing.assert_array_equal(shifted[:, :3, 3], T[:, :3, 3])
    np.testing.assert_array_equal(se3.make(), np.eye(4))


@given(transforms)
def test_quaternions_round_trip(T):
    q = se3.quaternion_from_matrix(T[:3, :3])
    assert np.linalg.norm(q) == pytest.approx(1.0)
    assert q[3] >= 0
    np.testing.assert_allclose(se3.matrix_from_quaternion(q), T[:3, :3], atol=1e-12)
    np.testing.assert_allclose(se3.matrix_from_quaternion(-q), T[:3, :3], atol=1e-12)


@pytest.mark.parametrize('axis', np.eye(3))
def test_half_turns_survive(axis):
    R = se3.exp_so3(np.pi * axis)
    assert np.linalg.norm(se3.log_so3(R)) == pytest.approx(np.pi)
    np.testing.assert_allclose(se3.exp_so3(se3.log_so3(R)), R, atol=1e-9)


def test_quaternion_order_is_x_y_z_w():
    quarter = se3.exp_so3(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(se3.quaternion_from_matrix(quarter),
                               [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])


@pytest.mark.parametrize('q', [np.zeros(4), np.array([0.0, 0.0, 0.0, 1.1])])
def test_a_quaternion_that_is_not_unit_is_refused(q):
    with pytest.raises(ValueError, match='norm'):
        se3.matrix_from_quaternion(q)


@given(transforms, transforms)
def test_interpolation_meets_its_ends_and_goes_evenly(T0, T1):
    np.testing.assert_allclose(se3.interpolate(T0, T1, 0.0), T0, atol=1e-9)
    if se3.distance(T0, T1)[1] < np.pi - 1e-3:
        np.testing.assert_allclose(se3.interpolate(T0, T1, 1.0), T1, atol=1e-9)
        whole, half = (se3.distance(T0, T1), se3.distance(T0, se3.interpolate(T0, T1, 0.5)))
        np.testing.assert_allclose(half, np.array(whole) / 2, atol=1e-7)


@given(transforms, hnp.arrays(np.float32, (2, 3, 3), elements=st.floats(-2, 2, width=32)))
def test_apply_maps_points_and_keeps_their_type(T, points):
    mapped = se3.apply(T, points)
    assert mapped.dtype == np.float32
    expected = points.astype(float) @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


@pytest.mark.parametrize('T', [
    np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, -1.0, 1.0]), np.diag([2.0, 1, 1, 1]),
    np.diag([1.0, 1.0, 1.0, 2.0])])
def test_what_is_not_rigid_is_told(T):
    assert not se3.is_rigid(T)
