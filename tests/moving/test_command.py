"""``fang move`` as users meet it, and with processes that are killed."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock

import pytest

from fang_backends import queue_of
from fang_backends.queues import OwnQueue
from fang_core import Queueable, Runnable, TaskConfig
from fang_core.aside import ASIDE, Route, set_aside
from fang_core.tasks.selecting.filter import TaskFilter
from fang_threaded import Cron, WorkerPool
from tests.cli.invoking import fang
from tests.forking import Forked
from tests.moving.places import URLS
from tests.patience import PATIENT

RAN: Counter[int] = Counter()
LOCK = Lock()


class Note(Runnable):
    task_config = TaskConfig(kind="moving.Note", task_type="notes", max_retries=0)
    number: int

    def run(self, queue: Queueable) -> None:
        with LOCK:
            RAN[self.number] += 1


PAIRS = [("sqlite", "postgres"), ("postgres", "redis"), ("redis", "sqlite")]
"""Those with real processes; ``test_moving`` has all."""


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENT
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.002)


def something_is_aside(*queues: OwnQueue) -> bool:
    return any(queue.count_tasks(TaskFilter(task_types=ASIDE)).count for queue in queues)


@pytest.fixture(params=PAIRS, ids="-".join)
def urls(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(URLS[name](request)) for name in request.param)
        yield source, target


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """URLs of two queues of the backend that starts fastest."""
    name = next(iter(URLS))
    with URLS[name](request) as source, URLS[name](request) as target:
        yield source, target


def test_it_says_what_it_did_and_what_stays(two: tuple[str, str]) -> None:
    source, target = two
    with queue_of(source) as queue:
        for number in range(3):
            queue.insert_task(Note(number=number))
        queue.fetch_and_touch_task("notes")
        queue.schedules.put("nightly", Note(number=9), cron=Cron("30 2 * * *"))
        queue.pause("mail", reason="the server is down")

        assert fang("move", "--from", source, "--to", target, "--dry-run").stdout.splitlines() == [
            "2 tasks wait",
            "schedules to move: nightly",
            "task types whose pause or limits are to be copied: mail",
            "1 task runs, and stays where it is",
        ]
        assert fang("move", "--from", source, "--to", target).stdout.splitlines() == [
            "2 tasks have been moved",
            "schedules that have been moved: nightly",
            "task types that are paused or limited in the target now: mail",
            "1 task runs, and stays where it is",
        ]
        queue.schedules.put("nightly", Note(number=8), cron=Cron("30 2 * * *"))
        assert "stays: schedule nightly: the target has another one of this name\n" in (
            fang("move", "--from", source, "--to", target).stdout
        )
        told = json.loads(fang("move", "--from", source, "--to", target, "--json").stdout)
    assert told == {
        "moved": 0,
        "resumed": 0,
        "left": [],
        "in_progress": 1,
        "waiting": 0,
        "schedules": [],
        "task_types": [],
        "kept": [{"what": "schedule nightly", "why": "the target has another one of this name"}],
    }
    with queue_of(target) as queue:
        assert [info.payload for info in queue.schedules.list()] == [{"number": 9}]
        assert [info.pause_reason for info in queue.limits.list()] == ["the server is down"]
        assert queue.count_tasks(TaskFilter(kinds="moving.Note")).count == 2


def test_only_some_types(two: tuple[str, str]) -> None:
    source, target = two
    with queue_of(source) as queue:
        queue.insert_task(Note(number=1))
        queue.insert_task(Note(number=2), task_type="others")
    done = fang("move", "--from", source, "--to", target, "--task-type", "others")
    assert (done.returncode, done.stdout) == (0, "1 task has been moved\n")


def test_a_queue_is_not_moved_to_itself(two: tuple[str, str]) -> None:
    done = fang("move", "--from", two[0], "--to", two[0])
    assert (done.returncode, done.stderr) == (2, "fang: --from and --to are the same queue\n")


@pytest.mark.parametrize("backend", URLS)
def test_a_queue_is_not_moved_to_itself_by_another_name(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    """It would remove what it has just put."""
    (tmp_path / "link").symlink_to(tmp_path)
    with URLS[backend](request) as url, queue_of(url) as queue:
        queue.insert_tasks([Note(number=number) for number in range(3)])
        queue.schedules.put("nightly", Note(number=9), cron=Cron("30 2 * * *"))
        done = fang("move", "--from", url, "--to", other_name_of(url, tmp_path))
        assert (done.returncode, done.stderr) == (2, "fang: --from and --to are the same queue\n")
        assert len(queue.list_tasks().tasks) == 3
        assert [info.paused for info in queue.schedules.list()] == [False]


def other_name_of(url: str, folder: Path) -> str:
    """A URL of the same queue that looks like another one's."""
    if url.startswith("sqlite"):
        return url.replace(str(folder), f"{folder}/link")
    if url.startswith("unix"):
        (folder / "socket").symlink_to(url.removeprefix("unix://").partition("?")[0])
        return f"unix://{folder}/socket?{url.partition('?')[2]}"
    return url.replace("localhost", "127.0.0.1") if "localhost" in url else url.replace("127.0.0.1", "localhost")


def test_a_task_that_went_elsewhere_names_that_place_without_a_password(two: tuple[str, str]) -> None:
    source, target = two
    with queue_of(source) as queue:
        task = queue.insert_task(Note(number=1))
        read = queue.moving.read([task.id])[0].task
        queue.moving.exchange([(read, set_aside(read, Route("here", "redis://elsewhere/0")))])
    done = fang("move", "--from", source, "--to", target)
    assert done.returncode == 2
    assert f"task {task.id} was set aside by a move to redis://elsewhere/0, which has not ended" in done.stderr


def test_nothing_is_lost_or_runs_twice_however_often_it_is_killed(urls: tuple[str, str]) -> None:
    """Real processes and real kills, while a pool works on the target."""
    source, target = urls
    RAN.clear()
    count = 600
    with queue_of(source) as here, queue_of(target) as there:
        here.insert_tasks([Note(number=number) for number in range(count)])
        with WorkerPool(there, number_of_workers=2, task_type="notes"):
            for _ in range(5):
                move_and_kill(source, target, here, there)
            done = fang("move", "--from", source, "--to", target)
            assert done.returncode == 0, done.stderr
            wait_for(lambda: not there.count_tasks(TaskFilter(kinds="moving.Note")).count)
        assert not something_is_aside(here, there)
    assert Counter(range(count)) == RAN


def move_and_kill(source: str, target: str, here: OwnQueue, there: OwnQueue) -> None:
    """Starts the command in a process of its own, and kills that as soon as something is set aside."""
    command = ("-m", "fang_cli", "move", "--from", source, "--to", target)
    with closing(Forked(*command, imports=("fang_cli.moving",))) as moving:
        wait_for(lambda: something_is_aside(here, there) or moving.poll() is not None)
        moving.send_signal(signal.SIGKILL)
