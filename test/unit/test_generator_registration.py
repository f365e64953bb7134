# SPDX-License-Identifier: Apache-2.0
"""Views of one scene find each other's pose from what they measure."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fourdgen_ros.core import se3
from fourdgen_ros.generator.registration import lay, register

# a table in front of the first camera with things on it, seen by a second from the side
T_REF_SECOND = se3.exp(np.array([0.4, 0.05, 0.1, 0.05, -0.4, 0.1]))


def scene() -> trimesh.Trimesh:
    """In the frame of the first camera: a table whose far end is 1.3 m away, three boxes, and a
    wall of 5 mm of which the cameras see one side each."""
    parts = [trimesh.creation.box(extents=size, transform=se3.make(translation=np.array(place)))
             for size, place in (((1.0, 0.02, 0.8), (0.0, 0.35, 0.9)),
                                 ((0.20, 0.30, 0.12), (0.05, 0.19, 0.80)),
                                 ((0.16, 0.24, 0.30), (-0.25, 0.22, 0.95)),
                                 ((0.10, 0.40, 0.10), (0.35, 0.14, 1.15)),
                                 ((0.005, 0.30, 0.60), (0.2, 0.19, 0.9)))]
    return trimesh.util.concatenate(parts)


def seen(noise: float, seed: int, count: int = 20000) -> tuple[NDArray, NDArray]:
    """What each camera measures, (n, 3) in its own frame: what faces it; no two points are the
    same."""
    rng, both, mesh = np.random.default_rng(seed), [], scene()
    for k, eye in enumerate((np.zeros(3), T_REF_SECOND[:3, 3])):
        points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed + k)
        points = np.asarray(points)
        both.append(points[(mesh.face_normals[faces] * (eye - points)).sum(1) > 0.0])
    first, second = both
    second = se3.apply(se3.inverse(T_REF_SECOND), second)
    return tuple((p + rng.normal(0.0, noise, p.shape)).astype(np.float32) for p in (first, second))


def displacement(T: NDArray, true: NDArray) -> float:
    """Metres by which a place on the table comes to lie elsewhere."""
    place = np.array([-0.4, 0.2, 0.9])
    return float(np.linalg.norm(se3.apply(T, place) - se3.apply(true, place)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
def test_a_guess_that_is_centimetres_off_ends_within_two_millimetres(seed, error) -> None:
    off = se3.exp(np.array(error) * [0.015, 0.015, 0.015, 0.03, 0.03, 0.03])
    guess = np.stack([np.eye(4), T_REF_SECOND @ off])
    found = register(seen(0.001, seed), guess)
    np.testing.assert_array_equal(found[0], np.eye(4))
    assert se3.is_rigid(found)
    assert displacement(found[1], T_REF_SECOND) < 0.002


@pytest.mark.parametrize('seed', range(6))
def test_a_guess_that_is_a_decimetre_off_ends_within_two_millimetres(seed: int) -> None:
    """As of cameras at places that training never saw."""
    turn, shift = (v / np.linalg.norm(v)
                   for v in np.random.default_rng(seed).standard_normal((2, 3)))
    off = se3.make(se3.exp_so3(np.radians(10.0) * turn), 0.1 * shift)
    found = register(seen(0.001, seed), np.stack([np.eye(4), T_REF_SECOND @ off]))
    assert displacement(found[1], T_REF_SECOND) < 0.002


def test_a_guess_that_is_far_off_is_left_where_nearly_all_points_agree() -> None:
    """Not where what the views share is a matter of opinion."""
    first, second = seen(0.001, 0)
    guess = np.stack([np.eye(4), T_REF_SECOND @ se3.make(translation=np.array([0.0, 0.0, 0.3]))])
    assert displacement(register((first, second), guess)[1], T_REF_SECOND) < 0.002
    rng = np.random.default_rng(0)
    beside = rng.uniform([-0.5, -0.5, 0.3], [0.5, -0.2, 1.3], second.shape).astype(np.float32)
    np.testing.assert_array_equal(register((first, np.concatenate([second, beside])), guess), guess)


def test_of_two_guesses_that_where_more_points_agree_is_taken() -> None:
    first, second = seen(0.001, 0)
    hopeless = np.stack([np.eye(4), T_REF_SECOND @ se3.make(translation=np.array([0.0, 0.0, 1.5]))])
    good = np.stack([np.eye(4), T_REF_SECOND @ se3.exp(np.full(6, 0.03))])
    for guesses in ((hopeless, good), (good, hopeless)):
        found = register((first, second), *guesses)
        assert displacement(found[1], T_REF_SECOND) < 0.002
    worse = np.stack([np.eye(4), hopeless[1] @ se3.make(translation=np.array([0.1, 0.0, 0.0]))])
    np.testing.assert_array_equal(register((first, second), hopeless, worse), hopeless)


def test_every_view_is_registered_to_the_first() -> None:
    first, second = seen(0.001, 0)
    off = se3.exp(np.full(6, 0.01))
    guess = np.stack([np.eye(4), off, T_REF_SECOND @ off])
    found = register([first, first.copy(), second], guess)
    assert displacement(found[1], np.eye(4)) < 0.002
    assert displacement(found[2], T_REF_SECOND) < 0.002


def test_a_view_of_something_else_keeps_its_guess() -> None:
    first, second = seen(0.001, 0)
    guess = np.stack([np.eye(4), T_REF_SECOND @ se3.make(translation=np.array([0.0, 0.0, 1.5]))])
    np.testing.assert_array_equal(register([first, second], guess), guess)


@pytest.mark.parametrize('points', [0, 50])
def test_a_view_that_measures_next_to_nothing_keeps_its_guess(points: int) -> None:
    first, second = seen(0.001, 0)
    guess = np.stack([np.eye(4), T_REF_SECOND])
    np.testing.assert_array_equal(register([first, second[:points]], guess), guess)
    np.testing.assert_array_equal(register([first], guess[:1]), guess[:1])


def hand_and_scene(seed: int) -> tuple[NDArray, NDArray]:
    """A hand as it is drawn, (n, 3), and what the camera measures: the hand, the arm behind it and
    the table; m."""
    parts = [trimesh.creation.box(extents=size, transform=se3.make(translation=np.array(place)))
             for size, place in (((0.20, 0.07, 0.06), (0.0, 0.0, 0.7)),
                                 ((0.02, 0.06, 0.02), (-0.05, 0.065, 0.7)),
                                 ((0.02, 0.06, 0.02), (0.05, 0.065, 0.7)))]
    hand = trimesh.util.concatenate(parts)
    others = [trimesh.creation.box(extents=(0.09, 0.4, 0.09),
                                   transform=se3.make(translation=np.array([0.0, -0.235, 0.72]))),
              trimesh.creation.box(extents=(1.0, 0.02, 0.8),
                                   transform=se3.make(translation=np.array([0.0, 0.35, 0.9])))]
    seen = []
    for mesh, count, s in ((hand, 600, seed), (hand, 600, seed + 1),
                           (trimesh.util.concatenate(others), 4000, seed + 2)):
        points, faces = trimesh.sample.sample_surface(mesh, count, seed=s)
        seen.append(points[(mesh.face_normals[faces] * -points).sum(1) > 0.0].astype(np.float32))
    return seen[0], np.concatenate(seen[1:])


@pytest.mark.parametrize('seed', range(12))
def test_a_hand_that_is_drawn_centimetres_beside_is_laid_on_the_measured_one(seed: int) -> None:
    hand, measured = hand_and_scene(seed)
    middle = np.median(hand, axis=0)
    turn, shift = (v / np.linalg.norm(v)
                   for v in np.random.default_rng(seed).standard_normal((2, 3)))
    turned = se3.make(se3.exp_so3(np.radians(6.0) * turn), 0.04 * shift)
    off = se3.make(translation=middle) @ turned @ se3.make(translation=-middle)
    found = lay(se3.apply(off, hand).astype(np.float32), measured)
    assert np.linalg.norm(se3.apply(found @ off, middle) - middle) < 0.01


def test_a_hand_that_nothing_measured_is_like_stays_where_it_is_drawn() -> None:
    hand, measured = hand_and_scene(0)
    for drawn, scene in ((hand + np.float32([0.4, 0.0, 0.0]), measured), (hand[:20], measured),
                         (hand, measured[:20]), (hand, measured[:0]), (hand[:0], measured)):
        np.testing.assert_array_equal(lay(drawn, scene), np.eye(4))
