"""Implements the verbs by which pools show that they live, and take back the tasks of those that do not."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from fang_core.backends.pools import PoolRecord, Rescued
from fang_core.backends.rows import after_rescue
from fang_core.config import DEFAULT_LEASE
from fang_core.crashes import AfterCrash, after_crash
from fang_core.liveness import Beat, BeatRequest, CancelRequest, Pulse
from fang_core.messages import Delivery
from fang_core.record import Task, TaskState
from fang_redis.connections.sending import TRIES, Read, Sending, Write, later, read_of, values_of, written_of
from fang_redis.layout import VERSION
from fang_redis.operations import Verb
from fang_redis.records import UNREADABLE, count_in, id_in, object_in, pool_of

_VALUES_OF_PULSE: Final = 5


class Answer(NamedTuple):
    """The answer to a beat, and the epoch of the queue's keys, which changes only when all of them were removed."""

    beat: Beat
    epoch: str


class Held(NamedTuple):
    """Holds the tasks of a dead pool, and what its record says.

    Attributes:
        counter: its counter; empty if it has no record.
        pool: its record; None if it has none, or one that cannot be read.
    """

    counter: str
    pool: PoolRecord | None
    workers: int | None
    was_stopping: bool
    read: Read

    def decided(self, task: Task, max_crashes: int) -> AfterCrash:
        """Applies the rule of the core to one of the tasks; ``max_crashes`` counts if there is no record."""
        return after_crash(
            task,
            was_stopping=self.was_stopping,
            held=len(self.read.tasks),
            workers=self.workers,
            max_crashes=max_crashes if self.pool is None else self.pool.max_crashes,
            is_isolated=self.pool is not None and task.kind in self.pool.isolated_kinds,
        )

    def written(self, task: Task, after: AfterCrash) -> Write:
        """Returns what that writes."""
        row = after_rescue(task, after, later(self.read.now, task))
        return Write(task, row, self.read.waiting_hashes.get(task.id))


class Liveness:
    """The verbs of a heart."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    # Beats ------------------------------------------------------------------------------------------------------------

    def beat(self, request: BeatRequest, *, locks: bool) -> Verb[Answer]:
        """See ``Heart.beat``."""
        held = [str(value) for task in request.held for value in task]
        answer: Answer = yield from self._sending.script(
            "beat",
            str(request.pool_id),
            int(locks),
            int(request.stopping),
            "" if request.runs is None else f"={request.runs}",
            "" if request.workers is None else request.workers,
            VERSION,
            uuid4().hex,
            len(request.handled),
            *request.handled,
            *held,
            parse=_answer_of,
        )
        return answer

    # Rescue -----------------------------------------------------------------------------------------------------------

    def rescue(self, pulse: Pulse) -> Verb[list[Rescued]]:
        """Takes back what a dead pool held, if its counter still stands, and removes its record."""
        return (yield from self._rescue(pulse.pool_id, str(pulse.beats), 0))

    def rescue_orphans(self, max_crashes: int) -> Verb[list[Rescued]]:
        """See ``Heart.rescue_orphans``."""
        told: list[Rescued] = []
        for pool_id in filter(None, map(id_in, (yield from self._sending.script("orphans")))):
            told += yield from self._rescue(pool_id, "", max_crashes)
        return told

    def _rescue(self, pool_id: UUID, counter: str, max_crashes: int) -> Verb[list[Rescued]]:
        """Reads what the pool held, decides by the rule of the core, and writes that if nothing has changed since."""
        for _ in range(TRIES):
            held = yield from self._held(pool_id)
            if held.counter != counter:
                return []  # it lives, or another pool has taken its tasks back
            decided = [(task, held.decided(task, max_crashes)) for task in held.read.tasks.values()]
            writes = [
                Write(
                    task, after_rescue(task, after, later(held.read.now, task)), held.read.waiting_hashes.get(task.id)
                )
                for task, after in decided
            ]
            reply = yield from self._sending.script("rescue", str(pool_id), counter, *values_of(writes))
            if reply == ["alive"]:
                return []
            if written_of(reply).is_done:
                return [_told(task, after, held.was_stopping) for task, after in decided]
        return []  # another client keeps writing to its tasks: the next rescue tries again

    def _held(self, pool_id: UUID) -> Verb[Held]:
        held: Held = yield from self._sending.script("dead", str(pool_id), parse=partial(_held_of, pool_id))
        return held


def _told(task: Task, after: AfterCrash, was_stopping: bool) -> Rescued:
    return Rescued(
        *(task.id, task.kind, task.attempt, after.crashes, after.state, was_stopping, after.is_charged, task.task_type)
    )


# Replies --------------------------------------------------------------------------------------------------------------


def _held_of(pool_id: UUID, reply: Sequence[Any]) -> Held:
    now, counter, record, workers, stopping, *rows = reply
    try:
        pool = pool_of(str(pool_id), record) if record else None
    except UNREADABLE:
        pool = None
    own = None if pool is None else pool.workers
    read = read_of([now, *rows])
    tasks = {
        task_id: task
        for task_id, task in read.tasks.items()
        if task.pool_id == pool_id
        and task.state is TaskState.IN_PROGRESS  # another client may have written to the task, and not to the set
    }
    return Held(counter, pool, count_in(workers) or own, stopping == 1, read._replace(tasks=tasks))


def _answer_of(reply: Sequence[Any]) -> Answer:
    registered, up, epoch, pools, lost, cancels, messages = reply
    seen = (_pulse_of(*values) for values in zip(*[iter(pools)] * _VALUES_OF_PULSE, strict=True))
    pulses = [pulse for pulse in seen if pulse is not None]
    beat = Beat(
        bool(registered),
        int(up) / 1e6,
        pulses,
        lost=[UUID(task_id) for task_id in lost],
        cancels=[_cancel_of(task_id, text) for task_id, text in zip(cancels[::2], cancels[1::2], strict=True)],
        messages=[_delivery_of(*sent) for sent in zip(messages[::2], messages[1::2], strict=True)],
    )
    return Answer(beat, epoch)


def _pulse_of(pool_id: str, beats: str, claims: int, listeners: int, lease: str) -> Pulse | None:
    """Returns what is seen of a pool; None if another client has written it."""
    try:
        seconds = float(lease or DEFAULT_LEASE.total_seconds())
        return Pulse(UUID(pool_id), int(beats), bool(claims), listeners > 0, seconds)
    except ValueError:
        return None


def _cancel_of(task_id: str, text: str) -> CancelRequest:
    request = object_in(text)
    return CancelRequest(UUID(task_id), str(request.get("reason") or ""), str(request.get("by") or ""))


def _delivery_of(number: str, text: str) -> Delivery:
    """Returns a message; of what another client may have written, one that no pool knows."""
    sent = object_in(text.partition(" ")[2])
    body = sent.get("body")
    return Delivery(
        int(number), str(sent.get("kind")), body if isinstance(body, dict) else {}, str(sent.get("sender") or "")
    )
