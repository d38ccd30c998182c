"""What pools of two releases that run side by side declare, in both modes."""

from datetime import timedelta

from fang_core import Limit, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Declaration
from fang_core.flow.limits import rules_as_json
from tests.modes import Harness, ran

SOON = timedelta(milliseconds=50)


def test_an_older_pool_that_learns_a_class_brings_no_old_number_back(harness: Harness) -> None:
    class Export(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind=f"declaring.{harness.mode}.Export", task_type="declared", limits=[Limit(5)])

    state = MemoryState()
    queue = harness.memory_queue(state)
    harness.pool(queue, poll=SOON, task_type="declared")
    of_newer_release = {Export.__fang_options__.kind: rules_as_json([Limit(2)])}
    state.managing.declare([Declaration("declared", of_newer_release)])

    class Learnt(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind=f"declaring.{harness.mode}.Learnt", task_type="declared", limits=[Limit(5)])

    harness.call(queue.insert_task, Learnt(n=1))
    assert ran() == [1]
    (info,) = harness.call(queue.limits.list)
    kinds = (cls.__fang_options__.kind for cls in (Export, Learnt))
    assert info.declared == dict(zip(kinds, [(Limit(2),), (Limit(5),)], strict=True))


def test_a_pool_that_was_taken_for_dead_declares_what_another_one_has_dropped_meanwhile(harness: Harness) -> None:
    class Export(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind=f"declaring.{harness.mode}.Dead", task_type="dead", limits=[Limit(5)])

    state = MemoryState()
    queue = harness.memory_queue(state)
    pool = harness.pool(queue, poll=SOON, task_type="dead")
    with state.lock:
        del state.pools[pool.id]
        state.managing.declare([Declaration("dead", {"declaring.Other": []})])
        assert state.managing.list_types() == []
    harness.call(queue.insert_task, Export(n=1))
    assert ran() == [1]
    (info,) = harness.call(queue.limits.list)
    assert info.declared == {Export.__fang_options__.kind: (Limit(5),)}
