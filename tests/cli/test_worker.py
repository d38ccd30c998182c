"""`fang worker` as users meet it: real processes, real signals, modules on disk."""

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

import fang_core
from fang_embedded import EmbeddedPostgres
from fang_threaded import Queue, Runnable, TaskConfig
from tests import clusters
from tests.cli.test_cli import fang
from tests.forking import Forked, run
from tests.modes import eventually
from tests.patience import PATIENT
from tests.postgres.migrations.catalogs import IMPORTS
from tests.proxy import Mode, Proxy

PASSWORD = "not-to-be-shown"
ROOT = Path(__file__).parents[2]

APP = """
    import asyncio, os, time
    from contextlib import suppress
    from datetime import timedelta
    from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool
    from fang_threaded import Events, Queue, Runnable, SleepParams, TaskConfig, WorkerPool

    SOON = SleepParams(min_sleep_period=timedelta(milliseconds=20), max_sleep_period=timedelta(milliseconds=20))

    def say(line):
        os.write(1, (line + "\\n").encode())  # at once: both modes speak in one process

    class Heavy(Runnable):
        task_config = TaskConfig(task_type="heavy")
        seconds: float = 0
        def run(self, queue):
            say("heavy runs")
            time.sleep(self.seconds)
            say("heavy ran")

    class Light(AsyncRunnable):
        task_config = TaskConfig(task_type="light")
        seconds: float = 0
        async def run(self, queue):
            say("light runs")
            await asyncio.sleep(self.seconds)
            say("light ran")

    children = []

    class LeavesAChild(AsyncRunnable):
        task_config = TaskConfig(task_type="light")
        async def run(self, queue):
            async def child():
                say("child raises")
                raise SystemExit(3)
            children.append(asyncio.create_task(child()))

    class LeavesAStubbornChild(AsyncRunnable):
        task_config = TaskConfig(task_type="light")
        async def run(self, queue):
            async def child():
                while True:
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(60)
            children.append(asyncio.create_task(child()))
            say("child left")

    class LeavesAThread(AsyncRunnable):
        task_config = TaskConfig(task_type="light")
        async def run(self, queue):
            children.append(asyncio.get_running_loop().run_in_executor(None, time.sleep, 60))
            say("thread left")

    class StopsHeavy(Runnable):
        task_config = TaskConfig(task_type="heavy")
        seconds: float = 0
        def run(self, queue):
            pools.heavy.stop()
            time.sleep(self.seconds)

    class StopsLight(AsyncRunnable):
        task_config = TaskConfig(task_type="light")
        async def run(self, queue):
            await pools.light.stop()

    class Once(Events):
        def run_ended(self, task, result, seconds):
            say("once ran")
            pools.once.stop()

    class pools:
        options = dict(sleep_params=SOON, grace_period=timedelta(seconds={grace}))
        heavy = WorkerPool(Queue({url!r}), task_type="heavy", **options)
        light = AsyncWorkerPool(AsyncQueue({url!r}), number_of_workers=3, task_type="light", **options)
        once = WorkerPool(Queue({url!r}), task_type="heavy", events=[Once()], **options)
"""


class Heavy(Runnable):
    """These stand for the classes of the module above, to insert its tasks."""

    task_config = TaskConfig(task_type="heavy")
    seconds: float = 0

    def run(self, queue: Any) -> None: ...


class Light(Heavy):
    task_config = TaskConfig(task_type="light")


class LeavesAChild(Light):
    task_config = TaskConfig(task_type="light")


class LeavesAStubbornChild(Light):
    task_config = TaskConfig(task_type="light")


class LeavesAThread(Light):
    task_config = TaskConfig(task_type="light")


class StopsHeavy(Heavy):
    task_config = TaskConfig(task_type="heavy")


class StopsLight(Light):
    task_config = TaskConfig(task_type="light")


COMMAND = ("-m", "fang_cli", "worker")
# The packages that are imported here are the ones that processes import, be they a changed copy.
PATH = os.pathsep.join([str(Path(fang_core.__file__).parents[1]), str(ROOT)])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATH, "PYTHONFAULTHANDLER": "1"}


def in_an_interpreter_of_its_own(directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", *COMMAND, *arguments],  # -P, as with the script `fang`: Python adds no directory
        cwd=directory,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Process:
    """A `fang worker` whose lines are awaited, with a deadline."""

    def __init__(self, directory: Path, *arguments: str, forked: bool = True) -> None:
        self.popen = (
            Forked(*COMMAND, *arguments, cwd=directory, env=ENVIRONMENT)
            if forked
            else in_an_interpreter_of_its_own(directory, *arguments)
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line.strip())

    def wait_for(self, *lines: str) -> None:
        """Until each of these has been printed, in any order."""
        missing = set(lines)
        while missing:
            missing.discard(self.next_line(f"one of {missing}"))

    def next_line(self, wanted: str = "another line") -> str:
        try:
            return self._lines.get(timeout=PATIENT)
        except queue.Empty:
            self.popen.send_signal(signal.SIGABRT)  # has it say what its threads are at
            raise AssertionError(f"not printed: {wanted}; {self.end()}") from None

    def rest(self) -> list[str]:
        """The lines that nobody has waited for, once it has ended."""
        self._reader.join()
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]

    def end(self, within: float = PATIENT) -> tuple[int, str]:
        """Its exit code and what it wrote to stderr."""
        code = self.popen.wait(timeout=within)
        assert self.popen.stderr is not None
        return code, self.popen.stderr.read()

    def close(self) -> None:
        self.popen.kill()
        self._reader.join()
        self.popen.communicate()


def worker(directory: Path, *arguments: str, imports: Sequence[str] = ()) -> tuple[int, str]:
    """Of a `fang worker` that ends by itself: its exit code and what it wrote to stderr."""
    ended = run(*COMMAND, *arguments, cwd=directory, env=ENVIRONMENT, timeout=PATIENT, imports=imports)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Start]:
    started: list[Process] = []

    def start(*arguments: str, grace: float = 20, through: str = url, forked: bool = True) -> Process:
        (tmp_path / "app.py").write_text(textwrap.dedent(APP).format(url=through, grace=grace))
        started.append(Process(tmp_path, *(arguments or ("app:pools.heavy", "app:pools.light")), forked=forked))
        return started[-1]

    yield start
    for process in started:
        process.close()


def insert(url: str, *tasks: Runnable) -> None:
    with Queue(url) as queue:
        queue.insert_tasks(tasks)


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        tasks = connection.execute("SELECT kind, state::text, retries FROM fang.fang_tasks ORDER BY 1, 2").fetchall()
        pools = connection.execute("SELECT count(*) FROM fang.fang_pools").fetchall()
    return [*tasks, *pools]


# Running and stopping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_modes_at_once_and_the_first_signal_is_graceful(start: Start, url: str, number: signal.Signals) -> None:
    insert(url, Heavy(seconds=0.5), Light(seconds=0.5))
    process = start(forked=number != signal.SIGTERM)
    process.wait_for("heavy runs", "light runs")
    process.popen.send_signal(number)
    process.wait_for("heavy ran", "light ran")
    code, log = process.end()
    assert code == 0, log
    assert rows(url) == [(0,)]
    lines = log.splitlines()
    assert sum("started" in line for line in lines) == sum("stopped, runs left: 0" in line for line in lines) == 2
    assert all(" INFO fang_" in line for line in lines), log  # one line a record


def test_the_second_signal_ends_it_now(start: Start, url: str) -> None:
    insert(url, Heavy(seconds=60), Light(seconds=60))
    process = start()
    process.wait_for("heavy runs", "light runs")
    for _ in range(100):  # two signals at once may be delivered as one: repeat until it ends
        process.popen.send_signal(signal.SIGTERM)
        try:
            process.popen.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            pass
    assert process.end()[0] == -signal.SIGTERM
    assert rows(url) == [("Heavy", "in_progress", 0), ("Light", "in_progress", 0), (2,)]


def test_a_run_that_does_not_end_in_time_leaves_75_and_no_other_pool_is_kept_from_stopping(
    start: Start, url: str
) -> None:
    insert(url, Heavy(seconds=60), Light(seconds=60))
    process = start(grace=0.3)
    process.wait_for("heavy runs", "light runs")
    process.popen.send_signal(signal.SIGTERM)
    code, log = process.end()
    assert code == 75, log
    assert rows(url) == [("Heavy", "in_progress", 0), ("Light", "new", 0), (1,)]


def test_what_has_ended_and_could_not_be_written_leaves_75(start: Start, url: str) -> None:
    insert(url, Heavy(seconds=1), Light(seconds=1))
    with Proxy(url) as proxy:
        process = start(grace=3, through=proxy.url)
        process.wait_for("heavy runs", "light runs")
        proxy.set(Mode.RESET)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("heavy ran", "light ran")
        code, log = process.end()
    assert code == 75, log
    assert rows(url) == [("Heavy", "in_progress", 0), ("Light", "in_progress", 0), (2,)]


def test_it_ends_as_run_does_when_a_hook_stops_its_pool(start: Start, url: str) -> None:
    insert(url, Heavy())
    process = start("app:pools.once")
    process.wait_for("once ran")
    code, log = process.end()
    assert code == 0, log
    assert rows(url) == [(0,)]


@pytest.mark.parametrize("closing", ["", "queue.close"])
def test_a_module_may_seed_its_queue_by_asyncio_run_while_it_is_imported(
    tmp_path: Path, url: str, closing: str
) -> None:
    (tmp_path / "seeds.py").write_text(
        textwrap.dedent(f"""
            import asyncio, os
            from fang_async import AsyncQueue, AsyncRunnable, AsyncWorkerPool

            class Seed(AsyncRunnable):
                n: int
                async def run(self, queue):
                    os.write(1, b"seed %d\\n" % self.n)

            queue = AsyncQueue({url!r})
            pool = AsyncWorkerPool(queue)

            async def seed(base):
                await asyncio.gather(*(queue.insert_task(Seed(n=base + n)) for n in range(20)))
                {"await " + closing + "()" if closing else ""}

            asyncio.run(seed(0))
            asyncio.run(seed(20))
            """)
    )
    process = Process(tmp_path, "seeds:pool")
    try:
        process.wait_for(*(f"seed {n}" for n in range(40)))
        process.popen.send_signal(signal.SIGTERM)
        code, errors = process.end()
        assert code == 0, errors
        assert "Traceback" not in errors
    finally:
        process.close()


@pytest.mark.parametrize(("last", "first"), [(StopsHeavy(), StopsLight()), (StopsLight(), StopsHeavy())])
def test_where_tasks_stop_their_pools_it_ends_with_the_last(
    start: Start, url: str, first: Runnable, last: Runnable
) -> None:
    process = start(grace=1)  # for so long a pool of threads waits for the very run that stops it
    insert(url, Heavy(), Light())
    process.wait_for("heavy ran", "light ran")
    insert(url, first)
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(lambda: connection.execute("SELECT 1 FROM fang.fang_pools").rowcount == 1)
    insert(url, Heavy() if isinstance(last, StopsHeavy) else Light())
    process.wait_for("heavy ran" if isinstance(last, StopsHeavy) else "light ran")
    insert(url, last)
    code, log = process.end()
    assert code == 0, log
    assert rows(url) == [(0,)]


def test_a_run_that_stops_its_pool_and_goes_on_leaves_75(start: Start, url: str) -> None:
    insert(url, StopsHeavy(seconds=60))
    code, log = start("app:pools.heavy", grace=0.3).end()
    assert code == 75, log
    assert rows(url) == [("StopsHeavy", "in_progress", 0), (1,)]


def test_a_child_that_a_run_left_behind_and_that_raises_system_exit_ends_nothing(start: Start, url: str) -> None:
    insert(url, LeavesAChild())
    process = start()
    process.wait_for("child raises")
    insert(url, Light(), Heavy())
    process.wait_for("light ran", "heavy ran")
    process.popen.send_signal(signal.SIGTERM)
    code, log = process.end()
    assert code == 0, log
    assert "raised SystemExit" in log
    assert rows(url) == [(0,)]


@pytest.mark.parametrize(
    ("task", "line", "warning"),
    [
        (LeavesAStubbornChild(), "child left", "1 asyncio tasks that runs have left behind do not end"),
        (LeavesAThread(), "thread left", "threads that runs have left behind do not end"),
    ],
    ids=["asyncio task", "thread"],
)
def test_what_a_run_left_behind_keeps_nobody_from_ending(
    start: Start, url: str, task: Runnable, line: str, warning: str
) -> None:
    insert(url, task)
    process = start()
    process.wait_for(line)
    process.popen.send_signal(signal.SIGTERM)
    code, log = process.end()
    assert code == 0, log
    assert warning in log
    assert rows(url) == [(0,)]


def test_the_log_level(start: Start, url: str) -> None:
    insert(url, Heavy())
    process = start("app:pools.heavy", "--log-level", "warning")
    process.wait_for("heavy ran")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")


def test_tracebacks_in_the_log(start: Start, url: str) -> None:
    insert(url, Heavy(seconds=-1))
    process = start("app:pools.heavy", "app:pools.once", "--log-tracebacks")
    assert process.popen.stderr is not None
    for line in process.popen.stderr:
        if "sleep length must be non-negative" in line:
            break
    process.popen.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0


# What is no pool ------------------------------------------------------------------------------------------------------

FILES = {
    "good.py": """
        from fang_core import MemoryQueue
        from fang_threaded import WorkerPool
        pool = same = WorkerPool(MemoryQueue())
        make = lambda: pool
    """,
    "raises.py": "import json\n\njson.loads('{')\n",
    "exits.py": "import sys\nsys.exit(3)\n",
    "broken.py": "a = 1\ndef (:\n",
    "misses.py": "import nowhere_to_be_found\n",
    "package/__init__.py": "",
    "package/deeper.py": "import raises\n",
    "refused.py": "from fang_threaded import Queue\nQueue('mysql://me:{PASSWORD}@host/x')\n",
}
CASES = [
    (["good"], 2, "'good' names no pool: write module:pool, as in app.tasks:pool"),
    (["good:"], 2, "'good:' names no pool"),
    (["missing:pool"], 2, "there is no module missing (looked for in "),
    (["package.missing:pool"], 2, "there is no module package.missing (looked for in "),
    (["good.py:pool"], 2, "there is no module good.py (looked for in "),
    (["good:other"], 2, "module good has no attribute other"),
    (["good:pool.other"], 2, "module good has no attribute pool.other"),
    (["good:make"], 2, "good:make is not a WorkerPool or AsyncWorkerPool but of type function"),
    (["good:pool", "good:same"], 2, "good:same is the same pool as good:pool: give it once"),
    (["good:pool", "missing:pool"], 2, "there is no module missing"),
    (["raises:pool"], 1, "importing raises failed at raises.py:3: JSONDecodeError: Expecting property name"),
    (["package.deeper:pool"], 1, "importing package.deeper failed at raises.py:3: JSONDecodeError: Expecting"),
    (["exits:pool"], 1, "importing exits failed at exits.py:2: SystemExit: 3"),
    (["broken:pool"], 1, "importing broken failed at broken.py:2: SyntaxError: invalid syntax"),
    (["misses:pool"], 1, "importing misses failed at misses.py:1: ModuleNotFoundError: No module named 'nowhere_to"),
    (["refused:pool"], 1, "importing refused failed at refused.py:2: UsageError: the database URL must begin with"),
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


@pytest.mark.parametrize(("targets", "code", "line"), CASES, ids=[" ".join(targets) for targets, _, _ in CASES])
def test_what_is_no_pool_gets_one_line(files: Path, targets: list[str], code: int, line: str) -> None:
    returned, log = worker(files, *targets)
    assert (returned, log.count("\n")) == (code, 1), log
    assert log.startswith(f"fang: {line}")
    assert PASSWORD not in log


# Databases that are down or wrong -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A URL with its password, of a server that asks for it."""
    with EmbeddedPostgres(durable=False, tcp=True, bin_dir=clusters.bin_dir()) as server:
        yield server.tcp_url


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://someone:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/app"


DOWN = """
    from sqlalchemy import create_engine
    from fang_async import AsyncQueue, AsyncWorkerPool
    from fang_threaded import Queue, WorkerPool
    threaded = WorkerPool(Queue({url!r}))
    asynchronous = AsyncWorkerPool(AsyncQueue({url!r}))
    engine = WorkerPool(Queue(create_engine({url!r}.replace("postgresql:", "postgresql+psycopg:"))))
"""


def ends_in_one_line(directory: Path, url: str, code: int, *words: str) -> None:
    """Of the worker, in either mode, and of migrate."""
    (directory / "down.py").write_text(textwrap.dedent(DOWN).format(url=url))

    def migrate() -> tuple[int, str]:
        result = fang("migrate", "--check", "--database-url", url)
        return result.returncode, result.stderr

    with ThreadPoolExecutor() as executor:
        pools = [f"down:{name}" for name in ("threaded", "asynchronous", "engine")]
        results = {
            f"fang: {pool}: ": executor.submit(worker, directory, pool, "--wait-for-database", "0", imports=IMPORTS)
            for pool in pools
        }
        results["fang: "] = executor.submit(migrate)
    for start, result in results.items():
        returned, log = result.result()
        assert log.startswith(start), log
        assert log.count("\n") == 1, log
        assert all(word in log for word in words), log
        assert PASSWORD not in log
        assert returned == code


def test_a_port_that_refuses(tmp_path: Path) -> None:
    ends_in_one_line(tmp_path, f"postgresql://someone:{PASSWORD}@127.0.0.1:1/app", 69, "the database does not answer")


def test_one_that_says_nothing(tmp_path: Path, silent: str) -> None:
    """A driver by itself would wait for a minute or for ever: longer than `worker` does."""
    ends_in_one_line(tmp_path, silent, 69, "the database does not answer")


def test_a_wrong_password(tmp_path: Path, guarded: str) -> None:
    url = make_url(guarded).set(password=PASSWORD).render_as_string(hide_password=False)
    ends_in_one_line(tmp_path, url, 77, "the database refuses the connection", "password authentication failed")


def test_an_unknown_database(tmp_path: Path, guarded: str) -> None:
    url = make_url(guarded).set(database="nowhere").render_as_string(hide_password=False)
    ends_in_one_line(tmp_path, url, 77, "the database refuses the connection", '"nowhere"')


def test_tables_that_are_missing(tmp_path: Path, database_url: str) -> None:
    ends_in_one_line(tmp_path, database_url, 78, "table fang.fang_tasks is missing: run `fang migrate`")


def test_tables_of_an_older_version(tmp_path: Path, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE fang.fang_alembic_version SET version_num = '0000'")
    ends_in_one_line(tmp_path, url, 78, "at revision 0000", "run `fang migrate`")


def test_one_that_fails(start: Start, url: str) -> None:
    with psycopg.connect(url) as connection:
        full = "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$"
        connection.execute(f"CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS {full}".encode())
        connection.execute("CREATE TRIGGER full_ BEFORE INSERT ON fang.fang_pools EXECUTE FUNCTION full_()")
    code, log = start("app:pools.heavy").end()
    assert (code, log.count("\n")) == (69, 1), log
    assert "the database failed (53100): no room; nothing was written: try again when the server has room" in log


def test_nothing_runs_where_one_database_is_down(start: Start, url: str, tmp_path: Path) -> None:
    insert(url, Heavy(), Light())
    (tmp_path / "down.py").write_text(textwrap.dedent(DOWN).format(url="postgresql://127.0.0.1:1/app"))
    process = start("app:pools.heavy", "app:pools.light", "down:asynchronous", "--wait-for-database", "0")
    assert process.end()[0] == 69
    assert rows(url) == [("Heavy", "new", 0), ("Light", "new", 0), (0,)]
