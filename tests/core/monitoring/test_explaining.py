"""The rules of ``explaining``: which cause comes first, which pools are silent, and what a sentence may hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowSettings, Gcra, Limit
from fang_core.monitoring.explaining import explained
from fang_core.monitoring.explanation import Cause
from fang_core.monitoring.facts import (
    MOST_AHEAD,
    Facts,
    PoolFacts,
    RunFacts,
    SessionFacts,
    Signs,
    SlotHolder,
)
from fang_core.monitoring.silence import SILENT_AFTER
from fang_core.monitoring.wording import named
from fang_core.record import Progress, Task, TaskState

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
POOL: Final = PoolFacts(UUID(int=1), "threaded", "host", 71, 2, False)
SESSION: Final = SessionFacts(4711, NOW - 60 * SECOND, "psql", "idle in transaction")


def task_of(**fields: Any) -> Task:
    task = Task(
        id=UUID(int=5),
        metadata={"type": "Print"},
        kind="Print",
        task_type="prints",
        state=TaskState.NEW,
        priority=0,
        retries=0,
        max_retries=None,
        crashes=0,
        attempt=0,
        scheduled_at=NOW - SECOND,
        created_at=NOW - SECOND,
        updated_at=NOW - SECOND,
        lane="acme",
    )
    return task._replace(**fields)


def type_of(**fields: Any) -> TypeInfo:
    info = TypeInfo("prints", False, None, None, None, None, FlowSettings(), {}, (), None, None, None, 0, 0)
    return info._replace(**fields)


def facts_of(task: Task, **fields: Any) -> Facts:
    return Facts(task_id=task.id, now=NOW, task=task, **{"registered": 1, "pools": (POOL,), **fields})


LIMITS: Final = FlowSettings(1, 1, Gcra(SECOND, 1), Gcra(SECOND, 1))


def test_of_all_that_holds_up_a_task_that_waits_the_first_is_named_and_then_the_next() -> None:
    """Takes away one cause after the other, each named by itself once those before it are gone."""
    task = task_of(scheduled_at=NOW + 60 * SECOND, expires_at=NOW, crashes=2, group_limit=1)
    info = type_of(is_paused=True, settings=LIMITS, changed=(Limit(1, by="tenant"),))
    silent = POOL._replace(signs=Signs(is_dead=True))
    facts = facts_of(
        task,
        type=info,
        settling_until=NOW + SECOND,
        pools=(),
        running=1,
        key_running=1,
        start_at=NOW + SECOND,
        key_start_at=NOW + SECOND,
        ahead=3,
        locked_by=SESSION,
        table_locked_by=SESSION,
        writer=SESSION,
    )
    named_causes = []

    def gone(**changed: Any) -> None:
        nonlocal facts
        named_causes.append(explained(facts).cause)
        fields = {name: changed.pop(name) for name in list(changed) if name in Facts.__dataclass_fields__}
        assert facts.task is not None
        assert facts.type is not None
        of_task = {name: changed.pop(name) for name in list(changed) if name in Task._fields}
        facts = replace(facts, task=facts.task._replace(**of_task), type=facts.type._replace(**changed), **fields)

    gone(expires_at=None)
    gone(scheduled_at=NOW)
    gone(is_paused=False)
    gone(settling_until=None)
    gone(pools=(silent._replace(knows=False),))
    gone(pools=(silent,))
    gone(pools=(POOL._replace(stopping=True),))
    gone(pools=(POOL._replace(busy=2, waiting=0),))
    gone(table_locked_by=None)
    gone(crashes=0)
    gone(running=0)
    gone(key_running=0)
    gone(start_at=NOW)
    gone(key_start_at=NOW, lane=None)
    gone(lane="acme")
    gone(ahead=0)
    gone(locked_by=None)
    gone(pools=(POOL._replace(busy=1, waiting=0),))
    gone(writer=None)
    assert named_causes == [
        Cause.EXPIRED,
        Cause.DUE_LATER,
        Cause.PAUSED,
        Cause.SETTLING,
        Cause.UNSERVED_TYPE,
        Cause.UNKNOWN_KIND,
        Cause.POOLS_SILENT,
        Cause.POOLS_STOPPING,
        Cause.TABLE_LOCKED,
        Cause.SUSPECT,
        Cause.LIMIT_FULL,
        Cause.KEY_LIMIT_FULL,
        Cause.RATE,
        Cause.KEY_RATE,
        Cause.WITHOUT_LANE,
        Cause.BEHIND_OTHERS,
        Cause.LOCKED,
        Cause.NO_FREE_WORKER,
        Cause.OLDER_TRANSACTION,
    ]
    assert explained(facts).cause is Cause.STARTS_SOON


@pytest.mark.parametrize(
    ("modes", "told"),
    [
        (["threaded"], "deploy that; an AsyncRunnable needs an AsyncWorkerPool."),
        (["async", "async"], "deploy that; a Runnable needs a WorkerPool."),
        (["threaded", "async"], "deploy that."),
    ],
)
def test_a_class_that_is_imported_may_need_a_pool_of_the_other_mode(modes: list[str], told: str) -> None:
    pools = tuple(POOL._replace(mode=mode, knows=False) for mode in modes)
    remedy = explained(facts_of(task_of(), pools=pools)).remedy
    assert remedy is not None
    assert remedy.endswith(told)


def test_of_all_that_is_wrong_with_a_task_in_progress_the_first_is_named_and_then_the_next() -> None:
    held = POOL._replace(busy=1, waiting=1)
    task = task_of(
        state=TaskState.IN_PROGRESS,
        attempt=2,
        pool_id=POOL.id,
        claimed_at=NOW - 60 * SECOND,
        crashes=2,
        cancel_request={"by": "grace", "at": NOW.isoformat(), "reason": "late"},
    )
    facts = facts_of(task, run=RunFacts(names_all=True))
    causes = [explained(facts).cause]
    for pool in (held._replace(signs=Signs(has_lock=False), mode="manual"), held._replace(mode="manual"), held):
        facts = replace(facts, holder=pool)
        causes.append(explained(facts).cause)
    for changed in ({"cancel_request": None}, {"crashes": 1}):
        assert facts.task is not None
        facts = replace(facts, task=facts.task._replace(**changed))
        causes.append(explained(facts).cause)
    facts = replace(facts, run=RunFacts(90.0, "/app/tasks.py:12", Progress(1, 4, "pages")))
    told = explained(facts)
    assert [*causes, told.cause] == [
        Cause.HOLDER_UNKNOWN,
        Cause.HOLDER_SILENT,
        Cause.FETCHED_BY_HAND,
        Cause.CANCEL_REQUESTED,
        Cause.SUSPECT,
        Cause.WAITS_FOR_WORKER,
        Cause.RUNNING,
    ]
    assert told.text == (
        "It has been running for 1 min 30 s, since 2026-01-01 11:58:30 UTC, in pool host:71, in its run 2 at "
        "/app/tasks.py:12; it says 1 of 4 (pages)."
    )
    assert told.since == NOW - 90 * SECOND


@pytest.mark.parametrize(
    ("signs", "is_silent"),
    [
        (Signs(), False),  # nothing is known of it
        (Signs(is_dead=True, has_lock=True, told=SECOND), True),
        (Signs(has_lock=True), False),
        (Signs(has_lock=True, quiet=SILENT_AFTER), False),
        (Signs(has_lock=True, quiet=SILENT_AFTER + SECOND), True),
        (Signs(has_lock=True, quiet=SILENT_AFTER + SECOND, told=SECOND), False),  # the last sign counts
        (Signs(has_lock=True, quiet=SECOND, told=SILENT_AFTER + SECOND), False),
        (Signs(has_lock=False), True),
        (Signs(has_lock=False, told=2 * SECOND), False),  # it may be connecting again
        (Signs(has_lock=False, told=4 * SECOND), True),
        (Signs(told=SILENT_AFTER), False),
        (Signs(told=SILENT_AFTER + SECOND), True),
    ],
)
def test_which_pools_are_silent(signs: Signs, is_silent: bool) -> None:
    assert signs.is_silent is is_silent


def test_a_run_that_began_just_now_counts_as_running() -> None:
    task = task_of(state=TaskState.IN_PROGRESS, pool_id=POOL.id, claimed_at=NOW - SECOND)
    facts = facts_of(task, holder=POOL._replace(busy=1, waiting=1))
    assert explained(facts).cause is Cause.RUNNING  # its pool would not have named it yet
    late = replace(facts, task=task._replace(claimed_at=NOW - 4 * SECOND))
    assert explained(late).cause is Cause.WAITS_FOR_WORKER


def test_the_holders_of_a_limit_are_named() -> None:
    holders = tuple(SlotHolder(UUID(int=n), "Print", POOL.id, "host:71", NOW - n * SECOND) for n in (90, 60, 30, 12))
    info = type_of(settings=FlowSettings(max_running=4), changed=(Limit(4),), changed_by="grace", changed_at=NOW)
    told = explained(facts_of(task_of(), type=info, running=4, holders=holders))
    assert told.text == (
        "4 tasks of type prints may run at once (set by grace at 2026-01-01 12:00:00 UTC), and as many run: "
        "Print 00000000-0000-0000-0000-00000000005a in host:71 for 1 min 30 s, "
        "Print 00000000-0000-0000-0000-00000000003c in host:71 for 1 min, "
        "Print 00000000-0000-0000-0000-00000000001e in host:71 for 30 s …."
    )
    assert told.remedy.endswith("fang limits set prints 5")
    assert [each["id"] for each in told.details["held_by"]] == [each.id for each in holders]


def test_nothing_needs_to_end_where_nothing_may_start() -> None:
    """Nor does the end of one run let a task start where more run than the limit that has been set since."""
    limited = type_of(settings=FlowSettings(max_running=2))
    none = type_of(settings=FlowSettings(max_running=0))
    more = ", in place of all limits of the type: fang limits set prints "
    assert explained(facts_of(task_of(), type=limited, running=2)).remedy == (
        f"It starts when fewer of them run; to allow more{more}3"
    )
    assert explained(facts_of(task_of(), type=none)).remedy == f"To let some start{more}1"


def test_a_count_that_was_cut_says_so() -> None:
    told = explained(facts_of(task_of(lane=None), ahead=MOST_AHEAD))
    assert told.text.startswith("At least 1,000 due tasks of its task type prints come before it")
    assert told.details["at_least"]


def test_a_task_that_is_gone_says_when_it_was_made_if_its_id_does() -> None:
    told = explained(Facts(task_id=UUID("01a2285a-867d-7779-bb4e-4d6f0afafc1d"), now=NOW, task=None))
    assert "made at 2026-11-29 17:29:11 UTC" in told.text
    assert "made at" not in explained(Facts(task_id=uuid4(), now=NOW, task=None)).text


@given(st.text(max_size=300))
def test_no_name_breaks_a_sentence(text: str) -> None:
    info = type_of(is_paused=True, paused_by=text, pause_reason=text)
    task = task_of(task_type=text, kind=text, lane=text, error_message=text)
    pool = POOL._replace(host=text)
    full = type_of(settings=LIMITS, change_reason=text, changed_by=text)
    for facts in (
        facts_of(task, type=info),
        facts_of(task, pools=(pool._replace(knows=False),)),
        facts_of(task, pools=(pool,), type=full, running=1, holders=(SlotHolder(task.id, text, None, text, None),)),
        facts_of(task._replace(state=TaskState.FAILED)),
        facts_of(task._replace(state=TaskState.IN_PROGRESS), holder=pool),
        facts_of(task, locked_by=SESSION._replace(application=text, state=text)),
    ):
        told = explained(facts)
        assert told.text.isprintable()
        assert len(told.text) < 1_000


def test_names_are_short_and_printable() -> None:
    assert named("a\n\tb \x1b[2J") == "a b \N{REPLACEMENT CHARACTER}[2J"
    assert named("x" * 101) == "x" * 99 + "…"
