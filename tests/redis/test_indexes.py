"""Whatever becomes of tasks, the indexes say what their rows say: above all how many tasks of each lane run."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import redis

from fang_core.conformance import Backend, Client
from fang_core.errors import FangError
from fang_core.flow.limits import Fair, Limit, Rate
from fang_core.lifecycle import Outcome
from fang_core.record import ClaimedTask, Task, TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.tasks.uniqueness import Unique
from tests.backends import threaded_on_redis
from tests.redis.indexes import assert_exact

TYPES = ("plain", "conformance.limited")
HOUR = timedelta(hours=1)
STEPS = 200
LOOKS_EACH = 20


@pytest.fixture
def backend(redis_url: str) -> Iterator[Backend]:
    made = threaded_on_redis(redis_url)
    yield made
    made.close()


class History:
    """Does random things to a queue, as applications, pools and people do."""

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend = backend
        self.random = random.Random(seed)
        kinds = [each.__fang_options__.kind for each in (backend.note, backend.limited_note, backend.unique_note)]
        self.clients = [backend.client(task_types=TYPES, kinds=kinds) for _ in range(2)]
        self.held: list[tuple[Client, ClaimedTask]] = []
        self.rows: list[Task] = []

    def step(self) -> None:
        moves = (self.insert, self.insert, self.claim, self.claim, self.complete, self.by_hand, self.many, self.manage)
        with suppress(FangError):  # a task has changed, or an equal one is there
            self.random.choice(moves)()

    def insert(self) -> None:
        note: Callable[..., Any] = self.random.choice(
            (self.backend.note, self.backend.limited_note, self.backend.unique_note)
        )
        uniq = self.random.choice(
            (None, False, True, Unique(while_="waiting"), Unique(on_conflict="replace"), Unique(within=HOUR))
        )
        options: dict[str, Any] = {} if uniq is None else {"uniq": uniq}
        if note is not self.backend.limited_note:
            options["task_type"] = self.random.choice(TYPES)
        options["priority"] = self.random.randint(-2, 2)
        options["delay"] = self.random.choice((timedelta(0), timedelta(0), HOUR))
        self.rows.append(self.backend.insert(note(n=self.random.randint(1, 3)), **options))

    def claim(self) -> None:
        client = self.random.choice(self.clients)
        if self.random.random() < 0.5:
            tasks = client.claim(self.random.randint(1, 4))
        else:
            tasks = client.claim_lanes(self.random.randint(1, 4), after_lane=self.random.choice(("", "1", "2"))).tasks
        if self.random.random() < 0.1:
            client.reconcile()
        self.held += ((client, task) for task in tasks)

    def complete(self) -> None:
        if not self.held:
            return
        client, task = self.held.pop(self.random.randrange(len(self.held)))
        state = self.random.choice((None, TaskState.FINISHED, TaskState.FAILED, TaskState.RETRIED, TaskState.NEW))
        outcome = Outcome(task.id, task.attempt, state, charges_crash=state is TaskState.RETRIED)
        if state in (TaskState.RETRIED, TaskState.NEW):
            outcome = outcome._replace(delay=self.random.choice((None, HOUR)))
        client.complete(outcome)

    def by_hand(self) -> None:
        if not self.rows:
            return
        queue, call = self.backend.queue, self.backend.call
        row = self.backend.find(self.random.choice(self.rows))
        if row is None:
            return
        match self.random.randrange(4):
            case 0:
                call(queue.remove_task, row.id)
            case 1:
                call(queue.cancel_task, row.id, reason="why not")
            case 2:
                self.backend.move(row, self.random.choice(list(TaskState)))
            case 3:
                new = (
                    self.backend.note
                    if row.kind == self.backend.note.__fang_options__.kind
                    else self.backend.unique_note
                )
                call(queue.update_task, row, new(n=self.random.randint(1, 3)), task_type=self.random.choice(TYPES))

    def many(self) -> None:
        queue, call = self.backend.queue, self.backend.call
        which = TaskFilter(states=self.random.choice(list(TaskState)), task_types=self.random.choice(TYPES))
        match self.random.randrange(3):
            case 0:
                call(queue.cancel_tasks, which)
            case 1:
                call(queue.retry_tasks, which)
            case 2:
                call(queue.remove_tasks, which)

    def manage(self) -> None:
        queue, call = self.backend.queue, self.backend.call
        task_type = self.random.choice(TYPES)
        match self.random.randrange(4):
            case 0:
                call(queue.pause, task_type)
            case 1 | 2:
                call(queue.resume, task_type)
            case 3:
                kind = self.backend.limited_note.__fang_options__.kind
                rules = self.random.choice(
                    ((), (Limit(3),), (Limit(2, by="n"),), (Fair("n"),), (Rate(1_000, by="n"), Limit(9)))
                )
                self.clients[0].declare(*rules, kind=kind, task_type="conformance.limited")


@pytest.mark.parametrize("seed", range(4))
def test_indexes_are_exact_after_any_history(backend: Backend, redis_client: redis.Redis, seed: int) -> None:
    history = History(backend, seed)
    for number in range(STEPS):
        history.step()
        if number % LOOKS_EACH == 0:
            assert_exact(redis_client)
    backend.call(backend.queue.remove_all_tasks)
    assert_exact(redis_client)
