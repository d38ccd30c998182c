"""Puts names, times and spans, and what is known of pools and sessions, into the sentences that people read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import by_of
from fang_core.monitoring.facts import MOST_AHEAD, Facts, PoolFacts, SessionFacts, SlotHolder
from fang_core.record import Progress, Task
from fang_core.words.spans import span
from fang_core.words.texts import counted, cut, printable

_LONGEST_NAME: Final = 100
_SHOWN: Final = 3
"""How many pools, or holders of a limit, a sentence names; ``details`` has the others."""


def named(text: str, most: int = _LONGEST_NAME) -> str:
    """Returns a text of a row in one line, without terminal codes, and cut: any client may have written it."""
    return printable(cut(text, most))


def at(time: datetime) -> str:
    """Returns a time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


START_A_WORKER: Final = "Start a worker: fang worker MODULE:POOL"
"""What to do if no pool can run the task."""
ISOLATE: Final = "If it kills its processes, find out why; isolation='process' runs it where it harms no other task."
"""What to do about a task under which pools have died."""


def died(task: Task) -> str:
    """Returns how often pools have died under a task."""
    return f"Pools have died under it {'once' if task.crashes == 1 else f'{task.crashes} times'}"


def pool_name(pool: PoolFacts) -> str:
    """Returns the host and the pid of a pool."""
    return named(pool.place)


def pool_names(pools: Sequence[PoolFacts], pool: str = "Pool") -> str:
    """Returns the first pools by name, and how many there are."""
    shown = ", ".join(pool_name(pool) for pool in pools[:_SHOWN])
    if len(pools) == 1:
        return f"{pool} {shown}"
    more = f", and {len(pools) - _SHOWN} more" if len(pools) > _SHOWN else ""
    return f"{len(pools)} pools ({shown}{more})"


def able_pools(facts: Facts) -> list[PoolFacts]:
    """Returns the pools that could run the task now, but for their workers."""
    return [pool for pool in facts.pools if pool.knows and not pool.stopping and not pool.signs.is_silent]


def of_workers(facts: Facts) -> str:
    """Returns how many workers could run the task, and whether they are busy."""
    able = able_pools(facts)
    workers = sum(pool.workers for pool in able)
    told = [pool for pool in able if pool.busy is not None]
    busy = sum(min(pool.workers, (pool.busy or 0) + (pool.waiting or 0)) for pool in told)
    of = f"of {'pool ' + pool_name(able[0]) if len(able) == 1 else f'{len(able)} pools'}"
    if len(told) < len(able):
        return f"{counted(workers, 'worker')} {of} can run it"
    if busy < workers:
        return f"{busy} of {counted(workers, 'worker')} {of} {'is' if busy == 1 else 'are'} busy"
    return f"the only worker {of} is busy" if workers == 1 else f"all {workers:,} workers {of} are busy"


def others(ahead: int) -> str:
    """Returns how many due tasks come before it."""
    return f"{'At least ' if ahead >= MOST_AHEAD else ''}{counted(ahead, 'due task')}"


def told_ago(pools: Sequence[PoolFacts]) -> str:
    """Returns when one of these pools last reported its runs."""
    told = min((pool.signs.told for pool in pools if pool.signs.told is not None), default=None)
    who = "it" if len(pools) == 1 else "the last of them"
    return "" if told is None else f" ({who} told of its runs {span(told)} ago)"


def served_last(last: datetime | None) -> str:
    """Returns when such a task was run last."""
    return "" if last is None else f"; one was run last at {at(last)}"


def since_when(facts: Facts, since: datetime | None) -> str:
    """Returns for how long, and since when, something is so."""
    return "" if since is None else f" for {span(facts.now - since)}, since {at(since)}"


def told_progress(progress: Progress | None) -> str:
    """Returns how far a run is."""
    if progress is None:
        return ""
    done, total, text = progress
    return f"; it says {done:g}{'' if total is None else f' of {total:g}'}{f' ({named(text)})' if text else ''}"


def key_name(task: Task) -> str:
    """Returns the key by which limits count the task."""
    return repr(named(task.lane or ""))


def key_of(info: TypeInfo) -> str:
    """Returns the name of the field that makes the keys of a type; ``KEY`` if it is not a single field."""
    by = by_of(info.rules)
    return by if isinstance(by, str) else "KEY"


def slot_names(facts: Facts, holders: Sequence[SlotHolder]) -> str:
    """Returns the first tasks that fill a limit."""
    shown = [
        f"{named(each.kind)} {each.id}"
        + (f" in {named(each.pool)}" if each.pool else "")
        + (f" for {span(facts.now - each.claimed_at)}" if each.claimed_at else "")
        for each in holders[:_SHOWN]
    ]
    return ", ".join(shown) + (" …" if len(holders) > _SHOWN else "")


def slot_details(holders: Sequence[SlotHolder]) -> dict[str, Any]:
    """Returns all of them that are known, for programs."""
    return {"held_by": [each._asdict() for each in holders]}


def set_by(info: TypeInfo) -> str:
    """Returns who has set the limits of a type; nothing if only code has."""
    if info.changed is None:
        return ""
    by = f" by {named(info.changed_by)}" if info.changed_by else ""
    reason = f", {named(info.change_reason)}" if info.change_reason else ""
    return f" (set{by}{'' if info.changed_at is None else f' at {at(info.changed_at)}'}{reason})"


def session_name(facts: Facts, session: SessionFacts, the: str = "The") -> str:
    """Returns what is known of a session; a verb follows."""
    name = f" ({named(session.application)})" if session.application else ""
    state = f", {named(session.state)}" if session.state else ""
    since = f", open for {span(facts.now - session.since)}" if session.since else ""
    return f"{the} transaction of database session {session.pid}{name}{state}{since},"


def of_session(session: SessionFacts) -> dict[str, Any]:
    """Returns the same for programs."""
    return session._asdict()


def pool_ids(pool: PoolFacts) -> dict[str, Any]:
    """Returns the ids of a pool, for programs."""
    return {"pool_id": pool.id, "host": pool.host, "pid": pool.pid}


def ids_of_pools(pools: Sequence[PoolFacts]) -> dict[str, Any]:
    """Returns those of several."""
    return {"pools": [pool_ids(pool) for pool in pools]}
