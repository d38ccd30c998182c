"""The shells of queues, on a backend that answers what a test says."""

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import pytest

from fang_core import Queueable, Runnable
from fang_core.backends.async_queue import AsyncBaseQueue
from fang_core.backends.queue import BaseQueue
from fang_core.backends.verbs import READS, Batch, Call, Fetched, Verbs
from fang_core.errors import BackendUnavailable, NotConnected, OutcomeUnknown, UsageError
from fang_core.tasks.insertion import Rules
from fang_core.tasks.selecting.filter import TaskFilter

T = TypeVar("T")

ID = UUID(int=7)


class Shrink(Runnable):
    def run(self, queue: Queueable) -> None:
        """Does nothing."""


class Scripted(BaseQueue[object]):
    """A queue whose backend gives these answers, one after the other, and raises those that are exceptions."""

    def __init__(self, *answers: Any) -> None:
        self.rules = Rules()
        self.answers = list(answers)
        self.calls: list[tuple[Call[Any], object]] = []
        self.doubted: list[UUID] = []

    def _do(self, call: Call[T], connection: object, /) -> T:
        self.calls.append((call, connection))
        answer: T = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _begin_to_hold(self) -> UUID:
        return ID

    def _doubt(self, pool_id: UUID) -> None:
        self.doubted.append(pool_id)

    def open(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Transactionless(Scripted):
    _takes_connections = False


def test_a_call_names_its_verb_and_is_made_on_whatever_has_it() -> None:
    class Room:
        def put(self, *args: object) -> Sequence[object]:
            return args

    class Verbs:
        schedules = Room()

    assert Call[Any]("schedules.put", (1, 2)).on(Verbs(), "transaction") == ("transaction", 1, 2)


def test_each_verb_that_reads_is_one() -> None:
    rooms = {"schedules": "ScheduleVerbs", "audit": "AuditVerbs", "moving": "MovingVerbs"}
    for name in READS:
        room, _, verb = name.rpartition(".")
        owner = getattr(inspect.getmodule(Verbs), rooms[room]) if room else Verbs
        assert callable(getattr(owner, verb))
    assert Call[Any]("find", ()).reads
    assert not Call[Any]("insert", ()).reads


def test_a_backend_without_transactions_refuses_a_connection_and_is_not_called() -> None:
    queue = Transactionless()
    calls: list[Callable[[], object]] = [
        lambda: queue.insert_task(Shrink(), connection=object()),
        lambda: queue.remove_all_tasks(connection=object()),
        lambda: queue.schedules.pause("nightly", connection=object()),
    ]
    for each in calls:
        with pytest.raises(UsageError, match="insert after your commit, with id="):
            each()
    assert queue.calls == []


def test_an_insert_whose_reply_was_lost_names_the_ids() -> None:
    queue = Scripted(BackendUnavailable("gone"))
    with pytest.raises(OutcomeUnknown, match="whether the task was inserted: gone") as caught:
        queue.insert_task(Shrink(), id=ID)
    assert caught.value.ids == (ID,)


def test_an_insert_that_was_not_sent_or_is_the_callers_own_keeps_its_error() -> None:
    with pytest.raises(NotConnected):
        Scripted(NotConnected("no")).insert_task(Shrink())
    with pytest.raises(BackendUnavailable) as caught:
        Scripted(BackendUnavailable("gone")).insert_tasks([Shrink()], connection=object())
    assert type(caught.value) is BackendUnavailable


def test_many_tasks_are_dealt_with_batch_by_batch() -> None:
    told: list[int] = []
    connection = object()
    queue = Scripted(Batch(1, "a"), Batch(0, "b"), Batch(4))
    which = TaskFilter(kinds="Shrink")
    assert queue.remove_tasks(which, on_progress=told.append, connection=connection) == 5
    assert told == [1, 5]
    assert [(call.name, call.args[0], call.args[-1], given) for call, given in queue.calls] == [
        ("remove_batch", which, place, connection) for place in (None, "a", "b")
    ]


def test_what_stops_a_call_for_many_tasks_says_how_far_it_came() -> None:
    queue = Scripted(Batch(3, "a"), BackendUnavailable("gone"))
    with pytest.raises(BackendUnavailable) as caught:
        queue.remove_all_tasks()
    assert caught.value.__notes__ == ["the removal was stopped: at least 3 tasks were removed before, and stay removed"]


def test_what_stops_it_before_the_first_batch_stays_without_a_note() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        Scripted(BackendUnavailable("gone")).remove_all_tasks()
    assert not hasattr(caught.value, "__notes__")


def test_a_fetch_is_repeated_once_if_the_queues_own_pool_is_not_there() -> None:
    queue = Scripted(Fetched(None, registered=False), Fetched(None))
    assert queue.fetch_and_touch_task() is None
    assert queue.doubted == [ID]
    with pytest.raises(UsageError, match="begin another one"):
        Scripted(*2 * [Fetched(None, registered=False)]).fetch_and_touch_task()


def test_both_shells_are_the_same_but_for_their_colour() -> None:
    """Only threads heed an interruption before they block: in asyncio it comes at the next ``await``."""

    def plain(shell: type) -> str:
        source = inspect.getsource(shell).replace("        heed_interruption()\n", "").replace("An ``", "A ``")
        return ast.dump(ast.parse(re.sub(r"\b(async|await) |\bAsync(?=[A-Z])|(?<=__)a(?=enter|exit)", "", source)))

    assert plain(AsyncBaseQueue) == plain(BaseQueue)
