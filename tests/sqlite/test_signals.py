"""An exception that the handler of a signal raises, as Ctrl-C does, strikes anywhere, and leaves the file free."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fang_core.conformance.tasks import ThreadedNote
from fang_core.errors import RowsLocked
from fang_sqlite import SqliteQueue
from tests.patience import PATIENT

STRIKES = 500


class _Struck(BaseException):
    pass


def send(thread: int, after: float) -> None:
    time.sleep(after)
    signal.pthread_kill(thread, signal.SIGUSR1)


def insert_on(queue: SqliteQueue, striker: threading.Thread) -> None:
    """Inserts until it is struck. The interpreter drops an exception that strikes it where none can pass through, such
    as in a finalizer: then it ends after the striker."""
    striker.start()
    while striker.is_alive():
        queue.insert_task(ThreadedNote())
    queue.insert_task(ThreadedNote())


@pytest.fixture
def queue(sqlite_path: Path) -> Iterator[SqliteQueue]:
    before = signal.getsignal(signal.SIGUSR1)
    with SqliteQueue(sqlite_path, synchronous="normal") as queue:
        yield queue
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a strike in a finalizer
def test_a_call_that_is_struck_leaves_neither_the_file_locked_nor_a_fork_waiting(queue: SqliteQueue) -> None:
    def strike(*_: object) -> None:
        raise _Struck

    signal.signal(signal.SIGUSR1, strike)
    main, chance = threading.get_ident(), random.Random(1)
    struck = 0
    for _ in range(STRIKES):
        striker = threading.Thread(target=send, args=(main, chance.uniform(0.0, 0.001)))
        try:
            insert_on(queue, striker)
        except _Struck:
            struck += 1
        striker.join(PATIENT)
        file = queue._file
        assert file._writer is not None
        assert not file._writer.in_transaction
        assert not file._lock._is_owned()  # type: ignore[attr-defined]
        assert file._guard.is_still()
    assert struck > STRIKES / 2
    queue.insert_task(ThreadedNote())


def test_a_handler_that_calls_the_queue_in_the_middle_of_a_call_is_refused(queue: SqliteQueue) -> None:
    refused: list[str] = []

    def call(*_: object) -> None:
        with pytest.raises(RowsLocked) as raised:
            queue.insert_task(ThreadedNote())
        refused.append(str(raised.value))

    signal.signal(signal.SIGUSR1, call)
    queue.insert_task(ThreadedNote())
    with queue._file.writing() as tx:
        tx.run("DELETE FROM fang_tasks")
        signal.raise_signal(signal.SIGUSR1)
    assert queue.count_tasks().count == 0
    assert "do not call it in the handler of a signal" in refused[0]
    queue.insert_task(ThreadedNote())
    assert queue.count_tasks().count == 1
