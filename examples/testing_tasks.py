"""Tests an application's tasks on the memory backend: without a database, and without waiting for later tasks.

Run it with `pytest examples/testing_tasks.py` or `python examples/testing_tasks.py`.
"""

from datetime import timedelta

from fang_core import Cancel, Constant, MemoryQueue, Queueable, Runnable, TaskConfig, TaskState
from fang_core.testing import SUCCESS, Cancelled, Clock, assert_inserted, perform, refute_inserted
from fang_threaded import WorkerPool

# The application ------------------------------------------------------------------------------------------------------

STOCK = {"tea": 2}
PAYMENTS: list[int] = []


class Ship(Runnable):
    order: int
    item: str

    def run(self, queue: Queueable) -> None:
        if self.item not in STOCK:
            raise Cancel(f"we do not sell {self.item}")
        STOCK[self.item] -= 1


class AwaitPayment(Runnable):
    task_config = TaskConfig(max_retries=2, backoff=Constant(delay=timedelta(days=1), jitter=0))

    order: int
    item: str

    def run(self, queue: Queueable) -> None:
        if self.order not in PAYMENTS:
            raise LookupError("not paid yet")
        queue.insert_task(Ship(order=self.order, item=self.item), priority=-1)


# Its tests ------------------------------------------------------------------------------------------------------------


def test_what_is_paid_is_shipped_first() -> None:
    queue = MemoryQueue()
    PAYMENTS.append(1)
    assert perform(AwaitPayment(order=1, item="tea"), queue) is SUCCESS
    assert assert_inserted(queue, Ship, order=1, item="tea").row.priority == -1


def test_what_we_do_not_sell_is_cancelled() -> None:
    assert perform(Ship(order=2, item="coffee")) == Cancelled("we do not sell coffee")


def test_a_payment_is_awaited_for_two_days() -> None:
    clock = Clock()
    queue = MemoryQueue(clock=clock)
    pool = WorkerPool(queue)
    queue.insert_task(AwaitPayment(order=3, item="tea"))

    for _ in range(3):
        assert pool.drain() == 1
        clock.advance(timedelta(days=1))

    assert pool.drain() == 0
    assert assert_inserted(queue, AwaitPayment, order=3).row.state is TaskState.FAILED
    refute_inserted(queue, Ship)


if __name__ == "__main__":
    tests = [value for name, value in list(globals().items()) if name.startswith("test_")]
    for test in tests:
        test()
    print(f"{len(tests)} tests passed")
