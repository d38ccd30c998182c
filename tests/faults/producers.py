"""Applications that insert while something is wrong, and do what an error tells them to."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from fang_async import AsyncQueue
from fang_core.errors import BackendError, BackendUnavailable, NotConnected, OutcomeUnknown
from fang_core.tasks.registry import Mode
from fang_threaded import Queue
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial

PACE: Final = 0.02
"""Seconds between two inserts, and between two tries of one."""


class Producer:
    """Inserts one task after the other, each with an id of its own; one that failed again, until it stands.

    That needs rows that stay when their tasks have ended: else a repeat would insert a task that has run once more.
    ``told`` counts by what the errors were; ``wrongs`` is what it was told and was not so.
    """

    def __init__(self, trial: Trial, mode: Mode, kind: Any, url: str) -> None:
        self._trial = trial
        self._mode = mode
        self._kind = kind
        self._url = url
        self._stopping = threading.Event()
        self.told: Counter[str] = Counter()
        self.inserted: list[UUID] = []
        self.wrongs: list[str] = []
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last insert stands."""
        self._stopping.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "an insert went on without an end"

    def _run(self) -> None:
        try:
            with _inserting(self._mode, self._url) as insert:
                while not self._stopping.wait(PACE):
                    self._insist(insert)
        except Exception as error:  # noqa: BLE001 - told to the trial's thread
            self.wrongs.append(f"{type(error).__name__}, which no insert should raise: {error}")

    def _insist(self, insert: Callable[..., Any]) -> None:
        task_id = uuid4()
        may_stand = False
        while True:
            try:
                inserted = insert(self._kind(name=str(task_id)), id=task_id)
            except OutcomeUnknown as error:
                may_stand = True
                self._trial.acknowledge(task_id, known=False)
                if error.ids != (task_id,):
                    self.wrongs.append(f"the ids of what may stand were {error.ids}")
                self._failed(error)
            except BackendError as error:
                if isinstance(error, BackendUnavailable) and not isinstance(error, NotConnected):
                    self.wrongs.append(f"an insert left open whether it stands: {error}")
                self._failed(error)
            else:
                break
        if inserted.conflict and not may_stand:
            self.wrongs.append("what had failed for certain was inserted")
        self._trial.acknowledge(task_id)
        self.inserted.append(task_id)

    def _failed(self, error: BackendError) -> None:
        self.told[type(error).__name__] += 1
        time.sleep(PACE)


@contextmanager
def _inserting(mode: Mode, url: str) -> Iterator[Callable[..., Any]]:
    if mode == "threaded":
        queue = Queue(url)
        try:
            yield queue.insert_task
        finally:
            queue.close()
    else:
        with asyncio.Runner() as runner:
            asyncio_queue = AsyncQueue(url)
            try:
                yield lambda task, **options: runner.run(asyncio_queue.insert_task(task, **options))
            finally:
                runner.run(asyncio_queue.close())


class Producers(list[Producer]):
    """One of each mode of the mix; in a mixed one each inserts for the other mode."""

    @property
    def told(self) -> Counter[str]:
        """By name, how often which error was raised."""
        return sum((each.told for each in self), Counter())

    @property
    def inserted(self) -> int:
        return sum(len(each.inserted) for each in self)


@contextmanager
def producing(trial: Trial, url: str | None = None) -> Iterator[Producers]:
    """While it is entered; fails where one was told something wrong, or an insert made two rows, or none."""
    kinds: dict[Mode, Any] = {"threaded": Blocking, "async": Cooperative}
    modes = MODES[trial.mix]
    producers = Producers(
        Producer(trial, mode, kinds[served], url or trial.url)
        for mode, served in zip(modes, reversed(modes), strict=True)
    )
    for each in producers:
        each.start()
    try:
        yield producers
    finally:
        for each in producers:
            each.stop()
    wrongs = [wrong for each in producers for wrong in each.wrongs]
    assert not wrongs, wrongs[:5]
    inserts = "SELECT count(*) FROM audit.tasks WHERE was IS NULL AND task_id = ANY(%s)"
    for each in producers:
        assert each.inserted, "nothing was inserted"
        assert trial.rows(inserts, each.inserted) == [(len(each.inserted),)], "an insert and its repeats made two rows"
