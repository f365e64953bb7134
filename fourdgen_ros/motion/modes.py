# SPDX-License-Identifier: Apache-2.0
"""Who may execute a plan: execution modes, and the ledger of plans that may still be started.

No clock is read here: callers pass `now_ns` of a steady clock, the one in which plans expire.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from fourdgen_ros.core.errors import ExecutionError
from fourdgen_ros.core.types import MotionPlan


class ExecutionMode(StrEnum):
    """Who decides that a plan moves the robot.

    `dry_run`: nobody, plans are only shown. `confirm`: a person, who names the plan's id. `auto`:
    the checks.
    """

    DRY_RUN = 'dry_run'
    CONFIRM = 'confirm'
    AUTO = 'auto'


class Refusal(StrEnum):
    """Why the ledger does not hand out a plan."""

    UNKNOWN = 'unknown'
    EXPIRED = 'expired'
    TAKEN = 'taken'
    NOT_CONFIRMED = 'not_confirmed'
    DRY_RUN = 'dry_run'


class LedgerError(ExecutionError):
    """A plan may not be executed; `refusal` says why."""

    def __init__(self, refusal: Refusal, plan_id: str, *, expected: str, got: str,
                 hint: str) -> None:
        super().__init__(f'plan {plan_id!r}', expected=expected, got=got, hint=hint)
        self.refusal = refusal


@dataclass
class _Entry:
    plan: MotionPlan
    confirmed: bool = False
    taken: bool = False


class PlanLedger:
    """Plans that were made, each of which can be taken for execution once and until it expires.

    A new plan supersedes all before it: they start from where the robot was. Thread safe. Ids of
    the last `remembered` plans are kept, so that a late request is told what became of its plan.
    """

    def __init__(self, mode: ExecutionMode, *, remembered: int = 100) -> None:
        self.mode = ExecutionMode(mode)
        self._remembered = remembered
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._current: str | None = None
        self._lock = threading.Lock()

    def register(self, plan: MotionPlan) -> None:
        """Enter a plan; it is now the only one that can be confirmed and taken."""
        with self._lock:
            self._entries[plan.plan_id] = _Entry(plan)
            self._current = plan.plan_id
            while len(self._entries) > self._remembered:
                self._entries.popitem(last=False)

    def void(self) -> None:
        """Forget all plans: none of them can be confirmed or taken any more."""
        with self._lock:
            self._entries.clear()
            self._current = None

    def confirm(self, plan_id: str, now_ns: int) -> None:
        """Allow exactly this plan until it expires. Raises LedgerError."""
        with self._lock:
            self._valid(plan_id, now_ns).confirmed = True

    def take(self, plan_id: str, now_ns: int) -> MotionPlan:
        """Hand out a plan for execution, once. Raises LedgerError."""
        with self._lock:
            entry = self._valid(plan_id, now_ns)
            if self.mode is ExecutionMode.DRY_RUN:
                raise LedgerError(Refusal.DRY_RUN, plan_id, expected='mode confirm or auto',
                                  got='mode dry_run', hint='Set execution_mode to move the robot.')
            if self.mode is ExecutionMode.CONFIRM and not entry.confirmed:
                raise LedgerError(Refusal.NOT_CONFIRMED, plan_id, expected='a confirmation',
                                  got='none', hint='Call confirm_plan with this plan id.')
            entry.taken = True
            return entry.plan

    def _valid(self, plan_id: str, now_ns: int) -> _Entry:
        entry = self._entries.get(plan_id)
        if entry is None:
            raise LedgerError(Refusal.UNKNOWN, plan_id, expected='the id of a plan made here',
                              got='an unknown id, or one from before a fault or a deactivation',
                              hint='Plan first.')
        if entry.taken:
            raise LedgerError(Refusal.TAKEN, plan_id, expected='a plan not yet executed',
                              got='one that was handed out before', hint='Plan again.')
        if plan_id != self._current:
            raise LedgerError(Refusal.EXPIRED, plan_id, expected='the newest plan',
                              got='one that a newer plan supersedes',
                              hint=f'The newest is {self._current!r}.')
        if not now_ns < entry.plan.expiry:
            raise LedgerError(Refusal.EXPIRED, plan_id, expected='a plan that has not expired',
                              got=f'one {(now_ns - entry.plan.expiry) * 1e-9:.1f} s past expiry',
                              hint='Plan again.')
        return entry
