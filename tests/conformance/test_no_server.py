"""A queue whose server does not answer, in both modes: what was never sent is not told as unknown."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from fang_core import NotConnected
from tests.modes import Harness

NOWHERE = "postgresql://someone@127.0.0.1:1/nowhere"
VERBS: dict[str, Callable[[Any, Any], tuple[Any, ...]]] = {
    "insert_task": lambda queue, note: (queue.insert_task, note()),
    "insert_tasks": lambda queue, note: (queue.insert_tasks, [note(), note()]),
    "find_task_by_id": lambda queue, _: (queue.find_task_by_id, uuid4()),
    "fetch_and_touch_task": lambda queue, _: (queue.fetch_and_touch_task,),
    "remove_task": lambda queue, _: (queue.remove_task, uuid4()),
    "remove_tasks_type": lambda queue, _: (queue.remove_tasks_type, "common"),
    "remove_all_tasks": lambda queue, _: (queue.remove_all_tasks,),
    "remove_all_scheduled_tasks": lambda queue, _: (queue.remove_all_scheduled_tasks,),
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_was_sent(harness: Harness, verb: str) -> None:
    queue = harness.queue(NOWHERE)
    with pytest.raises(NotConnected, match="does not answer"):
        harness.call(*VERBS[verb](queue, harness.note))


def test_an_insert_that_is_unique_and_one_that_is_late(harness: Harness) -> None:
    queue = harness.queue(NOWHERE)
    with pytest.raises(NotConnected):
        harness.call(queue.insert_task, harness.note(), uniq=True)
    with pytest.raises(NotConnected):
        harness.call(queue.insert_task, harness.note(), delay=timedelta(hours=1))
