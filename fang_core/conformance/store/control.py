"""Tests what a pool learns with its beats: messages of other processes, and the tasks that it no longer holds."""

import json
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from fang_core.backends.waking import SCHEDULES
from fang_core.conformance.backend import WITHIN, Backend
from fang_core.conformance.store.leases import seen
from fang_core.errors import UnknownPool
from fang_core.messages import Delivery, PoolMessage, Resize, SetLogLevel, Stop
from fang_core.record import ClaimedTask, PoolInfo, Progress, TaskState


def control(backend: Backend, pool_id: UUID, *messages: PoolMessage) -> None:
    """Sends a pool these messages, or ``Stop()``."""
    for message in messages or [Stop()]:
        backend.call(backend.queue.control, pool_id, message)


def pools(backend: Backend) -> list[PoolInfo]:
    """Calls ``queue.pools``."""
    listed: list[PoolInfo] = backend.call(backend.queue.pools)
    return listed


def sent(messages: Sequence[Delivery]) -> list[PoolMessage | None]:
    """Returns the messages without what came with them."""
    return [delivery.message for delivery in messages]


class ControlSuite:
    """Tests ``queue.control`` and ``queue.pools``, and ``BeatRequest`` with what a beat answers to it."""

    # Messages ---------------------------------------------------------------------------------------------------------

    def test_a_message_comes_with_each_beat_until_it_is_handled(self, backend: Backend) -> None:
        told, other = backend.client(), backend.client()
        assert sent(told.beat().messages) == sent(other.beat().messages) == []
        control(backend, told.id, Resize(workers=7), SetLogLevel("DEBUG"), Stop())
        messages = told.beat().messages
        assert sent(messages) == [Resize(workers=7), SetLogLevel("DEBUG"), Stop()]
        first, second, third = messages
        assert all(delivery.sender for delivery in messages)
        assert told.beat().messages == messages  # the reply to the last beat may have been lost
        assert told.beat(handled=[second.id, first.id]).messages == [third]
        assert told.beat(handled=[second.id, first.id]).messages == [third]  # this reply, too
        assert sent(told.beat(handled=[third.id]).messages) == []
        assert sent(told.beat().messages) == sent(other.beat().messages) == []

    def test_a_pool_handles_only_messages_of_its_own(self, backend: Backend) -> None:
        told, other = backend.client(), backend.client()
        control(backend, told.id)
        messages = told.beat().messages
        assert sent(messages) == [Stop()]
        other.beat(handled=[messages[0].id])
        assert told.beat().messages == messages

    def test_what_is_told_makes_a_pool_listen_up_that_listens(self, backend: Backend) -> None:
        backend.needs("wakes")
        told, other = backend.client(), backend.client()
        heard: list[UUID] = []
        is_told = threading.Event()

        def on_told(pool_id: UUID) -> None:
            if pool_id != SCHEDULES:  # a listener that has just connected looks at schedules
                heard.append(pool_id)
                is_told.set()

        other.listen(lambda _: None, on_told)
        for _ in range(int(WITHIN / 0.2)):  # a backend may need a moment until it listens
            control(backend, told.id)
            if backend.wait_for(is_told, 0.2):
                break
        assert set(heard) == {told.id}

    def test_messages_end_with_their_pool(self, backend: Backend) -> None:
        client = backend.client()
        control(backend, client.id)
        client.unregister()
        for pool_id in (client.id, uuid4()):
            with pytest.raises(UnknownPool, match=str(pool_id)):
                control(backend, pool_id)
        client.register()
        assert sent(client.beat().messages) == []

    def test_messages_to_a_dead_pool_end_with_it(self, backend: Backend) -> None:
        backend.needs("outlives_processes")
        dead, watcher = backend.client(), backend.client()
        dead.beat()
        control(backend, dead.id)
        watcher.rescue(seen(watcher, dead))
        with pytest.raises(UnknownPool):
            control(backend, dead.id)
        dead.register()
        assert sent(dead.beat().messages) == []

    # Tasks ------------------------------------------------------------------------------------------------------------

    def test_of_the_tasks_that_a_pool_names_it_hears_which_it_has_lost(self, backend: Backend) -> None:
        client, other = backend.client(), backend.client()
        backend.insert_many([backend.note(n=n) for n in range(6)])
        kept, removed, cancelled, again, unnamed = client.claim(5)
        (others,) = other.claim()
        held = [kept, removed, cancelled, again, others]

        def lost(*tasks: ClaimedTask) -> set[UUID]:
            told = client.beat(held=[(task.id, task.attempt) for task in tasks]).lost
            assert len(told) == len(set(told))
            return set(told)

        assert lost() == set()
        assert lost(*held) == {others.id}
        for task in (removed, unnamed):
            backend.call(backend.queue.remove_task, task.id)
        backend.move(backend.row(cancelled), TaskState.CANCELLED)
        backend.move(backend.row(again), TaskState.NEW)
        assert lost(*held) == {removed.id, cancelled.id, again.id, others.id}
        (again_held,) = client.claim()
        assert lost(*held) == {removed.id, cancelled.id, again.id, others.id}
        assert lost(kept, again_held) == set()
        assert lost(again_held, removed) == {removed.id}

    # Pools ------------------------------------------------------------------------------------------------------------

    def test_the_registered_pools_are_listed_with_what_they_have_said(self, backend: Backend) -> None:
        assert pools(backend) == []
        first, second = backend.client(task_types=("mail", "common"), workers=3), backend.client()
        for client in (first, second):
            client.beat()
        listed = pools(backend)
        assert [pool.id for pool in listed] == [first.id, second.id]
        record = first.record
        assert listed[0][:7] == record[:7]
        assert not listed[0].stopping
        assert listed[0].runs == {}
        first.beat(stopping=True, runs='{"a": {"text": "half"}}')
        first.beat(stopping=True)
        assert pools(backend)[0] == listed[0]._replace(stopping=True, runs={"a": {"text": "half"}})
        first.beat(runs="{}")
        assert pools(backend) == listed
        first.unregister()
        assert pools(backend) == listed[1:]

    def test_a_task_is_found_with_what_its_pool_tells_of_this_attempt(self, backend: Backend) -> None:
        client = backend.client()
        backend.insert_many([backend.note(), backend.note()])
        task, silent = client.claim(2)
        assert backend.row(task).progress is None
        said = {"attempt": task.attempt, "progress": {"done": 2, "total": None, "text": "half"}}

        def say(**changed: Any) -> None:
            client.beat(runs=json.dumps({str(task.id): {**said, **changed}}))

        say()
        assert backend.row(task).progress == Progress(2, None, "half")
        assert backend.row(silent).progress is None
        strange = ({"attempt": task.attempt + 1}, {"progress": None}, {"progress": [2]}, {"progress": {"done": "two"}})
        for changed in strange:
            say(**changed)
            assert backend.row(task).progress is None
        say(progress={"done": 2.5, "total": 5})
        assert backend.row(task).progress == Progress(2.5, 5)
        client.beat(runs="{}")
        assert backend.row(task).progress is None

    def test_a_beat_says_how_many_tasks_the_pool_runs_at_once(self, backend: Backend) -> None:
        first, second = backend.client(workers=3), backend.client(workers=4)
        first.beat(workers=5)
        assert [pool.workers for pool in pools(backend)] == [5, 4]
        first.beat()
        second.beat(workers=1)
        assert [pool.workers for pool in pools(backend)] == [5, 1]
