"""F23: workers and producers behind PgBouncer, which comes, goes and stands still."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from fang_core.errors import NotConnected, OutcomeUnknown
from fang_core.tasks.registry import Mode
from tests.faults.registry import BOUND, SHORT, SHORT_LEASE, fault
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial
from tests.modes import harness_of
from tests.pgbouncer import PgBouncer, pgbouncer


def reconnect(bouncer: PgBouncer) -> None:
    """Each session is replaced once it is free."""
    bouncer.tell("RECONNECT")


def pause(bouncer: PgBouncer) -> None:
    """For longer than the lease, so that every heart is silent for as long."""
    bouncer.tell("PAUSE")
    time.sleep(SHORT_LEASE + 2)
    bouncer.tell("RESUME")


def restart(bouncer: PgBouncer) -> None:
    """At once: all of its clients and sessions are cut, wherever they are."""
    bouncer.stop()
    bouncer.start()


def kill(bouncer: PgBouncer) -> None:
    """As ``restart``, by SIGKILL."""
    bouncer.stop(signal.SIGKILL)
    bouncer.start()


TROUBLES: Final[tuple[Callable[[PgBouncer], None], ...]] = (reconnect, restart, pause, kill)


@fault(
    "F23",
    "PgBouncer in transaction mode, two sessions for all: RECONNECT, restart, PAUSE past the lease, SIGKILL of it",
    quick=True,
    also=("I8",),
    given={**SHORT, "behind_pooler": True, "poll": 0.2},
)
def behind_pgbouncer(trial: Trial) -> None:
    """What producers were told holds: inserted, not inserted, or unknown."""
    with pgbouncer(trial.url) as bouncer:
        workers = trial.start(url=bouncer.url)
        with producing(trial, bouncer.url) as refused:
            for trouble in TROUBLES:
                before = trial.starts()
                trial.insert(80, seconds=0.05)
                trial.until(lambda before=before: trial.starts() > before + 20)
                trouble(bouncer)
                for worker in workers:
                    trial.strike(worker, lambda: None, BOUND)
                before = trial.starts()
                trial.until(lambda before=before: trial.starts() > before + 20)
        trial.settle()
        assert trial.rows("SELECT count(*) FROM audit.tasks WHERE task_id = ANY(%s)", refused) == [(0,)]
        for worker in workers:
            trial.assert_slots(worker)
        trial.fleet.close()


@contextmanager
def producing(trial: Trial, url: str) -> Iterator[list[UUID]]:
    """Inserts in each mode of the mix, one after the other; the ids of what is said not to have been inserted."""
    refused: list[UUID] = []
    failures: list[BaseException] = []
    is_over = threading.Event()
    with ExitStack() as stack:
        for mode in MODES[trial.mix]:
            producer = threading.Thread(target=_produce, args=(trial, url, mode, is_over, refused, failures))
            producer.start()
            stack.callback(producer.join)
            stack.callback(is_over.set)
        yield refused
    assert not failures, failures


def _produce(
    trial: Trial, url: str, mode: Mode, is_over: threading.Event, refused: list[UUID], failures: list[BaseException]
) -> None:
    # Each mode's producer inserts for the other, where there are both.
    kind: Any = Blocking if (mode == "threaded") is (trial.mix != "mixed") else Cooperative
    try:
        with harness_of(mode) as harness:
            queue = harness.queue(url, behind_pooler=True)
            while not is_over.wait(0.01):
                task = uuid4()
                try:
                    harness.call(queue.insert_task, kind(), id=task)
                except OutcomeUnknown:
                    trial.acknowledge(task, known=False)
                except NotConnected:
                    refused.append(task)
                else:
                    trial.acknowledge(task)
            harness.end()
    except BaseException as error:  # noqa: BLE001 - the trial's to see
        failures.append(error)
