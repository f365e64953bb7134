# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdgen_ros.evaluation.statistics import by_frame, paired, summary, wilson


# Values by R's prop.test(x, n, correct = FALSE) and by published tables.
@pytest.mark.parametrize(('successes', 'n', 'low', 'high'), [
    (22, 30, 0.5555, 0.8582), (16, 30, 0.3614, 0.6977), (58, 90, 0.5414, 0.7355),
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 50, 0.9287, 1.0), (48, 50, 0.8654, 0.9890),
])
def test_wilson_known(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1.5e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_properties(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1.0 - high, 1.0 - low))
    narrow_low, narrow_high = wilson(4 * successes, 4 * n)
    assert narrow_high - narrow_low < high - low


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(('successes', 'n'), [(-1, 3), (4, 3), (1, 0)])
def test_wilson_rejects(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match='successes'):
        wilson(successes, n)


def trials(both: int, ours: int, theirs: int, neither: int) -> tuple[list[bool], list[bool]]:
    return ([True] * (both + ours) + [False] * (theirs + neither),
            [True] * both + [False] * ours + [True] * theirs + [False] * neither)


def test_paired_known() -> None:
    """P by hand: 2 (1 + 14 + 91) / 2^14."""
    result = paired(*trials(36, 12, 2, 0))
    assert (result.n, result.difference) == (50, pytest.approx(0.2))
    assert result.p == pytest.approx(212 / 2**14)
    assert 0.0 < result.interval[0] < 0.2 < result.interval[1] < 0.4


def test_methods_that_differ_nowhere_are_equal() -> None:
    result = paired(*trials(8, 0, 0, 2))
    assert (result.difference, result.p) == (0.0, 1.0)
    assert result.interval[0] < 0.0 < result.interval[1]


counts = st.integers(0, 30)


@given(counts, counts, counts, counts)
def test_paired_properties(both: int, ours: int, theirs: int, neither: int) -> None:
    if both + ours + theirs + neither == 0:
        return
    a, b = trials(both, ours, theirs, neither)
    forth, back = paired(a, b), paired(b, a)
    low, high = forth.interval
    assert -1.0 - 1e-9 <= low <= forth.difference <= high <= 1.0 + 1e-9
    assert back.interval == pytest.approx((-high, -low))
    assert 0.0 <= forth.p == back.p <= 1.0


@pytest.mark.parametrize(('first', 'second'), [([], []), ([True], [True, False])])
def test_paired_rejects(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match='trials'):
        paired(first, second)


def test_summary_ignores_what_is_not_finite() -> None:
    assert summary([1.0, 3.0, math.nan, math.inf, 2.0], 50, 95) == {
        'n': 3, 'p50': 2.0, 'p95': pytest.approx(2.9)}
    assert summary([math.nan], 50) == {'n': 0}


def test_futures_of_different_lengths_are_summarised_frame_by_frame() -> None:
    assert by_frame([[1.0, 10.0, 5.0], [3.0, 20.0]], 50, 100) == [[2.0, 15.0, 5.0],
                                                                  [3.0, 20.0, 5.0]]
    assert by_frame([], 50, 90) == [[], []]
