"""Implements the verbs of pools on tasks: claims, outcomes, held tasks, due times, and pruning."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest, Serves
from fang_core.backends.pools import PruneRequest
from fang_core.lifecycle import Outcome
from fang_redis.connections.sending import Sending
from fang_redis.layout import LEVEL, MOST_ROWS
from fang_redis.operations import Argument, Operation, Verb
from fang_redis.records import Spoilt, all_claimed, microseconds, of_kinds, records_in, time_of
from fang_redis.tasks.flow import prune_rates
from fang_redis.tasks.spoilt import MOST_PASSES, fail_spoilt


class Level(NamedTuple):
    """A level of a task type that has waiting tasks; times are microseconds, None if there is no such task.

    Attributes:
        priority: as its digit.
        first: when its first task is due.
        next: when the first of those is due that are not yet.
    """

    task_type: str
    priority: str
    kind: str
    first: float | None
    next: float | None


class Outlook(NamedTuple):
    """Holds the waiting tasks as of ``now``, and the records of pools, which say which of them serve these."""

    now: float
    pools: Sequence[Mapping[str, Any]]
    levels: Sequence[Level]


class Claiming:
    """The verbs of pools on tasks."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def claim(self, request: ClaimRequest, /) -> Verb[Claim]:
        """See ``ClaimStore.claim``."""
        return (yield from self._readable(request, request.kinds))

    def claim_any(self, pool_id: UUID, task_type: str, /) -> Verb[Claim]:
        """Claims the first due task of a type, of any kind, suspects too, for a caller who holds it by hand."""
        request = ClaimRequest(pool_id, (task_type,), (), 1, group_size=0)
        return (yield from self._readable(request, None))

    def _readable(self, request: ClaimRequest, kinds: Sequence[str] | None) -> Verb[Claim]:
        """Claims tasks, and fails those that cannot be read; claims again if it has brought no other ones."""
        for _ in range(MOST_PASSES):
            claim, unread = yield from self._claim(request, kinds)
            tasks, spoilt = of_kinds(claim.tasks, kinds, unread)
            if not spoilt:
                break
            claim = claim._replace(tasks=tasks)
            yield from fail_spoilt(self._sending, request.pool_id, spoilt)
            if claim.tasks:
                break
        return claim

    def _claim(self, request: ClaimRequest, kinds: Sequence[str] | None) -> Operation[tuple[Claim, list[Spoilt]]]:
        return self._sending.script(
            "claim",
            str(request.pool_id),
            min(request.limit, MOST_ROWS),
            request.group_size,
            int(request.retries_first),
            len(request.task_types),
            len(request.isolated_kinds),
            int(kinds is None),
            *request.task_types,
            *request.isolated_kinds,
            *(kinds or ()),
            parse=_claim_of,
        )

    def complete(self, pool_id: UUID, outcomes: Sequence[Outcome], /) -> Verb[set[UUID]]:
        """See ``OutcomeStore.complete``. More than ``MOST_ROWS`` are written in several scripts."""
        written: set[UUID] = set()
        for start in range(0, len(outcomes), MOST_ROWS):
            written |= yield from self._complete(pool_id, outcomes[start : start + MOST_ROWS])
        return written

    def _complete(self, pool_id: UUID, outcomes: Sequence[Outcome]) -> Operation[set[UUID]]:
        removed: list[Argument] = []
        others: list[Argument] = []
        for outcome in outcomes:
            if outcome.state is None:
                removed += (str(outcome.id), outcome.attempt)
            else:
                others += _written_outcome(outcome)
        args = (str(pool_id), len(removed) // 2, *removed, *others)
        return self._sending.script("complete", *args, parse=_ids_of)

    def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> Verb[int]:
        """See ``ClaimStore.reconcile``."""
        count: int = yield from self._sending.script("reconcile", str(pool_id), *map(str, known))
        return count

    def prune(self, request: PruneRequest, /) -> Verb[int]:
        """See ``UpkeepStore.prune``."""
        ages = (request.keep_finished, request.keep_failed, request.keep_finished)
        texts = ["" if age is None else microseconds(age) for age in ages]
        count: int = yield from self._sending.script("prune", request.limit, *texts, *request.task_types)
        yield from prune_rates(self._sending, request.task_types)
        return count

    def clock(self) -> Verb[datetime]:
        """See ``HistoryStore.tell_time``."""
        read = yield from self._sending.read(())
        return read.now

    # What waits -------------------------------------------------------------------------------------------------------

    def has_taker(self, pool_id: UUID, tasks: Collection[Serves], /) -> Verb[bool]:
        """See ``ClaimStore.has_taker``."""
        served = [name for task in tasks for name in task]
        has_taker: bool = yield from self._sending.script("taker", str(pool_id), *served, parse=bool)
        return has_taker

    def waiting_types(self, most: int, /) -> Verb[Mapping[str, bool] | None]:
        """See ``ClaimStore.waiting_types``."""
        outlook = yield from self._outlook(with_pools=False)
        lanes = {(level.task_type, level.priority) for level in outlook.levels}
        if len(lanes) >= most:
            return None
        due = {level.task_type for level in _due(outlook)}
        return {task_type: task_type in due for task_type in sorted({task_type for task_type, _ in lanes})}

    def next_due(self, task_types: Sequence[str], kinds: Sequence[str], /) -> Verb[float | None]:
        """See ``ClaimStore.next_due``."""
        if not task_types:
            return None
        outlook = yield from self._outlook(*task_types, with_pools=False)
        known = frozenset(kinds)
        times = [level.next for level in outlook.levels if level.kind in known and level.next is not None]
        return (min(times) - outlook.now) / 1e6 if times else None

    def unknown_kinds(self, task_types: Sequence[str], /) -> Verb[list[str]]:
        """See ``UpkeepStore.unknown_kinds``."""
        if not task_types:
            return []
        outlook = yield from self._outlook(*task_types, with_pools=True)
        known = {
            (task_type, kind) for pool in outlook.pools for task_type in pool["task_types"] for kind in pool["kinds"]
        }
        return sorted({each.kind for each in _due(outlook) if (each.task_type, each.kind) not in known})

    def unserved_types(self, due_for: timedelta, /) -> Verb[list[str]]:
        """See ``UpkeepStore.unserved_types``."""
        outlook = yield from self._outlook(with_pools=True)
        served = {task_type for pool in outlook.pools for task_type in pool["task_types"]}
        return sorted({each.task_type for each in _due(outlook, due_for)} - served)

    def _outlook(self, *task_types: str, with_pools: bool) -> Verb[Outlook]:
        """Reads of some types, or of all, what waits; some hundred levels in a script."""
        left = task_types or tuple((yield from self._sending.command("SMEMBERS", "types")))
        place, seen = "0", Outlook(0.0, (), [])
        while left or not seen.now:
            args: tuple[Argument, ...] = (int(with_pools and not seen.now), place, *left[:MOST_ROWS])
            page, read, place = yield from self._sending.script("outlook", *args, parse=_outlook_of)
            seen = Outlook(page.now, seen.pools or page.pools, [*seen.levels, *page.levels])
            left = left[read:]
        return seen


def _written_outcome(outcome: Outcome) -> tuple[Argument, ...]:
    """Returns the script's arguments for an outcome that does not remove its task."""
    assert outcome.state is not None
    letters = (
        ("f" if outcome.forgets_crashes else "")
        + ("c" if outcome.charges_crash else "")
        + ("a" if outcome.answers_cancel else "")
    )
    return (
        str(outcome.id),
        outcome.attempt,
        outcome.state.value,
        "" if outcome.delay is None else microseconds(outcome.delay),
        outcome.charge,
        "" if outcome.error_message is None else f"={outcome.error_message}",
        outcome.error_entry or "",
        letters,
    )


# Replies --------------------------------------------------------------------------------------------------------------


def _claim_of(reply: Sequence[Any]) -> tuple[Claim, list[Spoilt]]:
    now, registered, managed, *rows = reply
    tasks, spoilt = all_claimed(rows)
    return Claim(tasks, time_of(now), NO_TRANSACTIONS, bool(registered), tuple(managed)), spoilt


def _ids_of(reply: Sequence[Any]) -> set[UUID]:
    return set(map(UUID, reply[1]))


def _outlook_of(reply: Sequence[Any]) -> tuple[Outlook, int, str]:
    now, pools, read, place, *rest = reply
    levels = []
    for task_type, level, first, next_ in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
        found = LEVEL.fullmatch(level)
        if found is not None:
            levels.append(Level(task_type, found[1], found[3], _float_of(first), _float_of(next_)))
    return Outlook(float(now), records_in(pools), levels), read, place


def _float_of(score: str | float) -> float | None:
    return None if score == "" else float(score)


def _due(outlook: Outlook, due_for: timedelta = timedelta(0)) -> Iterator[Level]:
    """Yields the levels with tasks that have been due for so long."""
    before = outlook.now - microseconds(due_for)
    return (level for level in outlook.levels if level.first is not None and level.first <= before)
