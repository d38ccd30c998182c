"""A move between two queues: each task is moved once, as it is, whenever the move is killed."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fang_core import MemoryQueue, Queueable, Runnable, Task, TaskConfig, TaskFilter, TaskState, Unique, UsageError
from fang_core.aside import ASIDE, MARK, Route, released, set_aside
from fang_core.backends.moving import Mover, is_same
from fang_core.words.moments import LATEST
from tests.moving.killing import ALL, ROUTE, Between, Killed, as_it_was, moved, runnable
from tests.moving.places import PLACES, Place, opened

IN_A_YEAR = datetime.now(UTC).replace(microsecond=123_456) + timedelta(days=365)


class Plain(Runnable):
    task_config = TaskConfig(kind="moving.Plain", task_type="mail")
    to: str = "ada"

    def run(self, queue: Queueable) -> None: ...


class Once(Runnable):
    task_config = TaskConfig(kind="moving.Once", uniq=True)
    day: int = 1

    def run(self, queue: Queueable) -> None: ...


class Debounced(Runnable):
    task_config = TaskConfig(kind="moving.Debounced", uniq=Unique(while_="waiting"))
    day: int = 1

    def run(self, queue: Queueable) -> None: ...


class Daily(Runnable):
    task_config = TaskConfig(kind="moving.Daily", uniq=Unique(within=timedelta(days=1)))
    day: int = 1

    def run(self, queue: Queueable) -> None: ...


PAIRS = [(one, other) for one in PLACES for other in PLACES]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Place]]:
    source, target = request.param
    with opened(source, request) as here, opened(target, request) as there:
        yield here, there


def fill(queue: Any) -> list[Task]:
    """Tasks of all sorts that wait."""
    failed_once = queue.insert_task(Plain(to="failed"))
    held = queue.fetch_and_touch_task("mail")
    assert held.id == failed_once.id
    retried = queue.schedule_retry(held, timedelta(days=2), "no\nanswer é")
    queue.insert_task(
        Plain(to="zoë"),
        priority=-2,
        max_retries=3,
        headers={"trace": "7f3a"},
        timeout=timedelta(seconds=90),
        scheduled_at=IN_A_YEAR,
        expires=timedelta(days=3),
    )
    queue.insert_task(Once())
    queue.insert_task(Debounced())
    queue.insert_task(Daily())
    assert retried.state is TaskState.RETRIED
    return [parcel.task for parcel in queue.moving.read([task.id for task in queue.list_tasks(ALL).tasks])]


def test_tasks_arrive_as_they_were(pair: tuple[Place, Place]) -> None:
    source, target = pair
    before = fill(source.queue)

    done = moved(source, target)

    assert (done.moved, done.left, done.in_progress, done.waiting) == (5, [], 0, 0)
    assert source.tasks == {}
    assert [as_it_was(task) for task in sorted(target.tasks.values())] == [as_it_was(task) for task in sorted(before)]


def test_what_is_unique_stays_unique(pair: tuple[Place, Place]) -> None:
    source, target = pair
    fill(source.queue)
    moved(source, target)

    for task in (Once(), Debounced(), Daily()):
        assert target.queue.insert_task(task).conflict, task
        assert not source.queue.insert_task(task).conflict, task
    daily = next(task for task in target.tasks.values() if task.kind == "moving.Daily")
    target.queue.update_task_state(daily, TaskState.FINISHED)
    assert target.queue.insert_task(Daily()).conflict  # its day goes on


def test_a_task_with_an_equal_one_in_the_target_stays(pair: tuple[Place, Place]) -> None:
    source, target = pair
    inserted = [source.queue.insert_task(each) for each in (Once(), Debounced(), Daily(), Plain())]
    for each in (Once(), Debounced(), Daily()):
        target.queue.insert_task(each)

    done = moved(source, target)

    assert done.moved == 1
    assert {(left.id, left.why) for left in done.left} == {
        (task.id, "an equal unique task is in the target") for task in inserted[:3]
    }
    assert [as_it_was(source.tasks[task.id]) for task in inserted[:3]] == [as_it_was(task) for task in inserted[:3]]


def test_what_runs_stays(pair: tuple[Place, Place]) -> None:
    source, target = pair
    for each in range(3):
        source.queue.insert_task(Plain(to=str(each)))
    held = source.queue.fetch_and_touch_task("mail")

    done = moved(source, target)

    assert (done.moved, done.in_progress) == (2, 1)
    assert list(source.tasks) == [held.id]


def test_only_what_matches_is_moved(pair: tuple[Place, Place]) -> None:
    source, target = pair
    mail, other = source.queue.insert_task(Plain()), source.queue.insert_task(Once())

    assert moved(source, target, which=TaskFilter(task_types="mail")).moved == 1

    assert (list(source.tasks), list(target.tasks)) == ([other.id], [mail.id])


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(
            pair, id="-".join(pair), marks=[] if pair[0] == pair[1] or "memory" in pair else [pytest.mark.long]
        )
        for pair in PAIRS
    ],
    indirect=True,  # each as the source and as the target: what a kill leaves does not depend on what the other one is
)
def test_whenever_it_is_killed_the_next_run_ends_it(pair: tuple[Place, Place]) -> None:
    """Killed before each of its calls in turn: nothing can run twice, and nothing is lost."""
    source, target = pair
    for calls in count():
        tasks = [source.queue.insert_task(Plain(to=str(each))) for each in range(3)]
        ids = {task.id for task in tasks}
        try:
            moved(source, target, calls=calls)
        except Killed:
            is_killed = True
        else:
            is_killed = False
        assert not runnable(source) & runnable(target)
        assert ids == ids & (source.tasks.keys() | target.tasks.keys())
        run = target.queue.fetch_and_touch_task("mail")  # a worker is quick
        if run is not None:
            target.queue.remove_task(run.id)
        there = moved(source, target)
        assert (there.left, source.tasks) == ([], {})
        assert target.tasks.keys() == ids - {run and run.id}
        assert all(task.task_type == "mail" and MARK not in (task.headers or {}) for task in target.tasks.values())
        target.queue.remove_all_tasks()
        if not is_killed:
            return


def test_a_worker_that_takes_what_is_just_being_moved_keeps_it(pair: tuple[Place, Place]) -> None:
    source, target = pair
    source.queue.insert_task(Plain())
    taken: list[Task] = []
    busy: Any = Between(source.queue, lambda: taken.append(source.queue.fetch_and_touch_task("mail")))

    assert Mover(busy, target.queue, ROUTE, ALL).move().moved == 0

    assert source.tasks == {task.id: task for task in taken}
    assert target.tasks == {}


def test_what_is_in_the_source_is_not_released_in_the_target(pair: tuple[Place, Place]) -> None:
    """As after a source was restored from a copy."""
    source, target = pair
    task = source.queue.insert_task(Plain())
    parcel = source.queue.moving.read([task.id])[0]
    target.queue.moving.put([parcel._replace(task=set_aside(parcel.task, ROUTE))])

    for calls in range(20):
        with suppress(Killed):
            moved(source, target, calls=calls)
        assert not runnable(source) & runnable(target)

    assert (list(source.tasks), list(target.tasks)) == ([], [task.id])


def test_another_name_of_the_source_goes_on_where_the_first_one_was_killed(pair: tuple[Place, Place]) -> None:
    """Whoever releases the task in the source, though the target has it too, has it run twice one day."""
    source, target = pair
    task = source.queue.insert_task(Plain())
    parcel = source.queue.moving.read([task.id])[0]
    aside = set_aside(parcel.task, ROUTE)
    assert source.queue.moving.exchange([(parcel.task, aside)]) == {task.id}
    assert target.queue.moving.put(source.queue.moving.read([task.id])) == {task.id}

    done = Mover(source.queue, target.queue, Route("the same one", ROUTE.target), ALL).move()

    assert (done.moved, done.left, source.tasks) == (1, [], {})
    assert runnable(target) == {task.id}


def test_whether_two_queues_are_one_is_seen(pair: tuple[Place, Place]) -> None:
    source, target = pair
    assert not is_same(source.queue, target.queue)
    assert is_same(source.queue, source.queue)
    assert source.tasks == target.tasks == {}


def test_a_move_whose_marker_another_one_has_removed_looks_again(pair: tuple[Place, Place]) -> None:
    queue = pair[0].queue

    class Slow:
        """The queue by another name; before it is read for the first time, another move looks and removes."""

        others = 1

        @property
        def moving(self) -> Any:
            if self.others:
                self.others = 0
                assert is_same(queue, queue)
            return queue.moving

    assert is_same(Slow(), queue)
    assert pair[0].tasks == {}


def test_a_task_that_was_set_aside_for_another_target_is_not_moved_to_this_one(pair: tuple[Place, Place]) -> None:
    source, target = pair
    source.queue.insert_task(Plain())
    with pytest.raises(Killed):
        moved(source, target, calls=5)  # set aside, and no more
    assert {task.task_type for task in source.tasks.values()} == {ASIDE}

    with pytest.raises(UsageError, match=r"was set aside by a move to there, .* run that one again first"):
        Mover(source.queue, target.queue, Route("here", "elsewhere"), ALL).move()

    assert target.tasks == {}


def test_nobody_runs_what_is_set_aside_even_if_it_is_retried_by_hand(pair: tuple[Place, Place]) -> None:
    source, target = pair
    task = fill(source.queue)[0]
    read = source.queue.moving.read([task.id])[0].task
    assert source.queue.moving.exchange([(read, set_aside(read, ROUTE))]) == {task.id}

    source.queue.retry_tasks(TaskFilter(ids=[task.id]))

    moved(source, target)
    arrived = target.tasks[task.id]
    assert (arrived.task_type, arrived.scheduled_at) == (task.task_type, task.scheduled_at)


def test_what_is_set_aside_is_due_at_the_end_of_time() -> None:
    task = MemoryQueue().insert_task(Plain())
    assert set_aside(task, ROUTE).scheduled_at == LATEST
    assert released(set_aside(task, ROUTE)) == task


def test_a_header_that_says_nothing_is_named() -> None:
    task = MemoryQueue().insert_task(Plain(), task_type=ASIDE, headers={MARK: "{}"})
    with pytest.raises(UsageError, match=f"task {task.id} is set aside, and its header {MARK} does not say"):
        released(task)


@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    kills=st.lists(st.integers(0, 40), max_size=6),
    works=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=6),
    tasks=st.integers(0, 7),
    batch=st.integers(1, 4),
)
def test_in_whatever_order_it_is_killed_while_workers_work_each_task_runs_once(
    kills: list[int], works: list[tuple[bool, int]], tasks: int, batch: int
) -> None:
    source, target = Place("memory", MemoryQueue()), Place("memory", MemoryQueue())
    ids = {source.queue.insert_task(Plain(to=str(each))).id for each in range(tasks)}
    ran: list[Any] = []

    def work(place: Place, most: int) -> None:
        for _ in range(most):
            held = place.queue.fetch_and_touch_task("mail")
            if held is not None:
                ran.append(held.id)
                place.queue.remove_task(held.id)

    for calls in kills:
        with suppress(Killed):
            moved(source, target, calls=calls, batch=batch)
        if works:
            in_target, most = works.pop()
            work(target if in_target else source, most)
    moved(source, target, batch=batch)
    work(target, tasks)

    assert sorted(ran) == sorted(ids)
    assert source.tasks == target.tasks == {}
