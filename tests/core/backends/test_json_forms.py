"""What is written as JSON text is read as it was."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from fang_core.backends.json_forms import (
    managed_as_json,
    managed_from_json,
    schedule_as_json,
    schedule_from_json,
    stats_as_json,
    stats_from_json,
)
from fang_core.backends.managed import ManagedType
from fang_core.flow.limits import Fair, Limit, Rate
from fang_core.flow.settings import effective
from fang_core.monitoring.history import NOTHING, StatsRow
from fang_core.remarks import Remark
from fang_core.schedules.stored import Missed, Overlap, ScheduleInfo

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_a_schedule() -> None:
    full = ScheduleInfo(
        "nightly",
        AT,
        kind="Nightly",
        task_type="common",
        metadata='{"type": "Nightly"}',
        options={"task_type": "common", "timeout": {"seconds": 2.5}},
        every=timedelta(seconds=90, microseconds=1),
        anchor=AT,
        tz="Europe/Berlin",
        overlap=Overlap.QUEUE_ONE,
        missed=Missed.ALL,
        missed_within=timedelta(days=1),
        jitter=timedelta(microseconds=7),
        until=AT,
        pause_on_failure=True,
        paused=True,
        paused_at=AT,
        paused_by="ä",
        last_task_id=uuid4(),
        declared={"kind": "Nightly", "cron": "0 3 * * *", "tz": "UTC"},
        changed_at=AT,
    )
    bare = ScheduleInfo("of a class", AT)
    assert [schedule_from_json(schedule_as_json(each)) for each in (full, bare)] == [full, bare]


def test_a_managed_type_holds_what_its_rules_come_to() -> None:
    declared = {"K": (Limit(3), Rate(5, by="tenant"))}
    changed = (Limit(1, by="tenant"), Fair("tenant", weights={"a": 2}))
    managed = ManagedType(
        effective(declared, changed),
        declared,
        changed,
        AT,
        Remark("ada", None),
        True,
        None,
        AT,
        Remark(None, "why"),
        AT,
    )
    managed.tats["a"] = AT
    assert managed_from_json(managed_as_json(managed)) == replace(managed, tats={})
    assert managed_from_json(managed_as_json(ManagedType())) == ManagedType()


def test_a_row_of_history() -> None:
    row = StatsRow(started=3, queue_s=0.25, queue={7: 2, 84: 1}, run={0: 3})
    assert stats_from_json(stats_as_json(row)) == row
    assert stats_from_json(stats_as_json(NOTHING)) == NOTHING
    assert stats_as_json(NOTHING) == "{}"


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_have_their_defaults() -> None:
    written = json.loads(schedule_as_json(ScheduleInfo("a", AT))) | {"colour": "red"}
    del written["jitter"]
    assert schedule_from_json(json.dumps(written)) == ScheduleInfo("a", AT)
