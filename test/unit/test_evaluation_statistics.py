# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourdgen_ros.evaluation.statistics import summary, wilson


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


def test_summary_ignores_what_is_not_finite() -> None:
    assert summary([1.0, 3.0, math.nan, math.inf, 2.0], 50, 95) == {
        'n': 3, 'p50': 2.0, 'p95': pytest.approx(2.9)}
    assert summary([math.nan], 50) == {'n': 0}
