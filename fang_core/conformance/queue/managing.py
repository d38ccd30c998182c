"""Tests how people pause task types and set their limits, and what pools declare."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.clients import Client
from fang_core.errors import UsageError
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import Fair, FlowRule, FlowSettings, Limit, Rate, settings_of
from fang_core.messages import this_process

HOUR = timedelta(hours=1)


def pause(backend: Backend, task_type: str = "exports", **options: Any) -> TypeInfo:
    info: TypeInfo = backend.call(backend.queue.pause, task_type, **options)
    return info


def resume(backend: Backend, task_type: str = "exports", **options: Any) -> TypeInfo | None:
    info: TypeInfo | None = backend.call(backend.queue.resume, task_type, **options)
    return info


def set_limits(backend: Backend, *rules: FlowRule, task_type: str = "exports", **options: Any) -> TypeInfo | None:
    info: TypeInfo | None = backend.call(backend.queue.limits.set, task_type, rules, **options)
    return info


def remove_limits(backend: Backend, task_type: str = "exports") -> TypeInfo | None:
    info: TypeInfo | None = backend.call(backend.queue.limits.remove, task_type)
    return info


def listed(backend: Backend) -> list[TypeInfo]:
    infos: list[TypeInfo] = backend.call(backend.queue.limits.list)
    return infos


def the_one_listed(backend: Backend) -> TypeInfo:
    """Returns the only managed type."""
    infos = listed(backend)
    assert len(infos) == 1
    return infos[0]


def declare(client: Client, *rules: FlowRule, kind: str = "", again: bool = False) -> None:
    """Makes a pool declare rules for one of its kinds, its first one unless named."""
    client.declare(*rules, kind=kind or client.record.kinds[0], task_type="exports", again=again)


class ManagingSuite:
    """Tests ``pause``, ``resume`` and ``limits``, and the declarations of pools."""

    # Pause --------------------------------------------------------------------------------------------------------

    def test_a_pause_says_since_when_until_when_by_whom_and_why(self, backend: Backend) -> None:
        before = datetime.now(UTC) - HOUR
        info = pause(backend, until=HOUR, reason="the API is down", by="grace")
        assert listed(backend) == [info]
        assert (info.task_type, info.is_paused) == ("exports", True)
        assert (info.paused_by, info.pause_reason) == ("grace", "the API is down")
        assert info.paused_at is not None
        assert info.paused_until is not None
        assert info.paused_at > before
        assert abs(info.paused_until - info.paused_at - HOUR) < timedelta(minutes=1)
        assert (info.settings, info.declared, info.changed) == (FlowSettings(), {}, None)

    def test_a_pause_without_arguments_lasts_until_somebody_resumes(self, backend: Backend) -> None:
        info = pause(backend)
        assert (info.paused_until, info.paused_by, info.pause_reason) == (None, this_process(), None)
        assert resume(backend) is None
        assert listed(backend) == []
        assert resume(backend) is None  # it may be repeated

    def test_a_second_pause_replaces_the_first(self, backend: Backend) -> None:
        pause(backend, until=HOUR, reason="first", by="ada")
        at = datetime(2090, 1, 1, tzinfo=UTC)
        again = pause(backend, until=at, by="grace")
        assert (again.paused_until, again.pause_reason, again.paused_by) == (at, None, "grace")

    def test_a_pause_ends_by_itself(self, backend: Backend) -> None:
        assert pause(backend, until=HOUR).is_paused
        pause(backend, until=timedelta(milliseconds=1))
        deadline = time.monotonic() + WITHIN
        while listed(backend):
            assert time.monotonic() < deadline

    def test_a_pause_of_a_type_until_a_time_that_has_passed_is_refused(self, backend: Backend) -> None:
        passed = datetime.now(UTC) - HOUR
        with pytest.raises(UsageError, match="until has passed already"):
            pause(backend, until=passed)
        assert listed(backend) == []
        before = pause(backend, until=HOUR, by="ada")
        with pytest.raises(UsageError, match="until has passed already"):
            pause(backend, until=passed, by="grace")
        assert listed(backend) == [before]

    def test_nothing_of_a_paused_type_is_claimed_nor_fetched(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports", "mail"))
        waiting = backend.insert_many([backend.note(n=1), backend.note(n=2)], task_type="exports")
        other = backend.insert(backend.note(n=3), task_type="mail")
        pause(backend)
        waiting.append(backend.insert(backend.note(n=4), task_type="exports"))
        claim = client.ask()
        assert ([task.id for task in claim.tasks], claim.managed) == ([other.id], ("exports",))
        assert backend.fetch("exports") is None
        resume(backend)
        fetched = backend.fetch("exports")
        assert fetched is not None
        assert {fetched.id, *(task.id for task in client.claim())} == {task.id for task in waiting}

    def test_what_waited_is_claimed_when_a_pause_has_ended_by_itself(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",))
        backend.insert(backend.note(), task_type="exports")
        pause(backend, until=timedelta(milliseconds=50))
        backend.insert(backend.note(), task_type="exports")
        deadline, claimed = time.monotonic() + WITHIN, 0
        while claimed < 2:
            assert time.monotonic() < deadline
            claimed += len(client.claim())

    def test_what_a_pause_cannot_take_is_refused(self, backend: Backend) -> None:
        for task_type in ("", "a\0", "x" * 501, 5):
            with pytest.raises(UsageError, match=r"^task_type"):
                pause(backend, task_type)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match=r"^task_type"):
                resume(backend, task_type)  # type: ignore[arg-type]
        for until in (datetime(2090, 1, 1), -HOUR, 5):  # noqa: DTZ001
            with pytest.raises(UsageError, match=r"^until"):
                pause(backend, until=until)
        for name in ("reason", "by"):
            with pytest.raises(UsageError, match=rf"^{name} is a str, not int$"):
                pause(backend, **{name: 5})  # type: ignore[arg-type]
        assert listed(backend) == []

    def test_a_pause_is_part_of_its_callers_transaction(self, backend: Backend) -> None:
        backend.needs("transactions")
        with backend.rolled_back() as connection:
            pause(backend, connection=connection)
        assert listed(backend) == []
        with backend.transaction() as connection:
            pause(backend, connection=connection)
        assert [info.is_paused for info in listed(backend)] == [True]
        with backend.rolled_back() as connection:
            resume(backend, connection=connection)
        assert [info.is_paused for info in listed(backend)] == [True]

    # Limits at run time -------------------------------------------------------------------------------------------

    def test_limits_that_were_set_are_shown_with_who_and_why(self, backend: Backend) -> None:
        rules = (Limit(5), Rate(10, burst=3))
        info = set_limits(backend, *rules, reason="the API is slow", by="grace")
        assert info is not None
        assert listed(backend) == [info]
        assert (info.changed, info.settings) == (rules, FlowSettings(max_running=5, rate=rules[1].gcra))
        assert (info.changed_by, info.change_reason, info.is_paused) == ("grace", "the API is slow", False)
        assert info.changed_at is not None
        again = set_limits(backend, Limit(3))
        assert again is not None
        assert (again.changed, again.settings) == ((Limit(3),), FlowSettings(max_running=3))
        assert (again.changed_by, again.change_reason) == (this_process(), None)
        assert remove_limits(backend) is None
        assert listed(backend) == []
        assert remove_limits(backend) is None

    def test_limits_and_a_pause_do_not_touch_each_other(self, backend: Backend) -> None:
        set_limits(backend, Limit(5), by="ada")
        info = pause(backend, by="grace")
        assert (info.settings, info.changed_by, info.paused_by) == (FlowSettings(max_running=5), "ada", "grace")
        changed = set_limits(backend, Limit(6), by="eve")
        assert changed is not None
        assert (changed.is_paused, changed.paused_at, changed.paused_by) == (True, info.paused_at, "grace")
        unlimited = remove_limits(backend)
        assert unlimited is not None
        assert (unlimited.is_paused, unlimited.settings, unlimited.changed_by) == (True, FlowSettings(), None)
        set_limits(backend, Limit(7))
        left = resume(backend)
        assert left is not None
        assert (left.is_paused, left.paused_by, left.settings) == (False, None, FlowSettings(max_running=7))

    def test_limits_that_cannot_hold_are_refused(self, backend: Backend) -> None:
        limits = backend.queue.limits
        for wrong in (Limit(5), None, [5], [Limit(5), Limit(6)]):
            with pytest.raises(UsageError):
                backend.call(limits.set, "exports", wrong)
        for task_type in ("", 5):
            with pytest.raises(UsageError, match=r"^task_type"):
                backend.call(limits.set, task_type, [])
            with pytest.raises(UsageError, match=r"^task_type"):
                backend.call(limits.remove, task_type)
        with pytest.raises(UsageError, match=r"^tasks of type 'exports' have no key: set fair_by='tenant' in"):
            set_limits(backend, Limit(2, by="tenant"))
        assert listed(backend) == []

    def test_what_runs_and_waits_is_counted(self, backend: Backend) -> None:
        backend.held(backend.note(), task_type="exports")
        backend.insert_many([backend.note(), backend.note()], task_type="exports")
        backend.insert(backend.note(), task_type="exports", delay=HOUR)
        backend.insert(backend.note())
        info = set_limits(backend, Limit(5))
        assert info is not None
        assert (info.running, info.waiting) == (1, 3)
        assert [(info.running, info.waiting) for info in listed(backend)] == [(1, 3)]

    # What pools declare -------------------------------------------------------------------------------------------

    def test_what_pools_declare_holds_and_is_shown_by_kind(self, backend: Backend) -> None:
        rules = (Limit(5), Limit(2, by="tenant"), Fair("tenant", weights={"acme": 3}))
        declare(backend.client(task_types=("exports",), kinds=("a", "b")), *rules)
        info = the_one_listed(backend)
        assert (info.declared, info.changed, info.settings) == ({"a": rules}, None, settings_of(rules))

    def test_the_strictest_of_what_is_declared_holds(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",), kinds=("a", "b"))
        declare(client, Limit(5), Rate(10, by="tenant"), kind="a")
        declare(client, Limit(8), kind="b")
        info = the_one_listed(backend)
        assert info.settings == FlowSettings(max_running=5, key_rate=Rate(10).gcra)

    def test_what_was_set_wins_until_it_is_removed(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",), kinds=("a",))
        declare(client, Limit(5))
        set_limits(backend, Limit(9))
        declare(client, Limit(4))
        info = the_one_listed(backend)
        assert (info.settings.max_running, info.changed, info.declared) == (9, (Limit(9),), {"a": (Limit(4),)})
        info = remove_limits(backend)  # type: ignore[assignment]
        assert (info.settings.max_running, info.changed, info.changed_by) == (4, None, None)

    def test_an_empty_list_of_limits_wins_over_the_code(self, backend: Backend) -> None:
        declare(backend.client(task_types=("exports",), kinds=("a",)), Limit(5))
        info = set_limits(backend)
        assert info is not None
        assert (info.changed, info.settings) == ((), FlowSettings())

    def test_limits_by_key_can_be_set_if_a_class_makes_that_key(self, backend: Backend) -> None:
        declare(backend.client(task_types=("exports",), kinds=("a",)), Fair("tenant"))
        info = set_limits(backend, Limit(2, by="tenant"))
        assert info is not None
        assert info.settings == FlowSettings(max_running_per_key=2)
        with pytest.raises(UsageError, match=r"^tasks of type 'exports' have the key 'tenant', not 'customer'$"):
            set_limits(backend, Limit(3, by="customer"))
        assert [info.settings.max_running_per_key for info in listed(backend)] == [2]

    def test_a_release_withdraws_what_it_no_longer_declares(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",), kinds=("a", "b"))
        declare(client, Limit(5), kind="a")
        declare(client, Limit(6), kind="b")
        declare(client, kind="a")
        assert [info.settings.max_running for info in listed(backend)] == [6]
        declare(client, kind="b")
        assert listed(backend) == []

    def test_what_is_declared_again_holds_only_where_nothing_else_does(self, backend: Backend) -> None:
        old, new = (backend.client(task_types=("exports",), kinds=("a", "b")) for _ in range(2))
        declare(old, Limit(5))
        declare(new, Limit(2))
        declare(old, Limit(5), again=True)
        declare(old, Limit(6), kind="b", again=True)
        assert the_one_listed(backend).declared == {"a": (Limit(2),), "b": (Limit(6),)}

    def test_what_is_declared_for_a_kind_that_no_pool_knows_is_dropped(self, backend: Backend) -> None:
        old = backend.client(task_types=("exports",), kinds=("old",))
        new = backend.client(task_types=("exports",), kinds=("new",))
        declare(old, Limit(2))
        declare(new, Limit(5))
        assert [info.settings.max_running for info in listed(backend)] == [2]
        old.unregister()
        declare(new, Limit(5))
        assert [info.declared for info in listed(backend)] == [{"new": (Limit(5),)}]
