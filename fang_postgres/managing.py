"""Writes the scripts that pause task types, and change their limits, rates and fairness. Pure."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from fang_core.backends.managed import declared_with
from fang_core.backends.pools import Declaration
from fang_core.errors import AccessRefused, BackendError
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import UNLIMITED, FlowSettings
from fang_core.flow.settings import check_key, needs_settling
from fang_core.record import PoolInfo
from fang_core.remarks import Remark
from fang_core.tasks.managing import LimitChange, Pause, has_passed
from fang_postgres.operations import Operations
from fang_postgres.operations.managing import Place, Settled, TypeRow
from fang_postgres.statement import Script

SETTLES_FOR: Final = timedelta(seconds=10)
"""How long no task of a type starts at most while its limits change: if the change dies half way, this ends it."""

_ENOUGH: Final = timedelta(seconds=5)
"""A change that finds another one's pause of at least this length under way makes do with it."""

_POLLS: Final = 0.02  # seconds
_LONGEST_POLLS: Final = 150
"""A statement that takes longer is no claim, but a dump or a report."""

_UNSEEN: Final = 1.0  # seconds: no claim takes longer, if it cannot be seen whether one is under way
_TRIES: Final = 100  # of a change during which another process has changed the settings
_BATCH: Final = 5_000


def list_types(operations: Operations, *, notify: bool = True) -> Script[list[TypeInfo]]:
    """Returns the types of which there is something to say."""
    rows: list[TypeRow] = yield operations.list_types(counts=True)
    return [row.info for row in rows if row.info.is_managed]


def pause_type(operations: Operations, task_type: str, pause: Pause, *, notify: bool) -> Script[TypeInfo]:
    """Pauses a type; claims that start after its commit take no task of it.

    Raises ``UsageError`` if the pause would end before it begins.
    """
    if not (yield operations.pause_type(task_type, pause)):
        raise has_passed()
    rows: list[TypeRow] = yield operations.list_types([task_type], counts=True)
    return rows[0].info


def resume_type(operations: Operations, task_type: str, *, notify: bool) -> Script[TypeInfo | None]:
    """Ends the pause of a type; returns what is left to say of it."""
    yield operations.resume_type(task_type, notify=notify)
    return (yield from _what_is_left(operations, task_type))


def set_limits(operations: Operations, task_type: str, change: LimitChange, *, notify: bool) -> Script[TypeInfo | None]:
    """Sets the limits of a type at run time, or forgets what was set; returns what is left to say of it.

    Raises ``UsageError`` if they count by a key that tasks of the type do not have.
    """

    def wanted(read: TypeInfo | None) -> Settled:
        declared = dict(read.declared) if read is not None else {}
        if change.rules is not None:
            check_key(task_type, change.rules, declared)
        return Settled(declared, change.rules)

    old, new = yield from _change(operations, task_type, wanted, change.remark, notify=notify)
    if new.is_limited and not old.is_limited:  # of a type that was managed before, pools adopt what is left
        yield from adopt(operations, task_type, notify=notify)
    return (yield from _what_is_left(operations, task_type))


def declare(operations: Operations, declarations: Sequence[Declaration], *, notify: bool = True) -> Script[None]:
    """Stores what the classes of a pool declare, and drops declarations for kinds that no registered pool knows."""
    rows: list[TypeRow] = yield operations.list_types([each.task_type for each in declarations])
    read = {row.info.task_type: row.info for row in rows}
    pools: list[PoolInfo] | None = None
    for declaration in declarations:
        task_type = declaration.task_type
        was = read.get(task_type)
        # Only what was there before the pools are listed can be stale: other pools declare at the same time.
        stale = set() if was is None else was.declared.keys() - declaration.limits.keys()
        if stale:
            if pools is None:
                pools = yield operations.list_pools()
            stale -= {kind for pool in pools if task_type in pool.task_types for kind in pool.kinds}

        def wanted(info: TypeInfo | None, declaration: Declaration = declaration, stale: Any = stale) -> Settled:
            there = {} if info is None else info.declared
            declared = declared_with(there, declaration, there.keys() - stale)
            return Settled(declared, None if info is None else info.changed)

        if wanted(was).declared != ({} if was is None else was.declared):
            yield from _change(operations, task_type, wanted, None, notify=notify)
            yield operations.drop_type(task_type)


def _change(
    operations: Operations,
    task_type: str,
    wanted: Callable[[TypeInfo | None], Settled],
    remark: Remark | None,
    *,
    notify: bool,
) -> Script[tuple[FlowSettings, FlowSettings]]:
    """Brings it about that ``wanted`` holds; returns what did, and what does.

    If claims that are under way must have ended before that, the type is settled: nothing of it starts until the change
    is written. If the settings have been changed meanwhile, or the settling is over, it begins again.
    """
    settled: datetime | None = None
    for _ in range(_TRIES):
        rows: list[TypeRow] = yield operations.list_types([task_type])
        read = rows[0] if rows else None
        info = None if read is None else read.info
        old = UNLIMITED if info is None else info.settings
        new = wanted(info)
        must_settle = needs_settling(old, new.settings)
        if must_settle and (settled is None or read is None or read.settling_until != settled):
            settled = yield from _settle(operations, task_type)
            continue
        if read is None and not new.declared and new.changed is None:
            return old, UNLIMITED
        # Another caller may have made the change meanwhile; the settling that this call began must end nevertheless.
        is_settled = settled is not None and read is not None and read.settling_until == settled
        if (yield operations.write_limits(task_type, read, new, remark, settled=is_settled, notify=notify)):
            return old, new.settings
        settled = None
    raise BackendError(f"the limits of task type {task_type!r:.100} are being changed by other processes: try again")


def _settle(operations: Operations, task_type: str) -> Script[datetime]:
    """Has nothing of a type start, waits until claims that began before have ended, and has what runs counted."""
    until: datetime = yield operations.settle_type(task_type, SETTLES_FOR, _ENOUGH)
    since: datetime = yield operations.clock()
    for polls in range(_LONGEST_POLLS):
        try:
            older, hidden = yield operations.older_statements(since)
        except AccessRefused:  # the rights on the view of sessions were revoked
            older, hidden = 0, 1
        if hidden and polls * _POLLS < _UNSEEN:
            yield operations.nap(_UNSEEN - polls * _POLLS)
        elif not older:
            break
        else:
            yield operations.nap(_POLLS)
    yield operations.adopt_running(task_type)
    return until


def adopt(operations: Operations, task_type: str, *, notify: bool = True) -> Script[None]:
    """Gives all tasks of a type that wait without a lane the lane ``''``, batch after batch."""
    place: Place | None = Place()
    while place is not None:
        _, place = yield operations.adopt_waiting(task_type, place, _BATCH, notify=notify)


def _what_is_left(operations: Operations, task_type: str) -> Script[TypeInfo | None]:
    yield operations.drop_type(task_type)
    rows: list[TypeRow] = yield operations.list_types([task_type], counts=True)
    return rows[0].info if rows and rows[0].info.is_managed else None
