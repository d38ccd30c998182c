"""What pools of two releases that run side by side declare, in both modes."""

from datetime import timedelta

from fang_core import Limit, TaskConfig
from fang_core.backends.memory.state import MemoryState
from fang_core.backends.pools import Declaration
from fang_core.flow.limits import rules_as_json
from tests.modes import Harness, ran


def test_an_older_pool_that_learns_a_class_brings_no_old_number_back(harness: Harness) -> None:
    class Export(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind="tests.Export", task_type="exports", limits=[Limit(5)])

    state = MemoryState()
    queue = harness.memory_queue(state)
    harness.pool(queue, poll=timedelta(milliseconds=50), task_type="exports")
    of_newer_release = {"tests.Export": rules_as_json([Limit(2)])}
    state.managing.declare([Declaration("exports", of_newer_release)])

    class Learnt(harness.note):  # type: ignore[name-defined,misc]
        task_config = TaskConfig(kind="tests.Learnt", task_type="exports", limits=[Limit(5)])

    harness.call(queue.insert_task, Learnt(n=1))
    assert ran() == [1]
    (info,) = harness.call(queue.limits.list)
    assert info.declared == {"tests.Export": (Limit(2),), "tests.Learnt": (Limit(5),)}
