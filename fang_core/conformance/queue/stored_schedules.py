"""Tests the schedules that are put into the database: ``queue.schedules``."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from fang_core.conformance.backend import Backend
from fang_core.errors import IdInUse, PayloadError, UnknownSchedule, UsageError, WrongArguments
from fang_core.record import Task
from fang_core.schedules.schedule import Cron, Every
from fang_core.schedules.stored import ScheduleInfo, declaration
from fang_core.schedules.upcoming import Shift

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
HOURLY: Final = Every(HOUR, LONG_AGO)
SKIPPED: Final = "30 2 * 3,4 7L"
"""A time that clocks in Berlin skip on the last Sunday of March, and not on that of April."""


def do(backend: Backend, verb: str, *args: Any, **options: Any) -> Any:
    """Calls a method of ``queue.schedules``."""
    return backend.call(getattr(backend.queue.schedules, verb), *args, **options)


def put(backend: Backend, name: str = "nightly", **options: Any) -> ScheduleInfo:
    """Puts a schedule of a note, hourly unless ``options`` say something else."""
    task = options.pop("task", None) or backend.note(n=7)
    timing = {} if {"cron", "at"} & options.keys() else {"every": HOURLY}
    info: ScheduleInfo = do(backend, "put", name, task, **{**timing, **options})
    return info


def listed(backend: Backend) -> dict[str, ScheduleInfo]:
    """Returns what ``list`` returns, by name and in its order."""
    return {info.name: info for info in do(backend, "list")}


def all_tasks(backend: Backend) -> list[Task]:
    """Returns all notes that there are."""
    rows: list[Task] = backend.call(backend.queue.tasks_of_kinds, [backend.note.__fang_options__.kind])
    return rows


def bad_puts(backend: Backend) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields arguments that ``put`` refuses, and words of the error."""
    now = datetime.now(UTC)
    for options, words in (
        ({"cron": "@daily", "every": HOUR}, "one of cron=, every= and at="),
        ({"every": None}, "one of cron=, every= and at="),
        ({"cron": "61 * * * *"}, "minute '61'"),
        ({"cron": "@daily", "tz": "Europe/Nowhere"}, "no time zone"),
        ({"cron": Cron("@daily", "Europe/Berlin"), "tz": "Asia/Tokyo"}, "zone of its own"),
        ({"every": timedelta(milliseconds=1)}, "between a second and"),
        ({"at": datetime(2100, 1, 1)}, "time zone"),  # noqa: DTZ001 - the mistake
        ({"name": ""}, "1 to 500"),
        ({"name": "a\nb"}, "1 to 500"),
        ({"overlap": "sometimes"}, "overlap is one of"),
        ({"overlap": "cancel_running", "uniq": True}, "needs uniq=False"),
        ({"missed": "never"}, "missed is one of"),
        ({"missed_within": timedelta(0)}, "missed_within must be"),
        ({"jitter": 5}, "jitter is a timedelta"),
        ({"until": "tomorrow"}, "until must be"),
        ({"pause_on_failure": 1}, "pause_on_failure is a bool"),
        ({"by": 5}, "by is a str"),
        ({"scheduled_at": now}, "scheduled_at= is not for a schedule"),
        ({"delay": MINUTE}, "delay= is not for a schedule"),
        ({"expires": now}, "give expires= as a timedelta"),
        ({"priority": 9}, "priority"),
        ({"task": backend.note}, "insert an instance"),
    ):
        yield {"every": HOUR, **options} if not {"cron", "every", "at"} & options.keys() else options, words


class StoredScheduleSuite:
    """Tests the methods of ``queue.schedules``. Pools of the suite make no ticks meanwhile, since none is due."""

    # Putting and listing ----------------------------------------------------------------------------------------------

    def test_what_is_put_is_listed_with_who_put_it_and_why(self, backend: Backend) -> None:
        options: dict[str, Any] = {
            "overlap": "skip",
            "missed": "all",
            "jitter": MINUTE,
            "pause_on_failure": True,
            "priority": -1,
        }
        made = put(backend, cron="30 2 * * *", tz="Europe/Berlin", by="ada", reason="quieter", **options)
        (info,) = do(backend, "list")
        assert info._replace(upcoming=()) == made
        assert (info.name, info.cron, info.tz) == ("nightly", "30 2 * * *", "Europe/Berlin")
        assert (info.every, info.at) == (None, None)
        assert (info.overlap, info.missed, info.missed_within) == ("skip", "all", timedelta(days=1))
        assert (info.jitter, info.pause_on_failure, info.paused) == (MINUTE, True, False)
        assert (info.changed_by, info.change_reason) == ("ada", "quieter")
        assert info.changed_at is not None
        assert abs(info.changed_at - backend.insert(backend.note()).created_at) < MINUTE
        assert info.payload == {"n": 7, "ending": "ok", "text": ""}
        assert info.kind == backend.note.__fang_options__.kind
        assert info.options is not None
        assert info.options["priority"] == -1

    def test_the_next_five_ticks_are_shown_in_the_zone_with_what_daylight_saving_does(self, backend: Backend) -> None:
        put(backend, cron=SKIPPED, tz="Europe/Berlin")
        (info,) = do(backend, "list")
        assert len(info.upcoming) == 5
        ats = [tick.at for tick in info.upcoming]
        assert ats == sorted(ats)
        assert {str(at.tzinfo) for at in ats} == {"Europe/Berlin"}
        assert {tick.shift for tick in info.upcoming} == {Shift.MOVED, None}
        for tick in info.upcoming:
            assert f"{tick.at:%H:%M}" == ("03:00" if tick.shift is Shift.MOVED else "02:30")

    def test_schedules_are_listed_in_the_order_of_their_next_ticks(self, backend: Backend) -> None:
        now = backend.insert(backend.note()).created_at
        put(backend, "c", at=now + 2 * HOUR)
        put(backend, "b", at=now + HOUR)
        put(backend, "past", at=now - HOUR)
        put(backend, "a", cron="0 0 0 1 1 * 2099")
        put(backend, "paused", at=now + MINUTE)
        do(backend, "pause", "paused")
        assert list(listed(backend)) == ["b", "c", "a", "past", "paused"]
        assert listed(backend)["past"].upcoming == ()

    def test_putting_the_same_again_changes_nothing_and_something_else_does(self, backend: Backend) -> None:
        first = put(backend, by="ada")
        assert put(backend, by="bob") == first
        second = put(backend, by="bob", task=backend.note(n=8))
        assert second.changed_at > first.changed_at  # type: ignore[operator]
        assert (second.changed_by, second.payload["n"]) == ("bob", 8)
        assert listed(backend)["nightly"]._replace(upcoming=()) == second

    def test_a_class_has_many_schedules_with_arguments(self, backend: Backend) -> None:
        for n in range(3):
            put(backend, f"customer {n}", task=backend.note(n=n), every=Every(HOUR, LONG_AGO + n * MINUTE))
        assert {info.payload["n"] for info in do(backend, "list")} == {0, 1, 2}

    def test_what_cannot_be_put_is_refused_before_anything_is_written(self, backend: Backend) -> None:
        for options, words in bad_puts(backend):
            with pytest.raises(UsageError, match=re.escape(words)) as caught:
                put(backend, **options)
            assert "\n" not in str(caught.value)
        with pytest.raises(WrongArguments):
            put(backend, prioritiy=1)
        assert do(backend, "list") == []

    def test_a_payload_that_cannot_be_stored_is_refused(self, backend: Backend) -> None:
        with pytest.raises(PayloadError, match="text"):
            put(backend, task=backend.note(text="\0"))
        assert do(backend, "list") == []

    def test_another_zone_begins_a_pattern_anew_and_shows_other_schedules_in_it(self, backend: Backend) -> None:
        for timing in ({"every": HOUR}, {"at": datetime(2100, 1, 1, tzinfo=UTC)}, {"cron": "30 2 * * *"}):
            made = put(backend, tz="Asia/Tokyo", **timing)
            again = put(backend, tz="Europe/Berlin", **timing)
            assert again.tz == "Europe/Berlin"
            assert again.changed_at != made.changed_at
            assert (again.last_tick > made.last_tick) is ("cron" in timing)
            assert again.anchor == made.anchor

    def test_a_schedule_is_put_anew_with_the_task_that_it_has(self, backend: Backend) -> None:
        before = put(backend, task=backend.note(n=5), priority=2)
        after = do(backend, "put", "nightly", before, cron="0 3 * * *")
        assert (after.cron, after.every) == ("0 3 * * *", None)
        assert (after.payload, after.options) == (before.payload, before.options)
        copy = do(backend, "put", "copy", before, every=HOUR)
        assert (copy.metadata, copy.options) == (before.metadata, before.options)
        with pytest.raises(UsageError, match="priority"):
            do(backend, "put", "nightly", before, cron="0 3 * * *", priority=1)

    # Pausing ----------------------------------------------------------------------------------------------------------

    def test_a_pause_says_who_and_why_and_ends_by_hand_or_by_itself(self, backend: Backend) -> None:
        put(backend)
        paused = do(backend, "pause", "nightly", by="ada", reason="incident")
        assert (paused.paused, paused.paused_by, paused.pause_reason) == (True, "ada", "incident")
        assert listed(backend)["nightly"] == paused  # and it has no next ticks
        resumed = do(backend, "resume", "nightly", by="bob")
        assert (resumed.paused, resumed.paused_by, resumed.pause_reason) == (False, None, None)
        assert resumed.changed_by == "bob"
        assert len(listed(backend)["nightly"].upcoming) == 5
        end = resumed.changed_at + timedelta(days=1)
        do(backend, "pause", "nightly", until=end)
        first = listed(backend)["nightly"].upcoming[0]
        assert end <= first.at < end + HOUR
        again = do(backend, "pause", "nightly", until=HOUR)
        assert again.paused_until is not None
        assert abs(again.paused_until - again.paused_at - HOUR) < timedelta(seconds=1)
        with pytest.raises(UsageError, match="until must be more than zero"):
            do(backend, "pause", "nightly", until=-HOUR)

    def test_a_pause_until_a_time_that_has_passed_is_refused(self, backend: Backend) -> None:
        before = put(backend)
        for _ in range(2):
            with pytest.raises(UsageError, match="until has passed already"):
                do(backend, "pause", "nightly", until=LONG_AGO)
            assert listed(backend)["nightly"].paused == before.paused
            before = do(backend, "pause", "nightly", reason="incident")
        with pytest.raises(UnknownSchedule):
            do(backend, "pause", "weekly", until=LONG_AGO)

    def test_resuming_what_is_not_paused_changes_nothing(self, backend: Backend) -> None:
        before = put(backend)
        assert do(backend, "resume", "nightly", by="bob") == before

    def test_a_put_leaves_a_pause_as_it_is(self, backend: Backend) -> None:
        put(backend)
        do(backend, "pause", "nightly", reason="incident")
        assert put(backend, cron="@daily").pause_reason == "incident"

    # Running, removing, backfilling -----------------------------------------------------------------------------------

    def test_run_now_inserts_a_task_that_is_due_with_the_options_of_the_schedule(self, backend: Backend) -> None:
        options: dict[str, Any] = {
            "priority": 2,
            "max_retries": 5,
            "timeout": HOUR,
            "expires": HOUR,
            "headers": {"a": "b"},
        }
        put(backend, task=backend.note(n=3), **options)
        do(backend, "pause", "nightly")
        tasks = [do(backend, "run_now", "nightly") for _ in range(2)]
        assert len({task.id for task in tasks}) == 2
        for task in tasks:
            row = backend.row(task)
            assert row == task
            assert (row.metadata["n"], row.priority, row.max_retries, row.timeout) == (3, 2, 5, HOUR)
            assert (row.headers, row.expires_at) == ({"a": "b"}, row.scheduled_at + HOUR)
        assert backend.drain() == 2

    def test_run_now_of_a_unique_task_returns_the_one_that_is_there(self, backend: Backend) -> None:
        put(backend, uniq=True)
        first = do(backend, "run_now", "nightly")
        assert do(backend, "run_now", "nightly") == first._replace(conflict=True)

    def test_run_now_that_is_repeated_with_an_id_inserts_one_task(self, backend: Backend) -> None:
        put(backend)
        one, id = backend.note.__fang_options__.kind, uuid4()
        backend.client(task_types=("common",)).declare_schedules({one: declaration(one, "common", Cron("@yearly"))})
        first = do(backend, "run_now", "nightly", id=id)
        assert (first.id, first.conflict, first.metadata["n"]) == (id, False, 7)
        assert do(backend, "run_now", "nightly", id=id) == first._replace(conflict=True)
        with pytest.raises(IdInUse, match=str(id)):
            do(backend, "run_now", one, id=id)
        of_class = uuid4()
        tasks = [do(backend, "run_now", one, id=of_class) for _ in range(2)]
        assert [(task.id, task.conflict) for task in tasks] == [(of_class, False), (of_class, True)]
        assert len(all_tasks(backend)) == 2
        with pytest.raises(UsageError, match="id must be a UUID, not str"):
            do(backend, "run_now", "nightly", id=str(id))

    def test_remove_forgets_a_schedule_and_leaves_its_tasks(self, backend: Backend) -> None:
        put(backend)
        task = do(backend, "run_now", "nightly")
        assert do(backend, "remove", "nightly") is True
        assert do(backend, "remove", "nightly") is False
        assert do(backend, "list") == []
        assert backend.row(task) == task

    def test_a_name_that_is_not_there_is_told_with_those_that_are_near(self, backend: Backend) -> None:
        put(backend, "nightly report")
        hour = (LONG_AGO, LONG_AGO + HOUR)
        for verb, args in (("pause", ()), ("resume", ()), ("run_now", ()), ("backfill", hour)):
            with pytest.raises(UnknownSchedule, match=r"'nightly reprot'.*did you mean 'nightly report'") as caught:
                do(backend, verb, "nightly reprot", *args)
            assert "\n" not in str(caught.value)
        with pytest.raises(UnknownSchedule, match="fang schedules list"):
            do(backend, "pause", "xyz")

    def test_a_schedule_of_a_class_that_no_pool_has_declared_is_unknown(self, backend: Backend) -> None:
        client = backend.client()
        client.read_schedules("nobody's")
        hour = (LONG_AGO, LONG_AGO + HOUR)
        for verb, args in (("pause", ()), ("resume", ()), ("run_now", ()), ("backfill", hour)):
            with pytest.raises(UnknownSchedule, match='there is no schedule "nobody\'s": fang schedules list shows'):
                do(backend, verb, "nobody's", *args)
            with pytest.raises(UnknownSchedule, match="there is no schedule 'nobodys': fang schedules list shows"):
                do(backend, verb, "nobodys", *args)
        assert all_tasks(backend) == []
        assert do(backend, "list") == []

    def test_a_schedule_whose_only_time_has_passed_is_kept_and_makes_no_task(self, backend: Backend) -> None:
        info = put(backend, at=LONG_AGO)
        assert info.at == LONG_AGO < info.last_tick
        assert info.schedule.next_after(info.last_tick) is None
        assert do(backend, "backfill", "nightly", LONG_AGO, LONG_AGO) == 1

    def test_backfill_inserts_each_tick_of_a_time_once(self, backend: Backend) -> None:
        put(backend, expires=HOUR)  # from now, and not from the time of the tick
        assert do(backend, "backfill", "nightly", LONG_AGO, LONG_AGO + 5 * HOUR) == 6
        assert [task.scheduled_at for task in all_tasks(backend)] == [LONG_AGO + n * HOUR for n in range(6)]
        assert do(backend, "backfill", "nightly", LONG_AGO + 4 * HOUR, LONG_AGO + 7 * HOUR) == 2
        put(backend, task=backend.note(n=8))
        assert do(backend, "backfill", "nightly", LONG_AGO, LONG_AGO + 8 * HOUR) == 1  # whatever the others hold
        assert backend.drain() == 9

    def test_backfill_without_overlap_inserts_the_latest_tick(self, backend: Backend) -> None:
        put(backend)
        assert do(backend, "backfill", "nightly", LONG_AGO, LONG_AGO + 5 * HOUR, overlap="skip") == 1
        assert [task.scheduled_at for task in all_tasks(backend)] == [LONG_AGO + 5 * HOUR]

    def test_backfill_leaves_out_what_lies_ahead_and_refuses_what_is_too_much(self, backend: Backend) -> None:
        now = put(backend).changed_at
        assert now is not None
        assert do(backend, "backfill", "nightly", now - HOUR, now + 5 * HOUR) == 1
        with pytest.raises(UsageError, match="more than 10000 ticks"):
            do(backend, "backfill", "nightly", LONG_AGO, now)
        with pytest.raises(UsageError, match="end"):
            do(backend, "backfill", "nightly", now, LONG_AGO)
        with pytest.raises(UsageError, match="start must be"):
            do(backend, "backfill", "nightly", LONG_AGO.replace(tzinfo=None), now)
        assert len(all_tasks(backend)) == 1

    # Schedules of classes ---------------------------------------------------------------------------------------------

    def test_what_is_put_in_place_of_a_classs_schedule_wins_until_it_is_removed(self, backend: Backend) -> None:
        kind = backend.yearly_note.task_config["kind"]
        declared = declaration(kind, "conformance.yearly", Cron("@yearly"))
        backend.stranger().declare_schedules({kind: declared})
        of_class = listed(backend)[kind]
        assert (of_class.is_stored, of_class.declared) == (False, declared)
        assert of_class.upcoming[0].at.month == 1
        changed = put(backend, kind, cron="0 0 1 7 *", by="ada", task=backend.yearly_note(n=1))
        assert (changed.is_stored, changed.declared, changed.changed_by) == (True, declared, "ada")
        assert listed(backend)[kind].upcoming[0].at.month == 7
        assert do(backend, "remove", kind) is True
        assert listed(backend)[kind].upcoming[0].at.month == 1
        assert not listed(backend)[kind].is_stored

    def test_a_tick_that_is_inserted_ahead_is_that_of_what_was_put_in_place_of_a_classs_schedule(
        self, backend: Backend
    ) -> None:
        """If it were that of the class, a year later perhaps, pools would make no tick before that one."""
        kind = backend.yearly_note.task_config["kind"]
        now = put(backend, kind, task=backend.yearly_note(n=1)).changed_at
        assert now is not None
        tick = backend.call(backend.queue.schedule_task, backend.yearly_note(n=2))
        assert timedelta(0) < tick.scheduled_at - now <= 2 * HOUR  # the hour may have ended meanwhile
        assert listed(backend)[kind].last_tick == tick.scheduled_at
        put(backend, kind, task=backend.yearly_note(n=1), until=LONG_AGO)
        with pytest.raises(UsageError, match="has no tick left"):
            backend.call(backend.queue.schedule_task, backend.yearly_note(n=3))

    def test_the_schedule_of_a_class_is_paused_and_run_like_others(self, backend: Backend) -> None:
        kind = backend.yearly_note.task_config["kind"]
        backend.stranger().declare_schedules({kind: declaration(kind, "conformance.yearly", Cron("@yearly"))})
        do(backend, "pause", kind, reason="holidays")
        assert listed(backend)[kind].pause_reason == "holidays"
        assert do(backend, "run_now", kind).kind == kind
        do(backend, "resume", kind)
        assert listed(backend)[kind].upcoming
        do(backend, "pause", kind)
        assert do(backend, "remove", kind) is True
        assert (listed(backend)[kind].paused, listed(backend)[kind].changed_at) == (False, None)
        assert do(backend, "remove", kind) is True  # it was not changed: its class may be gone
        assert do(backend, "list") == []

    # Transactions -----------------------------------------------------------------------------------------------------

    def test_what_is_put_is_committed_or_rolled_back_with_the_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.rolled_back() as connection:
            put(backend, connection=connection)
            assert len(do(backend, "list", connection=connection)) == 1
            assert do(backend, "list") == []
        assert do(backend, "list") == []
        with backend.transaction() as connection:
            put(backend, connection=connection)
            do(backend, "run_now", "nightly", connection=connection)
            assert do(backend, "backfill", "nightly", LONG_AGO, LONG_AGO + HOUR, connection=connection) == 2
        assert list(listed(backend)) == ["nightly"]
        assert len(all_tasks(backend)) == 3
