"""Implements the verbs that read and write whole tasks, for moves from one queue to another."""

from collections.abc import Sequence
from uuid import UUID

from fang_core.backends.conflicts import Period
from fang_core.backends.rows import is_as_read
from fang_core.backends.verbs import Parcel
from fang_core.errors import BackendError, BackendUnavailable
from fang_core.record import Task
from fang_redis.connections.sending import NO_TASK, Sending, Write, later
from fang_redis.operations import Argument, Verb
from fang_redis.records import microseconds, time_of

_FOR_EVER = "inf"


class Moving:
    """See ``fang_core.backends.moving.MovingVerbs``."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def read(self, ids: Sequence[UUID], /) -> Verb[list[Parcel]]:
        """See ``MovingVerbs.read``."""
        read = yield from self._sending.read(sorted(ids))
        found = yield from self._sending.script("periods", *map(str, read.tasks))
        periods = {UUID(task_id): (hash_, _period_of(period)) for task_id, hash_, period in found}
        none = (None, None)
        return [Parcel(task, read.waiting_hashes.get(id_), *periods.get(id_, none)) for id_, task in read.tasks.items()]

    def exchange(self, pairs: Sequence[tuple[Task, Task]], /) -> Verb[set[UUID]]:
        """See ``MovingVerbs.exchange``."""
        read = yield from self._sending.read([before.id for before, _ in pairs])
        writes = []
        for before, after in pairs:
            task = read.tasks.get(before.id)
            if task is not None and is_as_read(before, task):
                changed = task._replace(
                    task_type=after.task_type,
                    scheduled_at=after.scheduled_at,
                    headers=after.headers,
                    updated_at=later(read.now, task),
                )
                writes.append(Write(task, changed, read.waiting_hashes.get(task.id)))
        return (yield from self._write(writes))

    def put(self, parcels: Sequence[Parcel], /) -> Verb[set[UUID]]:
        """See ``MovingVerbs.put``."""
        read = yield from self._sending.read([parcel.task.id for parcel in parcels])
        new = [parcel for parcel in parcels if parcel.task.id not in read.tasks]
        begun = yield from self._begin_periods(new)
        late = {parcel.task.id for parcel in new if parcel.period_hash is not None} - begun
        writes = [
            Write(None, task._replace(updated_at=read.now), waiting)
            for task, waiting, _, _ in new
            if task.id not in late
        ]
        try:
            written = yield from self._write(writes)
        except BackendError as error:
            if not isinstance(error, BackendUnavailable):  # after which they may have been written
                yield from self._end_periods(begun)
            raise
        yield from self._end_periods(begun - written)
        return written

    def _begin_periods(self, parcels: Sequence[Parcel]) -> Verb[set[UUID]]:
        args: list[Argument] = []
        for task, _, period_hash, period in parcels:
            if period_hash is not None and period is not None:
                until = _FOR_EVER if period.until is None else microseconds(period.until)
                args += (str(task.id), period_hash, microseconds(period.inserted_at), until)
        begun = (yield from self._sending.script("carry", *args)) if args else []
        return {UUID(task_id) for task_id in begun}

    def _end_periods(self, ids: set[UUID]) -> Verb[None]:
        if ids:
            yield from self._sending.script("uncarry", *map(str, ids))

    def _write(self, writes: Sequence[Write]) -> Verb[set[UUID]]:
        """Writes all that can be written: without those that have changed, or meet an equal one."""
        left = {write.after.id: write for write in writes if write.after is not None}
        while left:
            written = yield from self._sending.write([*left.values()])
            if written.is_done:
                break
            out = written.twin[0] if written.twin is not None else written.stale
            del left[out or NO_TASK]
        return set(left)


def _period_of(text: str) -> Period:
    task_id, inserted_at, until = text.split()
    return Period(UUID(task_id), time_of(inserted_at), None if until == _FOR_EVER else time_of(until))
