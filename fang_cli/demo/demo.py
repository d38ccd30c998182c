"""Runs ``fang demo``: an asyncio pool reads the standard library, a threaded pool parses it, in two processes.

It starts and ends everything, on a Postgres of its own that is removed afterwards.
"""

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Final, NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, text

from fang_cli.demo.demo_tasks import PARENT_VARIABLE, URL_VARIABLE, ReadModule
from fang_cli.demo.page import DemoPage
from fang_cli.demo.picture import Picture
from fang_cli.demo.report import report, slowest
from fang_core.errors import FangError
from fang_embedded import EmbeddedPostgres, EmbeddedPostgresError
from fang_postgres import migrate
from fang_postgres.connections.engine import engine_for
from fang_threaded import Queue

__all__ = ["run_demo"]

_POLL_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 10.0
_KILL_SECONDS: Final = 2.0
_TABLE: Final = text("""
    CREATE TABLE demo_modules (
        path text PRIMARY KEY, lines int, functions int, classes int, branches int, error text,
        written int NOT NULL DEFAULT 1
    )
""")
_STATE: Final = text("""
    SELECT count(*) FILTER (WHERE task_type = 'demo-read') AS unread, count(*) AS open,
        (SELECT count(*) FROM demo_modules) AS parsed
    FROM fang.fang_tasks WHERE state IN ('new', 'in_progress', 'retried')
""")


class DemoError(FangError):
    """Raised when the demo cannot go on."""


def run_demo(limit: int | None, *, chaos: bool = False, picture: Path | None = None) -> int:
    """Runs the demo on all modules, or the first ``limit`` of them; returns the exit code.

    With ``chaos`` it kills worker processes while they work; the result must be the same. A picture of the page is
    left in ``picture``.
    """
    console = Console(highlight=False)
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = _modules(stdlib)[:limit]
    if not files:
        raise DemoError("the standard library of this Python has no .py files")
    with _Signals() as signals, _server() as server:
        migrate.upgrade(server.url)
        engine = engine_for(server.url)
        try:
            with engine.begin() as connection:
                connection.execute(_TABLE)
            console.print(f"{len(files)} modules of Python {sys.version.split()[0]}, Postgres {server.version}")
            with _page(server.url, signals) as page:
                console.print(f"the page is at {page.address} until the demo ends")
                shot = Picture(picture, page.get) if picture is not None else None
                started = time.monotonic()
                with _children(server.url, signals) as children:
                    _insert(engine, files)
                    killer = _Killer(children, server.url, signals) if chaos else None
                    _follow(engine, children, len(files), console, killer, on_half=shot.keep if shot else None)
                if killer is not None:
                    console.print(f"killed {killer.count} worker processes while they worked")
                seconds = time.monotonic() - started
                with engine.connect() as connection:
                    code = report(connection, console, stdlib, files, seconds)
                with Queue(engine) as queue:  # the pools have ended, and written all that they have counted
                    console.print(slowest(queue.stats(timedelta(hours=1)).kinds))
                if shot is not None:
                    console.print(shot.draw(signals.held()), soft_wrap=True)
                return code
        finally:
            engine.dispose()


@contextmanager
def _page(url: str, signals: "_Signals") -> Iterator[DemoPage]:
    """Serves the page, from when it answers: what its start takes is no part of what is measured."""
    page = DemoPage(url)
    try:
        with signals.held():  # otherwise a process could run that is not known
            page.start()
        page.get("/")
        yield page
    finally:
        page.stop()


@contextmanager
def _server() -> Iterator[EmbeddedPostgres]:
    try:
        with EmbeddedPostgres() as server:
            yield server
    except EmbeddedPostgresError as error:
        raise DemoError(str(error)) from error


def _modules(stdlib: Path) -> list[str]:
    others = {"site-packages", "dist-packages"}
    return sorted(
        str(path)
        for path in stdlib.rglob("*.py")
        if not others.intersection(path.relative_to(stdlib).parts) and path.is_file()
    )


def _insert(engine: Engine, files: list[str]) -> None:
    with Queue(engine) as queue:
        queue.insert_tasks([ReadModule(path=path) for path in files])


def _follow(
    engine: Engine,
    children: Mapping[str, "_Child"],
    total: int,
    console: Console,
    killer: "_Killer | None",
    *,
    on_half: Callable[[], None] | None,
) -> None:
    """Shows how far the pools are, until no task is left. The report then finds missing results.

    ``on_half`` is called once, when half of the modules or more are parsed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        read = progress.add_task("read by asyncio", total=total)
        parsed = progress.add_task("parsed by threads", total=total)
        while True:
            with engine.connect() as connection:
                state = connection.execute(_STATE).one()
            progress.update(read, completed=total - state.unread)
            progress.update(parsed, completed=state.parsed)
            if on_half is not None and 2 * state.parsed >= total:
                on_half()
                on_half = None
            if state.open == 0:
                return
            for name, child in children.items():
                child.check(name)
            if killer is not None:
                killer.strike()
            time.sleep(_POLL_SECONDS)


# The two processes ----------------------------------------------------------------------------------------------------


class _Child:
    def __init__(self, mode: str, url: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        # A session of its own keeps Ctrl-C from it: the demo ends it in order.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fang_cli.demo.demo_tasks", mode],
            env={**os.environ, URL_VARIABLE: url, PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )

    def check(self, name: str) -> None:
        """Raises ``DemoError`` if it has ended."""
        code = self.process.poll()
        if code is not None:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
            raise DemoError(f"the {name} process died (exit code {code}): {last}")

    def end(self, deadline: float) -> None:
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()


class _Killer:
    """Kills a worker process with SIGKILL every few seconds, in turn, and starts another in its place."""

    def __init__(self, children: dict[str, _Child], url: str, signals: "_Signals") -> None:
        self._children = children
        self._url = url
        self._signals = signals
        self._next = time.monotonic() + _KILL_SECONDS
        self.count = 0

    def strike(self) -> None:
        if time.monotonic() < self._next:
            return
        name = sorted(self._children)[self.count % len(self._children)]
        self._children[name].process.kill()
        self._children[name].end(time.monotonic() + _STOP_SECONDS)
        with self._signals.held():
            self._children[name] = _Child(name, self._url)
        self.count += 1
        self._next = time.monotonic() + _KILL_SECONDS


@contextmanager
def _children(url: str, signals: "_Signals") -> Iterator[dict[str, _Child]]:
    children: dict[str, _Child] = {}
    try:
        for mode in ("async", "threaded"):
            with signals.held():  # otherwise a child could run that is not in the dictionary
                children[mode] = _Child(mode, url)
        yield children
    finally:
        for child in children.values():
            child.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in children.values():
            child.end(deadline)


class _Interrupted(KeyboardInterrupt):
    """Raised for a signal. A subclass, since ``python -m`` ends by a signal, whatever the exit code, if a plain
    KeyboardInterrupt came in the middle of an ``exec`` (which makes every dataclass and named tuple)."""


class _Signals:
    """Ends the demo at the first SIGINT or SIGTERM; further signals are ignored, so that it can tidy up."""

    def __enter__(self) -> Self:
        self._came = self._is_held = False
        self._waits: int | None = None
        self._former = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delays a signal that comes during the block until its end."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._waits is not None:
                self._end(self._waits)

    def _come(self, number: int, _frame: object) -> None:
        if self._came:
            return
        self._came = True
        if self._is_held:
            self._waits = number
        else:
            self._end(number)

    def _end(self, number: int) -> NoReturn:
        if number == signal.SIGINT:
            raise _Interrupted
        sys.exit(128 + number)
