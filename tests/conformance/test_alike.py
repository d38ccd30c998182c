"""Random programs do the same on every backend: what calls answer, and what is left, is compared with the memory."""

import random
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from fang_core import Every, FangError, Queueable, Runnable, TaskConfig, TaskFilter, TaskState, Unique
from fang_core.backends.scheduling import stored_tick
from fang_core.conformance import Backend
from fang_core.record import ClaimedTask, Task
from fang_core.schedules.stored import ScheduleInfo
from tests.backends import threaded_in_memory

KIND: Final = "alike.Alike"
HOUR: Final = timedelta(hours=1)
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
AHEAD: Final = datetime(2100, 1, 1, tzinfo=UTC)
INSTANT: Final = timedelta(microseconds=1)
NAMES: Final = ("one", "two")
OVERLAPS: Final = ("allow", "skip", "queue_one", "cancel_running")
STEPS: Final = 40

AN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Alike(Runnable):
    """Has a few values only, so that tasks are often equal."""

    task_config = TaskConfig(kind=KIND, max_retries=1)
    a: int = 0
    b: int = 0

    def run(self, queue: Queueable) -> None: ...


class Side:
    """A backend, in which tasks are called by numbers, in the order in which they were seen first."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.client = backend.client(kinds=(KIND,))
        self.held: dict[int, ClaimedTask] = {}
        self.ids: list[UUID] = []
        self._numbers: dict[UUID, int] = {}

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        return self.backend.call(getattr(self.backend.queue, method), *args, **options)

    def schedules(self, method: str, *args: Any, **options: Any) -> Any:
        return self.backend.call(getattr(self.backend.queue.schedules, method), *args, **options)

    def find(self, number: int) -> Task | None:
        found: Task | None = self.call("find_task_by_id", self.ids[number])
        return found

    def number(self, id: UUID) -> int:
        if id not in self._numbers:
            self._numbers[id] = len(self.ids)
            self.ids.append(id)
        return self._numbers[id]

    def told(self, text: str | None) -> str | None:
        """A text with numbers for ids."""
        return text and AN_ID.sub(lambda found: f"#{self._numbers.get(UUID(found[0]), '?')}", text)

    def of(self, task: Task | None) -> Any:
        """What is the same of a task wherever it is."""
        if task is None:
            return None
        when = task.scheduled_at if task.scheduled_at in {LONG_AGO, AHEAD} else task.scheduled_at > datetime.now(UTC)
        return (
            self.number(task.id),
            *(task.metadata["a"], task.metadata["b"], task.state, task.priority, task.retries, task.attempt, when),
            *(task.uniq_hash, task.conflict, task.pool_id is None, self.told(task.error_message)),
            task.cancel_request is None,
        )

    def of_schedule(self, info: ScheduleInfo) -> Any:
        last = info.last_task_id
        return (
            *(info.name, info.payload, info.overlap, info.paused, info.pause_on_failure, self.told(info.pause_reason)),
            None if last is None else self._numbers.get(last, "?"),
        )

    def left(self) -> Any:
        """All tasks and schedules; those that were not seen before, by when they are due."""
        rows: list[Task] = self.call("tasks_of_kinds", [KIND])
        new = [row for row in rows if row.id not in self._numbers]
        for row in sorted(new, key=lambda row: (row.scheduled_at, row.metadata["a"], row.metadata["b"])):
            self.number(row.id)
        tasks = sorted(map(self.of, rows))
        return tasks, sorted(map(self.of_schedule, self.schedules("list", ticks=0)), key=lambda each: each[0])


Step = Callable[[Side], Any]


class Program:
    """Draws steps, each of which does the same on every side."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tasks = 0
        self.held: list[int] = []

    def draw(self) -> tuple[str, Step]:
        names = [
            "insert",
            "insert",
            "insert_many",
            "claim",
            "end",
            "by_hand",
            "by_hand",
            "many",
            "put",
            "steer",
            "tick",
        ]
        name = self.random.choice(names)
        return name, getattr(self, name)()

    def _task(self) -> Alike:
        return Alike(a=self.random.randint(0, 1), b=self.random.randint(0, 1))

    def _options(self) -> dict[str, Any]:
        choose = self.random.choice
        uniq = Unique(
            by=choose([None, "a", []]),
            while_=choose(["waiting", "unfinished", "always"]),
            within=choose([None, HOUR]),
            on_conflict=choose(["return", "raise", "replace", "postpone"]),
        )
        chosen = {"uniq": choose([None, None, True, uniq, uniq, uniq]), "scheduled_at": choose([None, AHEAD, LONG_AGO])}
        return {"priority": choose([0, 1])} | {name: value for name, value in chosen.items() if value is not None}

    def _one(self) -> int | None:
        return self.random.randrange(self.tasks) if self.tasks else None

    def insert(self) -> Step:
        task, options, again = self._task(), self._options(), self._one() if self.random.random() < 0.2 else None
        if again is None:
            return lambda side: side.of(side.call("insert_task", task, **options))
        return lambda side: side.of(side.call("insert_task", task, id=side.ids[again], **options))

    def insert_many(self) -> Step:
        tasks, options = [self._task() for _ in range(self.random.randint(0, 4))], self._options()
        options["scheduled_at"] = AHEAD  # those that are replaced, too
        return lambda side: [side.of(task) for task in side.call("insert_tasks", tasks, **options)]

    def claim(self) -> Step:
        def claim(side: Side) -> Any:
            claimed = side.client.claim()
            side.held |= {side.number(task.id): task for task in claimed}
            return sorted((side.number(task.id), task.attempt, task.retries) for task in claimed)

        return claim

    def end(self) -> Step:
        if not self.held:
            return lambda side: None
        number, state = self.random.choice(self.held), self.random.choice([None, *TaskState][:-2])
        state = None if state is TaskState.IN_PROGRESS else state
        return lambda side: side.client.end(side.held.pop(number), state)

    def by_hand(self) -> Step:
        number, new, state = self._one(), self._task(), self.random.choice(list(TaskState))
        verb = self.random.choice(["move", "edit", "cancel", "remove", "remove like"])
        if number is None:
            return lambda side: None

        def change(side: Side) -> Any:
            task = side.find(number)
            if verb == "remove":
                return side.call("remove_task", side.ids[number])
            if verb == "remove like":
                return side.call("remove_task_by_metadata", new)
            if task is None:
                return None
            if verb == "move":
                return side.of(side.call("update_task_state", task, state))
            if verb == "edit":
                return side.of(side.call("update_task", task, new))
            return side.of(side.call("cancel_task", task.id))

        return change

    def many(self) -> Step:
        verb = self.random.choice(["cancel_tasks", "retry_tasks", "remove_tasks"])
        which = TaskFilter(kinds=KIND, states=self.random.choice(list(TaskState)))
        return lambda side: side.call(verb, which)

    def put(self) -> Step:
        name, task = self.random.choice(NAMES), self._task()
        policy = {"overlap": self.random.choice(OVERLAPS), "pause_on_failure": self.random.random() < 0.5}
        uniq = self.random.random() < 0.3
        every = Every(HOUR, LONG_AGO)
        return lambda side: side.of_schedule(side.schedules("put", name, task, every=every, uniq=uniq, **policy))

    def steer(self) -> Step:
        name, overlap, hours = self.random.choice(NAMES), self.random.choice(OVERLAPS), self.random.randint(0, 3) * HOUR
        match self.random.choice(["pause", "resume", "remove", "run_now", "backfill", "backfill"]):
            case "backfill":
                return lambda side: side.schedules("backfill", name, LONG_AGO, LONG_AGO + hours, overlap=overlap)
            case "run_now":
                return lambda side: side.of(side.schedules("run_now", name))
            case "remove":
                return lambda side: side.schedules("remove", name)
            case verb:
                return lambda side: side.of_schedule(side.schedules(verb, name))

    def tick(self) -> Step:
        def tick(side: Side) -> Any:
            infos = side.client.read_schedules(task_types=["common"]).changed or ()
            return [
                side.client.tick_stored(stored_tick(info, info.last_tick + INSTANT))
                for info in sorted(infos, key=lambda info: info.name)
            ]

        return tick


def answer(step: Step, side: Side) -> Any:
    try:
        return step(side)
    except FangError as error:
        return type(error).__name__, side.told(str(error))


@pytest.mark.parametrize("seed", range(2))
def test_a_random_program_does_as_in_memory(backend: Backend, seed: int) -> None:
    with closing(threaded_in_memory()) as memory:
        program, sides, done = Program(seed), [Side(memory), Side(backend)], []
        for _ in range(STEPS):
            name, step = program.draw()
            expected, found = (answer(step, side) for side in sides)
            done.append(f"{name}: {expected}")
            assert found == expected, "\n".join(done)
            expected, found = (side.left() for side in sides)
            assert found == expected, "\n".join(done)
            program.tasks, program.held = len(sides[0].ids), sorted(sides[0].held)
