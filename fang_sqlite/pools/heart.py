"""Beats for a pool, and rescues the tasks of dead ones, on the heart's own thread, which may block, in both modes.

What changes with each beat is in a file of the pool's (``pulse``). What is in the database changes rarely: it is
written if that is possible at once, and otherwise with a later beat, so that no pool seems dead while another
connection writes.
"""

import json
from collections.abc import Sequence
from math import inf
from typing import Final
from uuid import UUID

from fang_core.backends.pools import Rescued
from fang_core.errors import RowsLocked
from fang_core.liveness import MOST_MESSAGES, Beat, BeatRequest, CancelRequest, Pulse
from fang_core.messages import Delivery
from fang_sqlite.connections.file import File
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools import pulse, rescuing
from fang_sqlite.pools.pulse import PulseFile
from fang_sqlite.records import object_of
from fang_sqlite.schema import POOL_ID

WRITES_WITHIN: Final = 0.2
"""Seconds for which a beat or a rescue waits for others who write: the next beat tries again."""

POOLS: Final = f"SELECT id, lease FROM fang_pools WHERE {POOL_ID}"
RECORD: Final = "SELECT stopping, workers FROM fang_pools WHERE id = ?"
HELD: Final = "SELECT id, attempt, cancel_request FROM fang_tasks WHERE pool_id = ? AND state = 'in_progress'"
MESSAGES: Final = f"""SELECT id, kind, body, sender FROM fang_messages
  WHERE pool_id = ? ORDER BY id LIMIT {MOST_MESSAGES}"""
SAY: Final = "UPDATE fang_pools SET stopping = ?, workers = ?, runs = coalesce(?, runs) WHERE id = ?"
HANDLED: Final = "DELETE FROM fang_messages WHERE pool_id = ? AND id IN (SELECT value FROM json_each(?))"


class SqliteHeart:
    """Implements ``Heart``.

    Args:
        locks: whether it holds the lock that shows the death of its process at once.
    """

    def __init__(self, file: File, *, locks: bool) -> None:
        self._file = file
        self._locks = locks
        self._pulse: PulseFile | None = None
        self._unsaid: tuple[UUID, str] | None = None  # the pool's report on its runs, until it is written

    async def beat(self, request: BeatRequest, /) -> Beat:
        """See ``Heart.beat``."""
        with self._file.reading() as tx:
            pools = tx.rows(POOLS)
            record = tx.row(RECORD, (request.pool_id.bytes,))
            lost, cancels = _lost_or_cancelled(tx, request)
            messages = _messages(tx, request.pool_id)
        if record is not None:
            self._say(request, record, messages)
            if self._raise_counter(request.pool_id):
                self._remove_if_ended(request.pool_id)
        return Beat(
            record is not None,
            inf,  # the kernel frees a lock only if its process dies, or lets go of it
            [self._pulse_of(UUID(bytes=pool_id), lease) for pool_id, lease in pools],
            True,
            lost,
            cancels,
            [message for message in messages if message.id not in request.handled],
        )

    async def rescue(self, dead: Sequence[Pulse], /) -> list[Rescued]:
        """See ``Heart.rescue``."""
        with self._file.writing(WRITES_WITHIN, durable=False) as tx:
            rescued, removed = rescuing.rescue(tx, dead, self._count)
        for pool_id in removed:
            self._file.forget(pool_id)
        return rescued

    async def rescue_orphans(self, max_crashes: int, /) -> list[Rescued]:
        """See ``Heart.rescue_orphans``; it also removes the files of pools that have ended."""
        left = set(pulse.pools_in(self._file.directory))  # before the records: a pool has one before it has a file
        with self._file.reading() as tx:
            is_any_orphaned = bool(tx.rows(rescuing.ORPHANED) or tx.rows(rescuing.SPOILT))
            left -= {UUID(bytes=pool_id) for pool_id, _ in tx.rows(POOLS)}
        for pool_id in left:
            if not pulse.look(self._file.directory, pool_id).is_locked:
                self._file.forget(pool_id)
        if not is_any_orphaned:
            return []
        with self._file.writing(WRITES_WITHIN, durable=False) as tx:
            return rescuing.rescue_orphans(tx, max_crashes)

    async def close(self) -> None:
        """See ``Heart.close``."""
        if self._pulse is not None:
            self._pulse.close()

    def _say(self, request: BeatRequest, record: tuple[int, int], messages: Sequence[Delivery]) -> None:
        """Writes what the pool says into its record, and removes the messages that it has handled, if they differ.

        If another connection is writing, that is left to a later beat.
        """
        pool_id = request.pool_id
        if request.runs is not None:
            self._unsaid = (pool_id, request.runs)
        runs = self._unsaid[1] if self._unsaid is not None and self._unsaid[0] == pool_id else None
        said = (int(request.stopping), record[1] if request.workers is None else request.workers)
        handled = [message.id for message in messages if message.id in request.handled]
        if said == record and runs is None and not handled:
            return
        try:
            with self._file.writing(WRITES_WITHIN, durable=False) as tx:
                tx.run(SAY, (*said, runs, pool_id.bytes))
                tx.run(HANDLED, (pool_id.bytes, json.dumps(handled)))
        except RowsLocked:
            return
        self._unsaid = None

    def _raise_counter(self, pool_id: UUID) -> bool:
        """Returns whether that has made the file of the pool."""
        if self._pulse is None or self._pulse.pool_id != pool_id:
            if self._pulse is not None:
                self._pulse.close()
            self._pulse = PulseFile(self._file.directory, pool_id, locks=self._locks)
        with self._file.diagnosing():
            return self._pulse.beat()

    def _remove_if_ended(self, pool_id: UUID) -> None:
        """Removes the file again if the pool has been deregistered during the beat, and its file before it was made."""
        with self._file.reading() as tx:
            record = tx.row(RECORD, (pool_id.bytes,))
        if record is None:
            self._file.forget(pool_id)

    def _pulse_of(self, pool_id: UUID, lease: int) -> Pulse:
        with self._file.diagnosing():
            return Pulse(pool_id, *pulse.look(self._file.directory, pool_id), lease / 1e6)

    def _count(self, pool_id: UUID) -> int:
        return pulse.look(self._file.directory, pool_id).beats


def _messages(tx: Transaction, pool_id: UUID) -> list[Delivery]:
    return [
        Delivery(number, kind, object_of(body), sender or "")
        for number, kind, body, sender in tx.rows(MESSAGES, (pool_id.bytes,))
    ]


def _lost_or_cancelled(tx: Transaction, request: BeatRequest) -> tuple[list[UUID], list[CancelRequest]]:
    """Returns which of the tasks that the pool takes for its own are not, and which are to be cancelled."""
    if not request.held:
        return [], []
    held = {(id_, attempt): asked for id_, attempt, asked in tx.rows(HELD, (request.pool_id.bytes,))}
    lost = [task_id for task_id, attempt in request.held if (task_id.bytes, attempt) not in held]
    cancels = [
        CancelRequest(task_id, asked.get("reason") or "", asked.get("by") or "")
        for task_id, attempt in request.held
        if held.get((task_id.bytes, attempt)) is not None
        for asked in [object_of(held[task_id.bytes, attempt])]
    ]
    return lost, cancels
