"""Watches the code of an application for ``fang worker --reload``, and says when its processes are to be replaced."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final, Self

from fang_cli.settings import working_directory
from fang_core.errors import MissingExtra, UsageError
from fang_core.logs import SafeLogger

logger = SafeLogger("fang_cli")

_STEP: Final = 50
"""Milliseconds without another change after which changes are reported."""

_DEBOUNCED: Final = 1_000
"""The most milliseconds for which changes that go on and on are held back."""

_NOT_OURS: Final = frozenset({"site-packages", "node_modules", "venv"})
"""Folders of code that is not the application's. Those whose names begin with a dot or with two underscores are left
out too."""


def check_extra() -> None:
    """Raises ``MissingExtra`` if the library that watches files is not installed."""
    if PathFinder.find_spec("watchfiles") is None:
        raise MissingExtra("--reload needs more: pip install 'fang-tasks[reload]'")


def directories_of(pools: Sequence[str]) -> list[Path]:
    """Returns the working directory, and the directories of the pools' modules that are elsewhere.

    It imports none of them. Those in an environment's ``site-packages`` are left out.
    """
    here = working_directory()
    found = [here]
    for name in sorted({pool.partition(":")[0].partition(".")[0] for pool in pools}):
        spec = PathFinder.find_spec(name, [str(here), *sys.path])
        for place in () if spec is None else spec.submodule_search_locations or [os.path.dirname(spec.origin or "")]:
            folder = Path(place).resolve()
            if folder.is_dir() and not folder.is_relative_to(here) and _NOT_OURS.isdisjoint(folder.parts):
                found.append(folder)
    return found


def is_code(path: Path, directories: Iterable[Path]) -> bool:
    """Returns whether a file is Python code of the application: neither hidden, nor a cache, nor installed."""
    if path.suffix != ".py":
        return False
    for directory in directories:
        if path.is_relative_to(directory):
            folders = path.relative_to(directory).parts[:-1]
            return not any(each.startswith((".", "__")) or each in _NOT_OURS for each in folders)
    return False


def fault(path: Path) -> str | None:
    """Returns why a file cannot be compiled, in one line; None if it can be, or has gone."""
    try:
        source = path.read_bytes()
    except OSError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{_short(path)}:{error.lineno or 1}: {type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError) as error:
        return f"{_short(path)}: {type(error).__name__}: {error}"
    return None


class Code:
    """Decides from the files that have changed whether processes are to be replaced. It knows which files are broken:
    nothing is replaced before all of them can be compiled, or have gone."""

    def __init__(self) -> None:
        self._broken: set[Path] = set()

    def changed(self, paths: Iterable[Path]) -> str | None:
        """Returns which files have changed, if processes are to be replaced; else logs why not."""
        paths = sorted(paths)
        faults = {path: text for path in {*paths, *self._broken} if (text := fault(path)) is not None}
        self._broken = set(faults)
        if faults:
            more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
            logger.error("%s%s: nothing is replaced before the next change", faults[min(faults)], more)
            return None
        if not paths:
            return None
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        return f"{_short(paths[0])}{more} changed"


class Reloading:
    """Watches directories on a thread of its own while it is entered; the supervisor waits for ``fileno()``.

    Entering it raises ``UsageError`` if the directories cannot be watched. What changes after that is seen.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._code = Code()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._changed: set[Path] = set()

    def __enter__(self) -> Self:
        check_extra()
        import watchfiles

        SafeLogger("watchfiles").setLevel(logging.WARNING)  # it counts the changes
        # Each step ends with what has changed, perhaps nothing: when the first one has ended, the files are watched.
        steps = watchfiles.watch(
            *self._directories,
            watch_filter=lambda _, path: is_code(Path(path), self._directories),
            debounce=_DEBOUNCED,
            step=_STEP,
            rust_timeout=_STEP,
            yield_on_timeout=True,
            stop_event=self._stopped,
        )
        try:
            self._note(next(steps))
        except UnicodeEncodeError:
            raise UsageError(f"--reload cannot watch {os.fspath(Path.cwd())!a}: its name is not in UTF-8") from None
        except (OSError, StopIteration, RuntimeError) as error:  # the last for names in it that are not in UTF-8
            raise UsageError(f"--reload cannot watch {self._directories[0]}: {error}") from None
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._watch, args=(steps,), name="fang-reload", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Returns the descriptor that is readable when files have changed."""
        return self._read

    def take(self) -> str | None:
        """Returns which files have changed since the last call, if processes are to be replaced."""
        with suppress(BlockingIOError):
            os.read(self._read, 65_536)
        with self._lock:
            changed, self._changed = self._changed, set()
        return self._code.changed(changed) if changed else None

    def _watch(self, steps: Iterator[set[Any]]) -> None:
        try:
            for changes in steps:
                if self._note(changes):
                    with suppress(BlockingIOError):  # full: it is readable
                        os.write(self._write, b"\0")
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the processes go on
            logger.error("changes of the code are not seen any more: %s", error)

    def _note(self, changes: set[Any]) -> bool:
        with self._lock:
            self._changed.update(Path(path) for _, path in changes)
        return bool(changes)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
