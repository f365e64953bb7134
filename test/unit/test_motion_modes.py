# SPDX-License-Identifier: Apache-2.0
"""Who may execute a plan, and what stops a motion under way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourdgen_ros.core.types import MotionPlan
from fourdgen_ros.motion.modes import ExecutionMode, LedgerError, PlanLedger, Refusal
from fourdgen_ros.motion.watchdog import Watchdog

S = 1_000_000_000


def make_plan(plan_id, expiry=10 * S):
    return MotionPlan(plan_id, (), {}, 0, expiry, 2, np.eye(4)[None])


def refusal(call, *args):
    with pytest.raises(LedgerError) as error:
        call(*args)
    return error.value.refusal


def test_auto_hands_a_plan_out_once():
    ledger, plan = PlanLedger(ExecutionMode.AUTO), make_plan('a')
    ledger.register(plan)
    assert ledger.take('a', 1) is plan
    assert refusal(ledger.take, 'a', 2) is Refusal.TAKEN


def test_dry_run_never_hands_out():
    ledger = PlanLedger(ExecutionMode.DRY_RUN)
    ledger.register(make_plan('a'))
    ledger.confirm('a', 0)
    assert refusal(ledger.take, 'a', 1) is Refusal.DRY_RUN


def test_confirm_is_bound_to_one_plan():
    ledger = PlanLedger(ExecutionMode.CONFIRM)
    ledger.register(make_plan('a'))
    assert refusal(ledger.take, 'a', 1) is Refusal.NOT_CONFIRMED
    assert refusal(ledger.confirm, 'b', 1) is Refusal.UNKNOWN
    assert refusal(ledger.take, 'a', 1) is Refusal.NOT_CONFIRMED
    ledger.confirm('a', 1)
    ledger.register(make_plan('b'))
    assert refusal(ledger.take, 'b', 2) is Refusal.NOT_CONFIRMED
    assert refusal(ledger.take, 'a', 2) is Refusal.EXPIRED, 'superseded by b'
    ledger.confirm('b', 2)
    assert ledger.take('b', 3).plan_id == 'b'


@given(late=st.integers(0, 10**12), mode=st.sampled_from(['auto', 'confirm']))
@settings(deadline=None)
def test_expired_plans_are_neither_confirmed_nor_taken(late, mode):
    ledger = PlanLedger(ExecutionMode(mode))
    ledger.register(make_plan('a'))
    ledger.confirm('a', 10 * S - 1)
    assert refusal(ledger.take, 'a', 10 * S + late) is Refusal.EXPIRED
    assert refusal(ledger.confirm, 'a', 10 * S + late) is Refusal.EXPIRED


def test_unknown_and_forgotten_plans():
    ledger = PlanLedger(ExecutionMode.AUTO, remembered=2)
    assert refusal(ledger.take, 'x', 0) is Refusal.UNKNOWN
    for plan_id in 'abc':
        ledger.register(make_plan(plan_id))
    assert refusal(ledger.take, 'a', 0) is Refusal.UNKNOWN
    assert refusal(ledger.take, 'b', 0) is Refusal.EXPIRED


def test_what_is_void_is_unknown():
    ledger = PlanLedger('confirm')
    ledger.register(make_plan('a'))
    ledger.confirm('a', 0)
    ledger.void()
    assert refusal(ledger.confirm, 'a', 0) is Refusal.UNKNOWN
    assert refusal(ledger.take, 'a', 0) is Refusal.UNKNOWN
    ledger.register(make_plan('b'))
    ledger.confirm('b', 0)
    assert ledger.take('b', 0).plan_id == 'b'


def test_modes_are_named():
    assert PlanLedger('dry_run').mode is ExecutionMode.DRY_RUN
    with pytest.raises(ValueError, match='sometimes'):
        PlanLedger('sometimes')


def test_watchdog_finds_silence_and_latches():
    dog = Watchdog(0.2, 0.5)
    dog.heartbeat(0)
    dog.arm(0)
    dog.joint_states(S)
    dog.heartbeat(S)
    assert dog.check(S + S // 10) is None
    assert 'joint states' in dog.check(S + 3 * S // 10)
    dog.joint_states(2 * S)
    dog.heartbeat(2 * S)
    assert 'joint states' in dog.check(2 * S), 'a fault stays when the data come back'
    assert 'joint states' in dog.reset()
    assert dog.fault is None


def test_watchdog_finds_a_lost_heartbeat():
    dog = Watchdog(0.2, 0.5)
    dog.heartbeat(0)
    dog.arm(0)
    for k in range(1, 10):
        dog.joint_states(k * S // 10)
    assert 'heartbeat' in dog.check(9 * S // 10)


def test_watchdog_finds_a_source_that_never_spoke():
    dog = Watchdog(0.2)
    dog.arm(5 * S)
    assert dog.check(5 * S + S // 10) is None
    assert 'joint states' in dog.check(6 * S)


def test_to_arm_the_watchdog_is_no_heartbeat():
    dog = Watchdog(0.2, 0.5)
    assert not dog.heartbeat_heard(0)
    dog.arm(0)
    assert 'no heartbeat' in dog.check(0)
    dog = Watchdog(0.2, 0.5)
    dog.heartbeat(0)
    assert dog.heartbeat_heard(S // 2)
    assert not dog.heartbeat_heard(6 * S // 10)
    dog.arm(6 * S // 10)
    assert dog.check(6 * S // 10) == 'no heartbeat for 0.60 s (limit 0.50 s)'


def test_a_heartbeat_is_asked_for_only_where_one_is_expected():
    dog = Watchdog(0.2)
    assert dog.heartbeat_heard(S)
    dog.arm(S)
    assert dog.check(S) is None


def test_watchdog_sleeps_when_disarmed():
    dog = Watchdog(0.2)
    assert dog.check(100 * S) is None
    dog.arm(100 * S)
    dog.disarm()
    assert dog.check(200 * S) is None


def test_stop_latches_even_when_disarmed_and_keeps_every_reason():
    dog = Watchdog(0.2)
    dog.stop('operator')
    dog.stop('operator')
    assert dog.check(0) == dog.fault == 'operator'
    dog.stop('controller')
    dog.arm(0)
    assert dog.check(0) == 'operator; controller'
    assert dog.reset() == 'operator; controller'


def test_a_reset_does_not_disarm_a_motion_that_begins_meanwhile():
    dog = Watchdog(0.2)
    dog.arm(0)
    dog.reset()
    assert 'joint states' in dog.check(S)
