"""Which suspects are tried together: among simulated pools every culprit is found, and no innocent task is parked."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core.claims import suspects as module
from fang_core.claims.suspects import ANY_SUSPECTS, NO_SUSPECTS, SuspectGroup
from fang_core.crashes import after_crash, group_limit, is_suspect
from fang_core.record import ClaimedTask, Task, TaskState

DUE = datetime(2026, 1, 1, tzinfo=UTC)


def suspect(number: int, limit: int | None) -> ClaimedTask:
    return ClaimedTask(uuid.UUID(int=number), "K", "{}", 1, 0, 20, 2, "common", 0, DUE, group_limit=limit)


def row(number: int) -> Task:
    return Task(uuid.UUID(int=number), {}, "K", "common", TaskState.NEW, 0, 0, 20, 0, 0, DUE, DUE, DUE)


@dataclass
class Fleet:
    """Pools of one size that claim by turns, and die under each culprit; runs of innocents end at once otherwise."""

    workers: int
    tasks: list[Task]
    culprits: set[uuid.UUID]
    max_crashes: int = 3
    kills: dict[uuid.UUID, int] = field(default_factory=dict)
    parked: list[uuid.UUID] = field(default_factory=list)
    stood_still_for: list[uuid.UUID] = field(default_factory=list)

    def run(self) -> None:
        turns = 0
        while self.tasks:
            self.turn()
            turns += 1
            assert turns < 1_000, "some tasks are never tried"

    def turn(self) -> None:
        """Lets one pool claim as many tasks as it has workers, and run those that it may."""
        group = SuspectGroup(self.workers)
        claimed = self.tasks[: self.workers]
        suspects = {task.id: claim(task) for task in claimed if is_suspect(task)}
        admitted = group.admit(suspects.values())
        held = [task for task in claimed if task.id in admitted or not is_suspect(task)]
        lone = [task for task in held if is_suspect(task) and group_limit(task) == 1]
        if lone:
            assert len(admitted) == 1
            self.stood_still_for += [task.id for task in lone]
            # The others run first, and what stands behind it goes back.
            self.run_together([task for task in held[: held.index(lone[0])] if task not in lone])
            held = lone
        self.run_together(held)

    def run_together(self, held: list[Task]) -> None:
        for task in held:
            assert not is_suspect(task) or sum(map(is_suspect, held)) <= group_limit(task)
        guilty = [task for task in held if task.id in self.culprits]
        self.tasks = [task for task in self.tasks if task not in held]
        if not guilty:
            return
        for task in guilty:
            self.kills[task.id] = self.kills.get(task.id, 0) + 1
        for task in held:
            after = after_crash(
                task, was_stopping=False, held=len(held), workers=self.workers, max_crashes=self.max_crashes
            )
            if after.state is TaskState.FAILED:
                self.parked.append(task.id)
            else:
                self.tasks.append(task._replace(crashes=after.crashes, group_limit=after.group_limit))
        self.tasks.sort(key=lambda task: task.id)


def claim(task: Task) -> ClaimedTask:
    return suspect(task.id.int, task.group_limit)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    count = draw(st.integers(1, 120))
    culprits = draw(st.sets(st.integers(0, count - 1), max_size=4))
    workers = draw(st.integers(1, 40))
    return Fleet(workers, [row(n) for n in range(count)], {uuid.UUID(int=n) for n in culprits}, draw(st.integers(3, 5)))


@given(fleets())
def test_every_culprit_is_parked_in_time_and_no_innocent_task_is(fleet: Fleet) -> None:
    fleet.run()
    assert sorted(fleet.parked) == sorted(fleet.culprits)
    assert max(fleet.kills.values(), default=0) <= int(log2(fleet.workers)) + fleet.max_crashes


@given(fleets())
def test_pools_stand_still_for_few_tasks(fleet: Fleet) -> None:
    """For each culprit as often as it must be charged alone, and for the others that were with it in every group.

    With one culprit these are two at most; with several, tasks may have been with one of them at each time.
    """
    fleet.run()
    innocents = set(fleet.stood_still_for) - fleet.culprits
    assert len(innocents) <= (2 if len(fleet.culprits) == 1 else 6 * len(fleet.culprits))
    alone = [task for task in fleet.stood_still_for if task in fleet.culprits]
    assert len(alone) <= (fleet.max_crashes - 2) * len(fleet.culprits)


@given(st.integers(2, 64), st.integers(3, 5), st.data())
def test_kills_from_outside_park_nothing_that_was_with_others_sooner_than_they_park_a_culprit(
    workers: int, max_crashes: int, data: st.DataObject
) -> None:
    """However few tasks its pools held each time."""
    task, kills = row(1), 0
    while task.state is not TaskState.FAILED:
        is_suspected_alone = is_suspect(task) and group_limit(claim(task)) == 1
        held = 1 if is_suspected_alone else data.draw(st.integers(2, 2 * workers))
        after = after_crash(task, was_stopping=False, held=held, workers=workers, max_crashes=max_crashes)
        task = task._replace(state=after.state, crashes=after.crashes, group_limit=after.group_limit)
        kills += 1
    assert kills == int(log2(workers)) + max_crashes


def test_groups_that_do_not_halve_find_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the tests above can fail."""
    monkeypatch.setattr(module, "group_limit", lambda task: 32)
    fleet = Fleet(4, [row(n) for n in range(8)], {uuid.UUID(int=5)})
    with pytest.raises(AssertionError):
        fleet.run()


def test_a_pool_holds_no_more_suspects_than_it_has_workers_or_than_their_limits_allow() -> None:
    group = SuspectGroup(4)
    assert group.next_size == ANY_SUSPECTS
    assert len(group.admit([suspect(n, None) for n in range(3)])) == 3
    assert group.next_size == 4
    assert len(group.admit([suspect(3, 9)])) == 1
    assert group.next_size == NO_SUSPECTS
    group.workers = 6  # the pool was resized
    assert group.next_size == 5
    assert group.admit([suspect(4, 3), suspect(5, 5)]) == {uuid.UUID(int=5)}
    assert (group.has_refused, group.next_size) == (True, NO_SUSPECTS)
    group.remove(uuid.UUID(int=4), 1)
    assert (group.has_refused, group.next_size) == (False, NO_SUSPECTS)
    for number in (0, 5, 5, 77):
        group.remove(uuid.UUID(int=number), 1)
    assert (len(group), group.next_size) == (3, 4)
