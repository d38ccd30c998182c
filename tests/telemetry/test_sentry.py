"""What Sentry receives of runs that fail. Each test has a client of its own, in scopes of its own."""

import asyncio
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sentry_sdk
from sentry_sdk.scope import ScopeType, use_isolation_scope

from fang_async import AsyncMemoryQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_core.backends.pools import Rescued
from fang_core.failure import ErrorReport, describe
from fang_core.lifecycle import Failure
from fang_core.record import ClaimedTask, TaskState
from fang_telemetry.sentry import Sentry, without_doubles
from fang_threaded import Cancel, MemoryQueue, Queueable, Runnable, Snooze, WorkerPool

Event = dict[str, Any]


class Billed(Runnable):
    card: str
    does: str = "fail"

    def run(self, queue: Queueable) -> None:
        sentry_sdk.set_tag("card.last", self.card[-2:])
        if self.does == "fail":
            raise ValueError("the bank says no")
        if self.does != "end":
            raise Snooze(timedelta(hours=1)) if self.does == "snooze" else Cancel("enough")


class Crumbled(Runnable):
    n: int

    def run(self, queue: Queueable) -> None:
        sentry_sdk.add_breadcrumb(message=f"run {self.n}")
        raise ValueError


class BilledAsync(AsyncRunnable):
    number: int

    async def run(self, queue: AsyncQueueable) -> None:
        sentry_sdk.set_tag("number", str(self.number))
        await asyncio.sleep(0)
        raise ValueError("no")


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """A client that sends to a list, in the global scope, which threads of a pool see too."""
    received: list[Event] = []

    class ToList(sentry_sdk.transport.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            received.extend(item.payload.json for item in envelope.items if item.type == "event")

    client = sentry_sdk.Client(
        dsn="https://key@example.org/1",
        transport=ToList,
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        before_send=without_doubles,
    )
    scope = sentry_sdk.get_global_scope()
    former = scope.client
    with use_isolation_scope(sentry_sdk.Scope(ty=ScopeType.ISOLATION)):
        scope.set_client(client)
        try:
            yield received
        finally:
            scope.set_client(former)


def drain(sentry: Sentry, *tasks: Runnable, **options: Any) -> None:
    queue = MemoryQueue()
    for task in tasks:
        queue.insert_task(task, **options)
    WorkerPool(queue, middleware=[sentry.run], events=[sentry]).drain()


def test_a_failed_run_is_one_event_with_tags_and_its_kind_as_a_group(events: list[Event]) -> None:
    drain(Sentry(), Billed(card="4111"), Billed(card="4222", does="end"), max_retries=0)
    (event,) = events
    assert event["tags"] == {"fang.kind": "Billed", "fang.task_type": "common", "card.last": "11"}
    assert (event["level"], event["fingerprint"]) == ("error", ["{{ default }}", "Billed"])
    assert event["transaction"] == "Billed"
    assert event["contexts"]["task"]["run"] == 1
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert "4111" not in str(event)


def test_a_failure_that_leads_to_another_run_is_a_warning_or_nothing(events: list[Event]) -> None:
    drain(Sentry(), Billed(card="41"), max_retries=1)
    assert [event["level"] for event in events] == ["warning"]
    drain(Sentry(retries=False), Billed(card="41"), max_retries=1)
    assert len(events) == 1


def test_postponed_and_cancelled_tasks_are_no_errors_and_leave_no_scopes(events: list[Event]) -> None:
    sentry = Sentry()
    drain(sentry, Billed(card="41", does="snooze"), Billed(card="41", does="cancel"))
    assert (events, dict(sentry._scopes)) == ([], {})


def test_without_the_middleware_there_is_no_scope_of_the_run_but_the_event(events: list[Event]) -> None:
    sentry, queue = Sentry(), MemoryQueue()
    queue.insert_task(Billed(card="41"), max_retries=0)
    WorkerPool(queue, events=[sentry]).drain()
    assert [event["tags"]["fang.kind"] for event in events] == ["Billed"]


def test_without_the_hook_scopes_do_not_pile_up(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fang_telemetry.sentry.MOST_SCOPES", 2)
    sentry, queue = Sentry(), MemoryQueue()
    queue.insert_tasks([Billed(card=str(n)) for n in range(4)])
    WorkerPool(queue, middleware=[sentry.run]).drain()
    assert len(sentry._scopes) == 2


async def test_scopes_of_runs_that_go_on_at_the_same_time_are_apart(events: list[Event]) -> None:
    sentry, queue = Sentry(), AsyncMemoryQueue()
    await queue.insert_tasks([BilledAsync(number=n) for n in range(3)], max_retries=0)
    await AsyncWorkerPool(queue, number_of_workers=3, middleware=[sentry.run], events=[sentry]).drain()
    assert sorted(event["tags"]["number"] for event in events) == ["0", "1", "2"]


def test_a_run_in_a_child_process_has_its_exception_with_the_frames_of_its_traceback(events: list[Event]) -> None:
    """Only a report comes from there: without frames all errors of a class would be one issue."""

    def fail() -> None:
        raise KeyError("acme")

    task = ClaimedTask(uuid4(), "Billed", "{}", 1, 0, 0, 0, "common", 0, datetime.now(UTC))
    for raised in (fail, lambda: int("x")):
        try:
            raised()
        except (KeyError, ValueError) as error:
            Sentry().run_ended(task, Failure(describe(error)), 0.1)
    found = [event["exception"]["values"][-1] for event in events]
    assert [(each["type"], each["value"]) for each in found] == [
        ("KeyError", "'acme'"),
        ("ValueError", "invalid literal for int() with base 10: 'x'"),
    ]
    (key, value) = ([frame["function"] for frame in each["stacktrace"]["frames"]] for each in found)
    assert (key[-1], value[-1]) == ("fail", "<lambda>")
    assert found[0]["stacktrace"]["frames"][-1]["filename"] == __file__
    assert events[0]["fingerprint"] == ["{{ default }}", "Billed"]
    Sentry().run_ended(task, Failure(ErrorReport("UnreadablePayload: card=4111", "  File")), 0.1)
    assert (events[2]["message"], "4111" in str(events[2])) == ("Billed: UnreadablePayload", False)


def test_a_run_has_the_breadcrumbs_of_itself_alone(events: list[Event]) -> None:
    """The SDK makes some of the pool's statements, and of the log lines about other runs on the same worker."""
    sentry_sdk.add_breadcrumb(message="of the worker")
    drain(Sentry(), Crumbled(n=1), Crumbled(n=2), max_retries=0)
    told = [[crumb["message"] for crumb in event["breadcrumbs"]["values"]] for event in events]
    assert told == [["run 1"], ["run 2"]]


def test_a_task_that_is_given_up_since_its_pools_died_is_an_error(events: list[Event]) -> None:
    given_up = Rescued(uuid4(), "Billed", 3, 3, TaskState.FAILED, was_stopping=False, charged=True)
    Sentry().task_rescued(uuid4(), given_up._replace(state=TaskState.RETRIED))
    Sentry().task_rescued(uuid4(), given_up)
    assert [(event["level"], event["tags"]["fang.kind"]) for event in events] == [("error", "Billed")]


def test_its_middleware_can_go_to_a_child_process() -> None:
    copy = pickle.loads(pickle.dumps(Sentry(retries=False).run)).__self__
    assert copy._sends_retries is False
