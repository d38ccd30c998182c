"""Defines the demo's two tasks, and runs one kind of them: ``python -m fang_cli.demo.demo_tasks async|threaded``.

A task in an asyncio pool reads each module of the standard library, and inserts a task for the threaded pool of the
other process. That task parses the module and writes its counts.
"""

import ast
import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy import Engine, text

from fang_core import AsyncQueueable, AsyncRunnable, Constant, FangError, Queueable, Runnable, TaskConfig
from fang_postgres.connections.engine import engine_for

__all__ = ["MAX_PAYLOAD_BYTES", "PARENT_VARIABLE", "URL_VARIABLE", "ParseModule", "ReadModule"]

URL_VARIABLE: Final = "FANG_DATABASE_URL"
PARENT_VARIABLE: Final = "FANG_DEMO_PARENT"
MAX_PAYLOAD_BYTES: Final = 4_000_000

_LEASE: Final = timedelta(seconds=3)
"""Short, since the demo's Postgres has just started, and pools do not trust free locks for a lease after that."""

_MAX_CRASHES: Final = 20
"""Many, since ``--chaos`` kills processes without any fault of their tasks."""

_RETRY_SOON: Final = Constant(delay=timedelta(seconds=1))
_BRANCHES: Final = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith),
    *(ast.match_case, ast.BoolOp, ast.IfExp),
)
_WRITE: Final = text("""
    INSERT INTO demo_modules (path, lines, functions, classes, branches, error)
    VALUES (:path, :lines, :functions, :classes, :branches, :error)
    ON CONFLICT (path) DO UPDATE SET written = demo_modules.written + 1
""")


class ReadModule(AsyncRunnable):
    """Reads a module's bytes and passes them on."""

    task_config = TaskConfig(task_type="demo-read", max_retries=3, backoff=_RETRY_SOON)

    path: str

    async def run(self, queue: AsyncQueueable) -> None:
        source = await asyncio.to_thread(Path(self.path).read_bytes)
        async with _connections().acquire() as connection, connection.transaction():
            await queue.insert_task(ParseModule(path=self.path, source=source), connection=connection)
            await queue.complete(connection=connection)  # exactly one task of the next kind, whichever process dies


_PARSING: Final = threading.Lock()
"""Held while a thread parses. When several did so at once, CPython 3.11 now and then ended one of them in
``SystemError: AST constructor recursion depth mismatch``."""


class ParseModule(Runnable):
    """Parses a module and writes its counts, or why it cannot be parsed."""

    task_config = TaskConfig(task_type="demo-parse", max_retries=3, backoff=_RETRY_SOON)

    path: str
    source: bytes

    def run(self, queue: Queueable) -> None:
        counts: dict[str, int | str | None] = dict.fromkeys(("functions", "classes", "branches", "error"))
        try:
            with _PARSING:
                tree = ast.parse(self.source)
            counts |= count(tree)
        except (SyntaxError, ValueError, RecursionError) as error:
            counts["error"] = " ".join(f"{type(error).__name__}: {error}".replace("\0", " ").split())
        with _engine().begin() as connection:
            connection.execute(_WRITE, {"path": self.path, "lines": len(self.source.splitlines()), **counts})
            queue.complete(connection=connection)  # the result is written once, whichever process dies


def count(tree: ast.AST) -> dict[str, int]:
    """Returns how many functions, classes and branches a module has."""
    functions = classes = branches = 0
    for node in ast.walk(tree):
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
        branches += len(node.ifs) if isinstance(node, ast.comprehension) else isinstance(node, _BRANCHES)
    return {"functions": functions, "classes": classes, "branches": branches}


@cache
def _engine() -> Engine:
    return engine_for(os.environ[URL_VARIABLE], pool_size=4)


_POOL: ContextVar[asyncpg.Pool] = ContextVar("connections of the async demo")


def _connections() -> asyncpg.Pool:
    return _POOL.get()


# The process ----------------------------------------------------------------------------------------------------------


async def _run_async() -> None:
    from fang_async import AsyncQueue, AsyncWorkerPool

    url = os.environ[URL_VARIABLE]
    async with asyncpg.create_pool(url, min_size=0, max_size=8) as connections:
        _POOL.set(connections)
        queue = AsyncQueue(url, max_payload_bytes=MAX_PAYLOAD_BYTES)
        pool = AsyncWorkerPool(
            queue, number_of_workers=50, task_type="demo-read", lease=_LEASE, max_crashes=_MAX_CRASHES
        )
        await pool.run()


def _run_threaded() -> None:
    from fang_threaded import Queue, WorkerPool

    queue = Queue(os.environ[URL_VARIABLE], max_payload_bytes=MAX_PAYLOAD_BYTES)
    WorkerPool(queue, number_of_workers=4, task_type="demo-parse", lease=_LEASE, max_crashes=_MAX_CRASHES).run()


def _die_with(parent: int) -> None:
    """Makes this process end as soon as its parent has ended, for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # the parent ended before the call above
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Runs one of the two pools until SIGTERM."""
    if PARENT_VARIABLE in os.environ:
        _die_with(int(os.environ[PARENT_VARIABLE]))
    warnings.simplefilter("ignore")  # about the parsed code: invalid escapes and the like
    try:
        match sys.argv[1:]:
            case ["async"]:
                asyncio.run(_run_async())
            case ["threaded"]:
                _run_threaded()
            case _:
                sys.exit("usage: python -m fang_cli.demo.demo_tasks async|threaded")
    except FangError as error:
        sys.exit(f"fang: {error}")


if __name__ == "__main__":
    main()
