"""Tests every public method of a queue in one way: it works, and with ``connection=`` it is part of the transaction.

The methods are found by introspection, so that a new one cannot be left out.
"""

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import pytest

from fang_core.conformance.backend import Backend
from fang_core.flow.limits import Limit
from fang_core.messages import Stop
from fang_core.monitoring.audit import Audit
from fang_core.record import TaskState
from fang_core.tasks.managing import Limits
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.scheduling import QueueSchedules
from fang_core.tasks.selecting.filter import TaskFilter

HOUR: Final = timedelta(hours=1)
WHERE: Final[dict[str, type]] = {"": Queueable, "schedules.": QueueSchedules, "limits.": Limits, "audit.": Audit}
"""Where the methods are, by what stands before their names."""

IN_RUNS: Final = frozenset({"complete"})
"""Methods that only a run can call; they have tests of their own."""


class Method(NamedTuple):
    """A public method: its name, and whether it takes a connection of the caller's."""

    name: str
    takes_connection: bool


def methods() -> Iterator[Method]:
    """Yields the public methods of a queue, of its schedules, limits and audit."""
    for before, cls in WHERE.items():
        for name, function in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_") and name not in IN_RUNS:
                yield Method(before + name, "connection" in inspect.signature(function).parameters)


class Everything:
    """Has a backend with something for each method to work on, and knows good arguments for each."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        note = backend.note
        waiting, edited, ending, cancelled, removed = backend.insert_many([note(n=n) for n in range(5)], delay=HOUR)
        held = backend.held(note(), task_type="held")
        failed = backend.move(backend.insert(note()), TaskState.FAILED)
        client = backend.client()
        backend.insert(backend.unique_note(), delay=HOUR)
        backend.insert(note(), task_type="fetched")
        queue = backend.queue
        backend.call(queue.schedules.put, "nightly", note(), every=HOUR)
        backend.call(queue.limits.set, "limited", [Limit(2)])
        entry = backend.call(queue.audit.begin, "ada", "pause", "mail")
        every = TaskFilter(all_tasks=True)
        now = datetime.now(UTC)
        # Each can be called after those before it.
        self.arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
            "insert_task": ((note(),), {}),
            "insert_tasks": (([note(), backend.unique_note()],), {}),
            "schedule_task": ((backend.yearly_note(),), {}),
            "find_task_by_id": ((waiting.id,), {}),
            "fetch_and_touch_task": (("fetched",), {}),
            "update_task_state": ((failed, TaskState.NEW), {}),
            "update_task": ((edited, note(n=7)), {"priority": 1}),
            "fail_task": ((ending, "no"), {}),
            "schedule_retry": ((held, HOUR, "no"), {}),
            "pools": ((), {}),
            "explain": ((waiting.id,), {}),
            "stats": ((), {}),
            "heat_map": (("Note",), {}),
            "control": ((client.id, Stop()), {}),
            "pause": (("mail",), {"reason": "down"}),
            "resume": (("mail",), {}),
            "list_tasks": ((), {}),
            "count_tasks": ((), {}),
            "cancel_task": ((cancelled.id,), {}),
            "schedules.put": (("hourly", note()), {"cron": "@hourly", "tz": "Europe/Berlin"}),
            "schedules.list": ((), {}),
            "schedules.pause": (("nightly",), {"until": HOUR}),
            "schedules.resume": (("nightly",), {}),
            "schedules.run_now": (("nightly",), {}),
            "schedules.backfill": (("nightly", now - timedelta(hours=3), now), {}),
            "schedules.remove": (("nightly",), {}),
            "limits.list": ((), {}),
            "limits.set": (("mail", [Limit(1)]), {}),
            "limits.remove": (("limited",), {}),
            "audit.begin": (("ada", "resume", "mail"), {}),
            "audit.end": ((entry, "paused"), {}),
            "audit.list": ((), {}),
            "cancel_tasks": ((every,), {}),
            "retry_tasks": ((every,), {}),
            "remove_task": ((removed.id,), {}),
            "remove_tasks": ((every,), {}),
            "remove_task_by_metadata": ((backend.unique_note(),), {}),
            "remove_tasks_type": (("held",), {}),
            "remove_all_scheduled_tasks": ((), {}),
            "remove_all_tasks": ((), {}),
        }

    def call(self, method: str, **options: Any) -> Any:
        """Calls a method with good arguments."""
        function: Any = self._backend.queue
        for name in method.split("."):
            function = getattr(function, name)
        arguments, given = self.arguments[method]
        return self._backend.call(function, *arguments, **given, **options)

    def all_there_is(self) -> tuple[Any, ...]:
        """Returns all tasks, schedules and managed types."""
        queue = self._backend.queue
        tasks = self._backend.call(queue.list_tasks, limit=500).tasks
        return tasks, self._backend.call(queue.schedules.list, ticks=0), self._backend.call(queue.limits.list)


class EveryMethodSuite:
    """Tests what holds for each public method."""

    def test_each_method_works(self, backend: Backend) -> None:
        everything = Everything(backend)
        assert {method.name for method in methods()} == everything.arguments.keys(), "give each method good arguments"
        for name in everything.arguments:
            try:
                everything.call(name)
            except Exception as error:  # noqa: BLE001 - it fails the test
                pytest.fail(f"{name} does not work: {error!r}")

    def test_each_method_in_a_transaction_is_rolled_back_with_it(self, backend: Backend) -> None:
        backend.needs("transactions")
        everything = Everything(backend)
        before = everything.all_there_is()
        for method in methods():
            if method.takes_connection:
                with backend.rolled_back() as connection:
                    everything.call(method.name, connection=connection)
                assert everything.all_there_is() == before, method.name
