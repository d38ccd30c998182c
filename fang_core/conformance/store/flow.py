"""Tests claims from task types that are paused, or have limits, rates or fairness."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest

from fang_core.backends.claims import LaneClaim
from fang_core.backends.waking import LateRows
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.clients import Client
from fang_core.conformance.store.claims import ids
from fang_core.crashes import SUSPECT_AFTER
from fang_core.flow.limits import Fair, FlowRule, Limit, Rate
from fang_core.record import ClaimedTask, Task, TaskState

TYPE: Final = "conformance.limited"
BY: Final = "n"
HOUR: Final = timedelta(hours=1)


def managing(backend: Backend, *rules: FlowRule, **record: Any) -> Client:
    """Returns a pool, which has declared that these rules hold for the type of the limited notes."""
    kind = backend.limited_note.__fang_options__.kind
    client = backend.client(**{"task_types": (TYPE,), "kinds": (kind,), **record})
    client.declare(*rules, kind=kind, task_type=TYPE)
    return client


def insert(backend: Backend, keys: Sequence[int], **options: Any) -> list[Task]:
    """Inserts a limited note with each of these keys."""
    return [backend.insert(backend.limited_note(n=key), **options) for key in keys]


def started(backend: Backend, claim: LaneClaim) -> list[int]:
    """Returns the keys of what was claimed, in order."""
    return [int(backend.row(task).lane or -1) for task in claim.tasks]


class FlowSuite:
    """Tests ``Store.claim_lanes``, ``tell_types`` and ``adopt``, and what other methods do to managed types."""

    # Who claims -------------------------------------------------------------------------------------------------------

    def test_plain_claims_leave_managed_types_alone_and_name_them(self, backend: Backend) -> None:
        client = managing(backend, Limit(5), task_types=("common", TYPE), kinds=_kinds(backend))
        limited, plain = backend.insert(backend.limited_note()), backend.insert(backend.note())
        claim = client.ask()
        assert (ids(claim.tasks), list(claim.managed)) == ([plain.id], [TYPE])
        claim = client.ask(task_types=("common",))
        assert (claim.tasks, list(claim.managed)) == ([], [])
        assert ids(client.claim_lanes().tasks) == [limited.id]

    def test_a_claim_from_a_type_that_is_not_managed_brings_nothing_and_says_so(self, backend: Backend) -> None:
        client = managing(backend, Limit(5))
        task = backend.insert(backend.limited_note())
        client.declare(kind=client.record.kinds[0], task_type=TYPE)
        claim = client.claim_lanes()
        assert (claim.tasks, claim.registered, claim.is_managed, claim.room) == ([], True, False, None)
        assert ids(client.claim()) == [task.id]

    def test_a_claim_marks_tasks_as_any_claim_does(self, backend: Backend) -> None:
        client = managing(backend, Limit(5))
        (inserted,) = insert(backend, [7])
        claim = client.claim_lanes()
        assert len(claim.tasks) == 1
        task, row = claim.tasks[0], backend.row(inserted)
        assert (row.state, row.attempt, row.pool_id, row.lane) == (TaskState.IN_PROGRESS, 1, client.id, "7")
        assert row.claimed_at is not None
        assert (task.id, task.attempt, task.kind, task.task_type) == (row.id, 1, row.kind, TYPE)
        assert abs(claim.now - row.claimed_at) < HOUR
        assert client.end(task)

    def test_only_tasks_that_are_due_and_wanted_are_claimed_from_managed_types(self, backend: Backend) -> None:
        client = managing(backend, Limit(50))
        insert(backend, [1], delay=HOUR)
        backend.insert(backend.note(), task_type=TYPE)  # of a kind that the pool does not know
        backend.insert(backend.note())
        (due,) = insert(backend, [2])
        assert ids(client.claim_lanes().tasks) == [due.id]
        assert client.claim_lanes().tasks == []

    def test_a_pool_that_is_not_registered_claims_nothing_from_managed_types(self, backend: Backend) -> None:
        client = managing(backend, Limit(5))
        insert(backend, [1])
        client.unregister()
        claim = client.claim_lanes()
        assert (claim.tasks, claim.registered) == ([], False)

    def test_suspects_are_left_out_of_claims_from_managed_types_unless_asked_for(self, backend: Backend) -> None:
        client = managing(backend, Limit(5), kinds=_kinds(backend))
        suspect = backend.crashed(SUSPECT_AFTER, task_type=TYPE)
        assert client.claim_lanes(group_size=NO_SUSPECTS).tasks == []
        assert client.claim_lanes(group_size=NO_SUSPECTS, isolated_kinds=("another kind",)).tasks == []
        assert ids(client.claim_lanes().tasks) == [suspect.id]

    def test_suspects_that_must_run_alone_are_left_out_though_their_kind_runs_in_child_processes(
        self, backend: Backend
    ) -> None:
        backend.needs("outlives_processes")
        watcher = managing(backend, Limit(5), kinds=_kinds(backend))
        suspect = backend.crashed(SUSPECT_AFTER, task_type=TYPE)
        other = backend.insert(backend.note(), task_type=TYPE)
        dead = backend.client(task_types=(TYPE,), workers=1)
        assert set(ids(dead.claim_lanes().tasks)) == {suspect.id, other.id}
        (pulse,) = (each for each in watcher.beat().pulses if each.pool_id == dead.id)
        assert len(watcher.rescue(pulse)) == 2
        assert backend.row(suspect).group_limit == 1
        found = watcher.claim_lanes(group_size=2, isolated_kinds=(suspect.kind,)).tasks
        assert ids(found) == [other.id]
        assert ids(watcher.claim_lanes(group_size=1, isolated_kinds=(suspect.kind,)).tasks) == [suspect.id]

    # Pause ------------------------------------------------------------------------------------------------------------

    def test_nothing_of_a_paused_type_is_claimed_until_it_is_resumed(self, backend: Backend) -> None:
        client = managing(backend, Limit(50))
        before = insert(backend, [1])
        backend.call(backend.queue.pause, TYPE)
        meanwhile = insert(backend, [2])
        for _ in range(2):
            claim = client.claim_lanes()
            assert (claim.tasks, claim.room, claim.look_in, claim.is_managed) == ([], None, None, True)
            assert client.claim() == []
            assert backend.fetch(TYPE) is None
        backend.call(backend.queue.resume, TYPE)
        assert set(ids(client.claim_lanes().tasks)) == set(ids([*before, *meanwhile]))

    def test_a_claim_says_when_a_pause_is_over(self, backend: Backend) -> None:
        client = managing(backend, Limit(50))
        backend.call(backend.queue.pause, TYPE, until=HOUR)
        look_in = client.claim_lanes().look_in
        assert look_in is not None
        assert 3_000 < look_in <= 3_600

    def test_a_type_without_limits_that_was_paused_is_like_any_other_when_it_is_resumed(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",))
        before = backend.insert(backend.note(), task_type="exports")
        backend.call(backend.queue.pause, "exports")
        meanwhile = backend.insert(backend.note(), task_type="exports")
        assert client.claim() == []
        backend.call(backend.queue.resume, "exports")
        assert set(ids(client.claim())) == {before.id, meanwhile.id}

    # Limits -----------------------------------------------------------------------------------------------------------

    def test_a_type_has_no_more_runs_than_its_limit(self, backend: Backend) -> None:
        client, other = managing(backend, Limit(3)), managing(backend, Limit(3))
        insert(backend, [1] * 5)
        assert [len(client.claim_lanes(2).tasks), len(other.claim_lanes().tasks)] == [2, 1]
        for each in (client, other):
            claim = each.claim_lanes()
            assert (claim.tasks, claim.room) == ([], 0)

    def test_each_key_has_no_more_runs_than_its_limit_and_holds_up_no_other(self, backend: Backend) -> None:
        client = managing(backend, Limit(2, by=BY))
        insert(backend, [1] * 10)
        insert(backend, [2, 3])
        assert Counter(started(backend, client.claim_lanes())) == {1: 2, 2: 1, 3: 1}
        claim = client.claim_lanes(10)
        assert (claim.tasks, claim.room, claim.after_lane) == ([], 10, None)

    def test_both_limits_hold_together(self, backend: Backend) -> None:
        client = managing(backend, Limit(3), Limit(2, by=BY))
        insert(backend, [1, 1, 1, 2, 2, 2])
        found = Counter(started(backend, client.claim_lanes()))
        assert found.total() == 3
        assert max(found.values()) == 2

    def test_a_limit_of_none_at_once_starts_none(self, backend: Backend) -> None:
        client = managing(backend, Limit(0))
        insert(backend, [1])
        claim = client.claim_lanes()
        assert (claim.tasks, claim.room) == ([], None)

    def test_a_key_in_two_priorities_has_one_sum(self, backend: Backend) -> None:
        client = managing(backend, Limit(1, by=BY))
        insert(backend, [1], priority=1)
        (first,) = insert(backend, [1], priority=-1)
        assert ids(client.claim_lanes().tasks) == [first.id]

    def test_priorities_come_before_keys(self, backend: Backend) -> None:
        client = managing(backend, Fair(BY))
        insert(backend, [1, 1], priority=0)
        first = insert(backend, [2, 2], priority=-1)
        assert set(ids(client.claim_lanes(2).tasks)) == set(ids(first))

    def test_a_slot_is_free_when_its_row_is_no_longer_in_progress(self, backend: Backend) -> None:
        client = managing(backend, Limit(1))
        ways: dict[str, Callable[[ClaimedTask], object]] = {
            "removed": client.end,
            "kept": lambda task: client.end(task, TaskState.FINISHED),
            "failed": lambda task: client.end(task, TaskState.FAILED, charge=1),
            "retried": lambda task: client.end(task, TaskState.RETRIED, charge=1, delay=HOUR),
            "snoozed": lambda task: client.end(task, TaskState.NEW, delay=HOUR),
            "ended by hand": lambda task: backend.move(backend.row(task), TaskState.FAILED),
            "deleted": lambda task: backend.call(backend.queue.remove_task, task.id),
            "given back": lambda task: client.reconcile(),
        }
        insert(backend, [1])
        (task,) = client.claim_lanes().tasks
        for name, leave in ways.items():
            insert(backend, [2])
            assert client.claim_lanes().tasks == []
            assert leave(task), name
            found = client.claim_lanes().tasks
            assert len(found) == 1, f"no slot is free though the row was {name}"
            task = found[0]

    def test_pools_that_claim_at_the_same_time_exceed_no_limit(self, backend: Backend) -> None:
        rules = (Limit(7), Limit(2, by=BY))
        clients = [managing(backend, *rules) for _ in range(4)]
        rows = insert(backend, list(range(6)) * 10)
        done: set[UUID] = set()
        for _ in range(1_000):
            claims = backend.call_together(*(partial(each.store.claim_lanes, each.lanes(3)) for each in clients))
            held = [row for row in map(backend.find, rows) if row is not None and row.state is TaskState.IN_PROGRESS]
            assert len(held) <= 7
            assert max(Counter(row.lane for row in held).values(), default=0) <= 2
            assert all(claim.tasks or claim.room is not None for claim in claims)
            for client, claim in zip(clients, claims, strict=True):
                assert done.isdisjoint(ids(claim.tasks))
                for task in claim.tasks[:2]:  # one stays held until the next round
                    assert client.end(task)
                    done.add(task.id)
            if len(done) == len(rows):
                return
            for client in clients:
                client.reconcile()
        pytest.fail(f"{len(rows) - len(done)} of {len(rows)} tasks were never claimed")

    def test_tasks_that_are_fetched_by_hand_count(self, backend: Backend) -> None:
        client = managing(backend, Limit(2))
        insert(backend, [1, 2, 3])
        assert backend.fetch(TYPE) is not None
        assert len(client.claim_lanes().tasks) == 1
        assert backend.fetch(TYPE) is None

    def test_what_waited_when_limits_were_set_is_claimed_and_counted(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",))
        for _ in range(5):
            backend.insert(backend.note(), task_type="exports")
        assert len(client.claim(2)) == 2
        backend.call(backend.queue.limits.set, "exports", [Limit(3)])
        client.adopt("exports")
        assert len(client.claim_lanes(task_type="exports").tasks) == 1
        assert client.claim_lanes(task_type="exports").room == 0

    def test_what_waited_when_a_pool_declared_limits_is_adopted_batch_by_batch(self, backend: Backend) -> None:
        client = backend.client(task_types=("exports",))
        for _ in range(5):
            backend.insert(backend.note(), task_type="exports")
        assert len(client.claim(2)) == 2
        client.declare(Limit(4), kind=client.record.kinds[0], task_type="exports")
        client.adopt("exports", most=1)
        assert len(client.claim_lanes(task_type="exports").tasks) == 2
        assert client.claim_lanes(task_type="exports").room == 0

    def test_one_call_adopts_all_that_waits_and_runs_of_a_type_before_a_drain_ends(self, backend: Backend) -> None:
        client, other = [backend.client(task_types=("exports", "mail")) for _ in range(2)]
        for task_type in ("exports", "mail") * 12:
            backend.insert(backend.note(), task_type=task_type)
        assert len(other.claim(2, task_types=("exports",))) == 2
        for task_type in ("exports", "mail"):
            client.declare(Limit(5), kind=client.record.kinds[0], task_type=task_type)
        client.adopt_all("exports")
        assert len(client.claim_lanes(task_type="exports").tasks) == 3
        client.adopt_all("exports")  # nothing is left to adopt
        assert client.claim_lanes(task_type="exports").room == 0

    # Rates ------------------------------------------------------------------------------------------------------------

    def test_a_rate_allows_its_burst_and_then_says_when_the_next_start_may_be(self, backend: Backend) -> None:
        client, other = [managing(backend, Rate(1, per=HOUR, burst=3)) for _ in range(2)]
        insert(backend, [1] * 5)
        assert [len(client.claim_lanes(2).tasks), len(other.claim_lanes().tasks)] == [2, 1]
        claim = client.claim_lanes()
        assert (claim.tasks, claim.room) == ([], 0)
        assert claim.look_in is not None
        assert 3_000 < claim.look_in <= 3_600

    def test_a_rate_is_charged_for_what_was_claimed_and_for_nothing_else(self, backend: Backend) -> None:
        client = managing(backend, Rate(1, per=HOUR, burst=2))
        for _ in range(5):
            assert client.claim_lanes().tasks == []
        insert(backend, [1] * 5)
        (task,) = client.claim_lanes(1).tasks
        client.end(task)  # that frees no start
        assert len(client.claim_lanes().tasks) == 1
        assert client.claim_lanes().tasks == []

    def test_a_rate_of_each_key_holds_up_no_other_key(self, backend: Backend) -> None:
        client = managing(backend, Rate(1, per=HOUR, burst=2, by=BY))
        insert(backend, [1] * 5)
        insert(backend, [2])
        assert Counter(started(backend, client.claim_lanes())) == {1: 2, 2: 1}
        claim = client.claim_lanes()
        assert (claim.tasks, claim.after_lane) == ([], None)
        assert claim.look_in is not None
        assert 3_000 < claim.look_in <= 3_600
        insert(backend, [2, 3])
        assert sorted(started(backend, client.claim_lanes())) == [2, 3]

    # Turns ------------------------------------------------------------------------------------------------------------

    def test_keys_take_turns_however_many_tasks_they_have(self, backend: Backend) -> None:
        client = managing(backend, Fair(BY))
        many = insert(backend, [1] * 40)
        insert(backend, [2, 3, 2, 3])
        first, place = [], ""
        for _ in range(4):
            claim = client.claim_lanes(8, after_lane=place)
            first += claim.tasks
            place = claim.after_lane or place
        assert 16 <= len(first) <= 32
        found = [row.lane for row in map(backend.row, first)]
        assert Counter(found)["2"] == Counter(found)["3"] == 2
        of_many = [task.id for task in first if task.id in set(ids(many))]
        assert of_many == ids(many)[: len(of_many)]  # the order within a key is kept

    def test_a_claim_begins_behind_the_key_that_it_is_told(self, backend: Backend) -> None:
        client = managing(backend, Fair(BY), Limit(50))
        insert(backend, [1, 2, 3])
        claim = client.claim_lanes(1, after_lane="1")
        assert (started(backend, claim), claim.after_lane) == ([2], "2")
        claim = client.claim_lanes(1, after_lane="3")
        assert (started(backend, claim), claim.after_lane) == ([1], "1")
        assert started(backend, client.claim_lanes(after_lane="nobody's")) == [3]

    def test_keys_with_few_tasks_are_told_and_a_claim_that_expects_that_is_full(self, backend: Backend) -> None:
        client = managing(backend, Limit(9, by=BY))
        insert(backend, [1, 2, 3, 4, 5, 6, 7, 8])
        claim = client.claim_lanes(4, quantum=4)
        assert (started(backend, claim), claim.is_short) == ([1], True)
        claim = client.claim_lanes(4, quantum=2, after_lane="1")
        assert (started(backend, claim), claim.is_short) == ([2, 3], True)
        claim = client.claim_lanes(4, quantum=1, after_lane="3")
        assert (started(backend, claim), claim.is_short) == ([4, 5, 6, 7], False)
        claim = client.claim_lanes(4, quantum=1, after_lane="7")  # there are no more keys
        assert (started(backend, claim), claim.is_short) == ([8], False)

    def test_a_claim_from_full_keys_is_not_told_to_be_short(self, backend: Backend) -> None:
        client = managing(backend, Limit(1, by=BY))
        insert(backend, [1, 1, 2, 2])
        claim = client.claim_lanes(4)
        assert (sorted(started(backend, claim)), claim.is_short) == ([1, 2], False)
        assert (client.claim_lanes(4).tasks, client.claim_lanes(4).is_short) == ([], False)

    def test_claims_that_look_at_few_keys_reach_all_in_the_end(self, backend: Backend) -> None:
        client = managing(backend, Limit(1, by=BY))
        insert(backend, range(9))
        held = client.claim_lanes().tasks
        assert len(held) == 9
        insert(backend, range(9))
        assert client.end(held[6])
        place, found = "", []
        for _ in range(4):
            claim = client.claim_lanes(most_lanes=3, after_lane=place)
            found += started(backend, claim)
            place = claim.after_lane or place
        assert found == [6]

    def test_claims_that_look_at_few_keys_pass_over_none_of_a_high_priority(self, backend: Backend) -> None:
        _find_key_of_many(backend, priority=1, others=0)

    def test_claims_that_look_at_few_keys_pass_over_none_of_a_low_priority(self, backend: Backend) -> None:
        _find_key_of_many(backend, priority=0, others=1)

    def test_a_claim_tells_how_far_it_looked_at_keys_of_a_higher_priority(self, backend: Backend) -> None:
        client = managing(backend, Limit(1, by=BY))
        insert(backend, range(9))
        held = {int(backend.row(task).lane or -1): task for task in client.claim_lanes().tasks}
        insert(backend, range(6), priority=0)
        insert(backend, [6, 7, 8] * 9, priority=1)
        for key in (5, 6, 7, 8):
            assert client.end(held[key])
        claim = client.claim_lanes(1, most_lanes=3)
        assert (started(backend, claim), claim.after_lane, claim.cut_at) == ([6], "6", "2")
        claim = client.claim_lanes(1, most_lanes=3, after_lane="6")
        assert (started(backend, claim), claim.after_lane, claim.cut_at) == ([7], "7", "2")
        claim = client.claim_lanes(1, most_lanes=3, after_lane="2")
        assert (started(backend, claim), claim.after_lane, claim.cut_at) == ([5], "5", None)
        claim = client.claim_lanes(1, most_lanes=9)
        assert (started(backend, claim), claim.cut_at) == ([8], None)

    # Waking -----------------------------------------------------------------------------------------------------------

    def test_pools_are_told_when_tasks_of_a_managed_type_may_start(self, backend: Backend) -> None:
        """Checks that it differs from what an ordinary insert says, which does not help a type that is full."""
        backend.needs("wakes")
        client = managing(backend, Limit(1), Limit(1, by=BY))
        told = threading.Event()

        def on_wake(late: LateRows | None) -> None:
            if late is not None and late.task_type == TYPE:
                told.set()

        listener = backend.client(task_types=(TYPE,))
        listener.listen(on_wake)
        deadline = time.monotonic() + WITHIN
        while not backend.wait_for(told, 0.2):  # it may take a moment until it listens
            assert time.monotonic() < deadline, "no pool is told"
            client.tell_types("others", TYPE)
        insert(backend, [1])
        (task,) = client.claim_lanes().tasks
        writes: dict[str, Callable[[], object]] = {
            "a change by hand": lambda: backend.move(backend.row(task), TaskState.FAILED),
            "new limits": lambda: backend.call(backend.queue.limits.set, TYPE, [Limit(2), Limit(1, by=BY)]),
            "a resume": lambda: backend.call(backend.queue.resume, TYPE),
        }
        backend.call(backend.queue.pause, TYPE)
        for name, write in writes.items():
            while backend.wait_for(told, 0.1):  # until earlier notifications have arrived
                told.clear()
            write()
            assert backend.wait_for(told), f"{name} tells no pool"

    # Pools ------------------------------------------------------------------------------------------------------------

    def test_a_pool_runs_all_tasks_of_its_classes_with_limits(self, backend: Backend) -> None:
        insert(backend, [1, 1, 1, 2, 2, 3] * 3)
        backend.insert(backend.note(n=100))
        assert backend.drain(task_type=[TYPE, "common"], number_of_workers=5) == 19
        assert Counter(ran.n for ran in backend.journal) == {1: 9, 2: 6, 3: 3, 100: 1}

    def test_a_drain_leaves_what_is_paused(self, backend: Backend) -> None:
        backend.insert(backend.note(n=1), task_type="paused")
        backend.insert(backend.note(n=2))
        backend.call(backend.queue.pause, "paused")
        assert backend.drain(task_type=["paused", "common"]) == 1
        backend.call(backend.queue.resume, "paused")
        assert backend.drain(task_type=["paused", "common"]) == 1

    def test_a_drain_leaves_what_a_limit_of_0_holds_back(self, backend: Backend) -> None:
        client = managing(backend, Limit(5))
        backend.call(backend.queue.limits.set, TYPE, [Limit(0)])
        insert(backend, [1, 2])
        backend.insert(backend.note(n=3))
        assert client.claim_lanes().room is None  # no run will leave a slot
        assert backend.drain(task_type=[TYPE, "common"]) == 1
        backend.call(backend.queue.limits.set, TYPE, [Limit(1)])
        assert backend.drain(task_type=[TYPE, "common"]) == 2


def _find_key_of_many(backend: Backend, *, priority: int, others: int) -> None:
    """Has claims look at three keys of each priority: the first ones of one lie closer together than the others'."""
    client = managing(backend, Limit(1, by=BY))
    insert(backend, range(10))
    held = {int(backend.row(task).lane or -1): task for task in client.claim_lanes().tasks}
    insert(backend, [1, 2, 3, 4, 5, 6], priority=priority)
    insert(backend, [1, 7, 8, 9], priority=others)
    assert client.end(held[5])
    first = client.claim_lanes(most_lanes=3, after_lane="0")
    assert (first.tasks, first.after_lane) == ([], "3")
    assert started(backend, client.claim_lanes(most_lanes=3, after_lane="3")) == [5]


def _kinds(backend: Backend) -> tuple[str, ...]:
    return tuple(each.__fang_options__.kind for each in (backend.note, backend.limited_note))
