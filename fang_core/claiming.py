"""What a pool's next claim asks for: where it starts, how many, of which task types first. Pure.

One for a pool; both modes send what it asks for, and tell it what came back.
"""

from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from uuid import UUID

from fang_core.caution import Caution
from fang_core.cursor import Cursor
from fang_core.record import PRIORITIES
from fang_core.serving import Serving
from fang_core.store import Behind, Claim, ClaimRequest, Level


class Claims:
    """One claim after the other. Times are seconds of one monotonic clock."""

    def __init__(self, task_types: tuple[str, ...], mono: float) -> None:
        self.serving = Serving(task_types)
        self.caution = Caution()
        self._cursor = Cursor(mono)
        # What was told since the last claim; while all workers are busy, that may be long ago, and thousands a second.
        self._told: dict[Level, datetime | None] = {}
        self._telling = Lock()
        self._looked_twice = False

    def tell(self, behind: Behind) -> None:
        """Rows are due that the cursor may have passed; may be called on any thread."""
        level, at = (behind.task_type, behind.priority), behind.at
        if at is not None and (behind.task_type not in self.serving.served or behind.priority not in PRIORITIES):
            return  # anybody can notify
        with self._telling:
            if level in self._told:
                first = self._told[level]
                at = None if at is None or first is None else min(at, first)
            self._told[level] = at

    def forget(self) -> None:
        """The next one reads everything: what was passed may be wanted now, or nobody knows what was claimed."""
        self._cursor.forget()

    def looked(self, found: Mapping[str, bool] | None, *, began: float, ended: float) -> None:
        """Which task types have tasks; see ``Serving``. Types that were not asked for are read from their start."""
        kept = self.serving.looked(found, began=began, ended=ended)
        self._cursor.keep(kept)

    def request(
        self,
        pool_id: UUID,
        kinds: tuple[str, ...],
        wanted: int,
        *,
        is_idle: bool,
        has_apart: bool,
        whole: bool,
        mono: float,
    ) -> ClaimRequest:
        """What to claim now.

        Args:
            wanted: tasks; fewer are asked for where suspects are about.
            is_idle: whether the pool holds nothing, and so may run a suspect at once.
            has_apart: whether it holds what others have locked, beside which no suspect can begin.
            whole: whether nothing that is due may be missed.
        """
        if self._told:
            with self._telling:
                told, self._told = self._told, {}
            for (task_type, priority), at in told.items():
                self._cursor.behind(Behind(task_type, priority, at))
        suspects = self.caution.allows(is_idle=is_idle, has_apart=has_apart, mono=mono)
        after = self._cursor.start(mono, whole=whole, suspects=suspects)
        limit = self.caution.limit(wanted) if suspects else wanted
        return ClaimRequest(pool_id, self.serving.next, kinds, limit, after, self._cursor.looks_back, suspects)

    def claimed(self, request: ClaimRequest, claim: Claim, *, began: float, ended: float) -> None:
        """What came back, and when the claim was made and answered."""
        self._cursor.claimed(request, claim, seconds=ended - began, mono=ended)
        self.caution.claimed(request, claim, mono=ended)
        self.serving.claimed(request, claim, ended)
        if claim.tasks:
            self._looked_twice = False

    def again_at_once(self) -> bool:
        """Whether a claim that brought nothing says little, since the next one looks back; once.

        Where other transactions come and go it is so for ever.
        """
        self._looked_twice = self._cursor.is_behind and not self._looked_twice
        return self._looked_twice
