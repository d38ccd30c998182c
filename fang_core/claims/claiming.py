"""Decides what a pool's next claim asks for: where it starts, how many tasks, and which task types first.

It is pure: no I/O. Both modes send the claim, and report the answer.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from threading import Lock
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, Lane, LaneClaim, LaneRequest
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims.cursor import Cursor
from fang_core.claims.idle import Poll
from fang_core.claims.lanes import Lanes
from fang_core.claims.quarantine import Quarantine
from fang_core.claims.serving import Serving
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.config import SleepParams
from fang_core.record import PRIORITIES


class Claims:
    """Plans the claims of one pool, one after the other. Times are seconds of one monotonic clock.

    Args:
        make_poll: see ``Lanes``.
        retries_first: whether claims bring tasks first that have failed or crashed.
    """

    def __init__(
        self,
        task_types: tuple[str, ...],
        mono: float,
        make_poll: Callable[[], Poll] = partial(Poll, SleepParams()),  # noqa: B008 - frozen
        *,
        retries_first: bool = False,
    ) -> None:
        self._retries_first = retries_first
        self.serving = Serving(task_types)
        self.lanes = Lanes(make_poll)
        self.quarantine = Quarantine()
        self._cursor = Cursor(mono)
        # The reports since the last claim. While all workers are busy that may be long ago, with thousands a second.
        self._told: dict[Lane, datetime | None] = {}
        self._telling = Lock()
        self._looked_twice = False

    def tell(self, late: LateRows) -> None:
        """Notes due rows that the cursor may have passed; may be called on any thread."""
        if late == ANYWHERE:
            self.lanes.tell(None)
        elif late.task_type in self.lanes:
            self.lanes.tell(late.task_type)
            return
        lane, at = (late.task_type, late.priority), late.at
        if at is not None and (late.task_type not in self.serving.served or late.priority not in PRIORITIES):
            return  # any session can notify, with any text
        with self._telling:
            if lane in self._told:
                first = self._told[lane]
                at = None if at is None or first is None else min(at, first)
            self._told[lane] = at

    def forget(self) -> None:
        """Makes the next claim read everything: rows that were passed may be wanted now, or an answer was lost."""
        self._cursor.forget()
        self.lanes.tell(None)

    def look_again(self) -> None:
        """Notes that tasks may have been inserted: the looks at types that had none are out of date."""
        self.lanes.look_again()
        self.serving.look_again()

    def rejoined(self) -> None:
        """Notes that the pool has another id now, and holds no suspect that has not begun."""
        self.quarantine = Quarantine()

    def looked(self, found: Mapping[str, bool] | None, *, began: float, ended: float) -> None:
        """Notes which types have tasks; see ``Serving``. Types that were not asked for are read from their start."""
        kept = self.serving.looked(found, began=began, ended=ended)
        self._cursor.keep(kept)
        if found is not None:
            self.lanes.looked(found)

    def request(
        self,
        pool_id: UUID,
        kinds: tuple[str, ...],
        wanted: int,
        *,
        next_group_size: int,
        isolated_kinds: tuple[str, ...] = (),
        is_idle: bool,
        has_locked: bool,
        whole: bool,
        mono: float,
    ) -> ClaimRequest:
        """Returns the claim to make now.

        Args:
            wanted: how many tasks the pool wants; the claim asks for fewer if it may bring suspects.
            next_group_size: the size of the pool's group of suspects with one more.
            isolated_kinds: the kinds whose suspects the pool runs in child processes.
            is_idle: whether the pool holds no task, so that a suspect that must be alone may begin at once.
            has_locked: whether another session has locked rows that the pool holds, so that no suspect can be alone.
            whole: whether the claim must miss no due task.
        """
        if self._told:
            with self._telling:
                told, self._told = self._told, {}
            for (task_type, priority), at in told.items():
                self._cursor.told_of(LateRows(task_type, priority, at))
        size = self.quarantine.group_size(next_group_size, is_idle=is_idle, has_locked=has_locked, mono=mono)
        after = self._cursor.start(mono, whole=whole, group_size=size)
        limit = self.quarantine.limit(wanted) if size < NO_SUSPECTS else wanted
        looks_back = self._cursor.looks_back
        how = (looks_back, size, isolated_kinds, self._retries_first)
        return ClaimRequest(pool_id, self.serving.next, kinds, limit, after, *how)

    def claimed(self, request: ClaimRequest, claim: Claim, *, began: float, ended: float) -> None:
        """Notes the answer to a claim, and when the claim was made and answered."""
        self._cursor.claimed(request, claim, seconds=ended - began, mono=ended)
        self.quarantine.claimed(request)
        self.serving.claimed(request, claim, ended)
        if claim.managed:
            self._manage(claim.managed)
        if claim.tasks:
            self._looked_twice = False

    def _manage(self, managed: tuple[str, ...]) -> None:
        self.lanes.add(managed)
        self.serving.leave_out(self.lanes)
        # Once such a type is no longer managed, tasks that waited meanwhile are behind every place.
        self._cursor.keep(self.serving.served.difference(self.lanes))

    def lane_request(
        self,
        pool_id: UUID,
        task_type: str,
        kinds: tuple[str, ...],
        wanted: int,
        *,
        next_group_size: int,
        isolated_kinds: tuple[str, ...] = (),
        is_idle: bool,
        has_locked: bool,
        mono: float,
    ) -> LaneRequest:
        """Returns the claim from a managed type to make now; the arguments are those of ``request``."""
        size = self.quarantine.group_size(next_group_size, is_idle=is_idle, has_locked=has_locked, mono=mono)
        limit = self.quarantine.limit(wanted) if size < NO_SUSPECTS else wanted
        return LaneRequest(
            pool_id,
            task_type,
            kinds,
            limit,
            self.lanes.after_lane(task_type),
            self.lanes.most_lanes(task_type, limit),
            quantum=self.lanes.quantum(task_type),
            group_size=size,
            isolated_kinds=isolated_kinds,
            looks_closely=self.lanes.looks_closely(task_type),
        )

    def claimed_lanes(self, request: LaneRequest, claim: LaneClaim, *, began: float, ended: float) -> bool:
        """Notes the answer to a claim from a managed type. Returns whether nothing was left; see ``Lanes.claimed``."""
        self.quarantine.claimed(request)
        if not claim.is_managed:
            self.lanes.remove(request.task_type)
            self.serving.leave_out(self.lanes)
            return True
        return self.lanes.claimed(request, claim, seconds=ended - began, mono=ended)

    def again_at_once(self) -> bool:
        """Returns whether to claim again at once after an empty claim, since the next one looks back.

        It returns True only once in a row: while other transactions come and go, every next claim would look back.
        """
        self._looked_twice = self._cursor.is_behind and not self._looked_twice
        return self._looked_twice
