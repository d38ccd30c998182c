"""Tests which tasks a claim marks as held, in which order, and for which pool."""

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.conformance.backend import Backend
from fang_core.conformance.clients import Client
from fang_core.crashes import SUSPECT_AFTER
from fang_core.record import ClaimedTask, Task, TaskState

HOUR = timedelta(hours=1)


class ClaimSuite:
    """Tests ``Store.claim``, ``register`` and ``unregister``."""

    def test_a_claim_takes_the_first_tasks_in_order_up_to_its_limit(self, backend: Backend) -> None:
        """Checks the order: by the claim's task types, then by priority, due time and id."""
        expected = []
        for task_type in ("mail", "common"):
            for priority in (-2, -1, 0, 1, 2):
                later = backend.insert(backend.note(), task_type=task_type, priority=priority)
                options = {"task_type": task_type, "priority": priority, "scheduled_at": later.scheduled_at - HOUR}
                first, second = sorted((uuid4(), uuid4()), key=lambda task_id: task_id.bytes)
                same = [backend.insert(backend.note(), id=task_id, **options) for task_id in (second, first)]
                expected += [*same[::-1], later]
        client = backend.client(task_types=("mail", "common"))
        assert ids(client.claim(0)) == []
        found = [ids(client.claim(limit)) for limit in (1, 4, 7, 100, 100)]
        assert [len(each) for each in found] == [1, 4, 7, 18, 0]
        assert [task_id for each in found for task_id in each] == ids(expected)

    def test_the_order_of_task_types_is_that_of_the_claim(self, backend: Backend) -> None:
        tasks = {
            task_type: backend.insert(backend.note(), task_type=task_type, priority=priority)
            for task_type, priority in (("a", 2), ("b", 0), ("c", -2))
        }
        client = backend.client(task_types=("a", "b", "c"))
        assert ids(client.claim(2, task_types=("b", "a", "c"))) == ids([tasks["b"], tasks["a"]])
        assert ids(client.claim(2, task_types=("b", "a", "c"))) == ids([tasks["c"]])

    def test_retries_come_first_within_their_priority_if_that_is_asked_for(self, backend: Backend) -> None:
        """Wherever the claim starts: they may lie far behind other tasks, which its cursor has not passed."""

        def insert() -> list[Task]:
            retried = backend.call(backend.queue.schedule_retry, backend.held(backend.note()), timedelta(0), "again")
            old = backend.insert(backend.note(), scheduled_at=retried.scheduled_at - HOUR)
            urgent = backend.insert(backend.note(), priority=-1)
            return [urgent, retried, old]

        urgent, retried, old = insert()
        client = backend.client()
        assert ids(client.claim()) == ids([urgent, old, retried])
        urgent, retried, old = insert()
        found = [ids(client.claim(limit, retries_first=True)) for limit in (2, 1, 10)]
        assert found == [ids([urgent, retried]), ids([old]), []]
        urgent, retried, old = insert()
        behind = {("common", priority): (retried.scheduled_at + HOUR, UUID(int=0)) for priority in (-1, 0)}
        assert retried.id in ids(client.claim(after=behind, retries_first=True))

    def test_what_a_claim_returns_is_what_the_row_says(self, backend: Backend) -> None:
        inserted = backend.insert(backend.note(n=7, text="é"), priority=-1, task_type="mail", max_retries=5)
        client = backend.client(task_types=("mail",))
        claim = client.ask()
        row = backend.row(inserted)
        assert (claim.registered, len(claim.tasks)) == (True, 1)
        task = claim.tasks[0]
        assert json.loads(task.payload) == {"n": 7, "ending": "ok", "text": "é"}
        assert task == ClaimedTask(
            inserted.id, inserted.kind, task.payload, 1, 0, 5, 0, "mail", -1, inserted.scheduled_at
        )
        assert row == inserted._replace(
            state=TaskState.IN_PROGRESS,
            attempt=1,
            pool_id=client.id,
            claimed_at=row.claimed_at,
            updated_at=row.updated_at,
        )
        assert row.claimed_at is not None
        assert inserted.created_at <= row.claimed_at
        assert inserted.scheduled_at <= claim.now
        assert claim.now - inserted.created_at < HOUR

    def test_each_claim_of_a_task_is_another_attempt(self, backend: Backend) -> None:
        inserted = backend.insert(backend.note())
        client = backend.client()
        for attempt in (1, 2, 3):
            (task,) = client.claim()
            assert task.attempt == backend.row(inserted).attempt == attempt
            assert client.claim() == []  # it is held
            assert client.end(task, TaskState.RETRIED, charge=1)
        assert client.claim()[0].retries == 3

    def test_only_what_is_asked_for_is_claimed(self, backend: Backend) -> None:
        """Checks that claimed tasks are due, waiting, and of a task type and kind that the claim names."""
        client = backend.client(task_types=("common", "mail"))
        backend.insert(backend.note(), delay=HOUR)
        for state in (TaskState.FINISHED, TaskState.FAILED, TaskState.CANCELLED):
            backend.move(backend.insert(backend.note()), state)
        mail = backend.insert(backend.note(), task_type="mail")
        foreign = backend.insert(backend.foreign_note())
        backend.insert(backend.note(), task_type="nobody's")
        common = backend.insert(backend.note())
        assert client.claim(kinds=()) == client.claim(task_types=()) == []
        assert ids(client.claim(task_types=("common",))) == [common.id]
        assert ids(client.claim(kinds=(foreign.kind, "unknown"))) == [foreign.id]
        assert ids(client.claim()) == [mail.id]
        assert client.claim() == []

    def test_suspects_are_claimed_only_when_asked_for(self, backend: Backend) -> None:
        """Checks that a group of any size may have suspects without a limit."""
        suspects = [backend.crashed(times) for times in (SUSPECT_AFTER, SUSPECT_AFTER + 1)]
        innocents = [backend.crashed(SUSPECT_AFTER - 1), backend.insert(backend.note())]
        client = backend.client()
        found = [*client.claim(1, group_size=NO_SUSPECTS), *client.claim(group_size=NO_SUSPECTS)]
        assert set(ids(found)) == set(ids(innocents))
        assert client.claim(group_size=NO_SUSPECTS) == client.claim(group_size=NO_SUSPECTS, looks_back=True) == []
        found = client.claim(group_size=NO_SUSPECTS - 1)
        assert {task.id: task.crashes for task in found} == {
            suspects[0].id: SUSPECT_AFTER,
            suspects[1].id: SUSPECT_AFTER + 1,
        }

    def test_suspects_that_run_in_child_processes_are_claimed_always(self, backend: Backend) -> None:
        suspect = backend.crashed(SUSPECT_AFTER)
        client = backend.client()
        assert client.claim(group_size=NO_SUSPECTS, isolated_kinds=("another kind",)) == []
        found = client.claim(group_size=NO_SUSPECTS, isolated_kinds=("another kind", suspect.kind))
        assert ids(found) == [suspect.id]

    def test_a_pool_that_is_not_registered_claims_nothing(self, backend: Backend) -> None:
        task = backend.insert(backend.note())
        stranger, former = backend.stranger(), backend.client()
        former.unregister()
        former.update_kinds("another kind")  # this must not bring its record back
        for client in (stranger, former):
            claim = client.ask()
            assert (claim.tasks, claim.registered) == ([], False)
        assert backend.row(task) == task
        stranger.register()
        stranger.register()  # registering twice is allowed
        assert ids(stranger.claim()) == [task.id]

    def test_a_claim_reaches_what_lies_behind_its_place(self, backend: Backend) -> None:
        """Lets a backend return tasks before the place too; lanes without a place are read from their start."""
        first, second, third = [backend.insert(backend.note(n=n)) for n in range(3)]
        other = backend.insert(backend.note(), priority=1)
        mail = backend.insert(backend.note(), task_type="mail")
        client = backend.client(task_types=("common", "mail"))
        place = {("common", 0): (first.scheduled_at, first.id)}
        found = [task for task in client.claim(after=place) if task.id != first.id]
        assert ids(found) == ids([second, third, other, mail])
        if backend.row(first).state is TaskState.NEW:
            assert ids(client.claim(after=place, looks_back=True)) in ([], [first.id])
            client.claim()
        assert backend.row(first).pool_id == client.id

    def test_of_pools_that_claim_at_the_same_time_each_task_has_one(self, backend: Backend) -> None:
        """Checks also that the tasks of each claim are in order."""
        inserted = [
            task for priority in (1, 0) for task in backend.insert_many([backend.note()] * 15, priority=priority)
        ]
        place = {task.id: n for n, task in enumerate(sorted(inserted, key=order))}
        clients = [backend.client() for _ in range(3)]
        found: dict[UUID, Client] = {}
        while len(found) < len(place):
            claims = backend.call_together(*(partial(client.store.claim, client.request(4)) for client in clients))
            assert any(claim.tasks for claim in claims), "some tasks wait, and no pool can claim them"
            for client, (tasks, *_) in zip(clients, claims, strict=True):
                assert [place[task.id] for task in tasks] == sorted(place[task.id] for task in tasks)
                assert found.keys().isdisjoint(ids(tasks))
                found |= dict.fromkeys(ids(tasks), client)
        for task in inserted:
            row = backend.row(task)
            assert (row.attempt, row.pool_id) == (1, found[task.id].id)


def ids(tasks: Sequence[Task | ClaimedTask]) -> list[UUID]:
    """Returns the ids of the tasks, in order."""
    return [task.id for task in tasks]


def order(task: Task) -> tuple[object, ...]:
    """Returns the key by which the tasks of one type are ordered."""
    return task.priority, task.scheduled_at, task.id.bytes
