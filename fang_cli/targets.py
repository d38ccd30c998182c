"""Finds what ``module:pool`` and ``module:class`` name: imports the user's module, turns its errors into one line."""

import importlib
import os
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeGuard

import click

from fang_cli.ending import Ended, check_ended, insisting
from fang_cli.settings import URL_VARIABLE, named_database_url, working_directory
from fang_core.errors import FangError, UsageError
from fang_core.failure import text_of
from fang_core.interpreter.places import own_place
from fang_core.tasks.runnable import BaseRunnable
from fang_threaded import WorkerPool

if TYPE_CHECKING:
    from fang_async import AsyncWorkerPool

AnyPool: TypeAlias = "WorkerPool | AsyncWorkerPool"


class TargetFailed(FangError):
    """Raised when the module of a target raised an exception while it was imported."""


class Target(NamedTuple):
    """A pool, and the name it was asked for by."""

    name: str
    pool: AnyPool


def find_targets(names: Sequence[str]) -> list[Target]:
    """Returns the pools with these names, ``module:attribute``; the working directory is importable.

    Raises ``UsageError`` if a name is no pool's or a pool is given twice, ``TargetFailed`` if a module raises.
    """
    _prepare()
    targets: list[Target] = []
    for name in names:
        pool = _find(name)
        for other in targets:
            if other.pool is pool:
                raise UsageError(f"{name} is the same pool as {other.name}: give it once")
        targets.append(Target(name, pool))
    check_ended()
    return targets


def is_async(pool: object) -> "TypeGuard[AsyncWorkerPool]":
    """Returns whether it is a pool of the async mode."""
    # Not by an import: the mode's driver may be missing. An application with such a pool has imported the mode.
    module = sys.modules.get("fang_async.pool")
    return module is not None and isinstance(pool, module.AsyncWorkerPool)


def find_task_class(name: str) -> type[BaseRunnable]:
    """Returns the task class with this name, ``module:class``. Raises like ``find_targets``."""
    _prepare()
    value = _attribute(name, "task class", "app.tasks:Report")
    check_ended()
    if isinstance(value, type) and issubclass(value, BaseRunnable):
        return value
    raise UsageError(f"{name} is not a Runnable or AsyncRunnable but of type {type(value).__name__}")


def import_modules(names: Sequence[str]) -> None:
    """Imports modules, so that this process knows their task classes. Raises like ``find_targets``."""
    _prepare()
    for name in names:
        _import(name)
    check_ended()


def _prepare() -> None:
    """Makes the working directory importable, and tells the application which database the command uses.

    The environment's own URL stays: it may be set for the application, and differ from the command's.
    """
    sys.path.insert(0, str(working_directory()))
    url: str | None = os.environ.get(URL_VARIABLE, "").strip()
    if not url:
        context = click.get_current_context(silent=True)
        url = named_database_url(None if context is None else context.params.get("database_url"))
    if url is not None:
        os.environ[URL_VARIABLE] = url


def _find(name: str) -> AnyPool:
    value = _attribute(name, "pool", "app.tasks:pool")
    if is_async(value) or isinstance(value, WorkerPool):
        return value
    raise UsageError(f"{name} is not a WorkerPool or AsyncWorkerPool but of type {type(value).__name__}")


def _attribute(name: str, what: str, example: str) -> object:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise UsageError(f"{name!r} names no {what}: write module:{what.rsplit(maxsplit=1)[-1]}, as in {example}")
    imported = _import(module)
    try:
        value: object = reduce(getattr, attribute.split("."), imported)
    except AttributeError:
        raise UsageError(f"module {module} has no attribute {attribute}") from None
    return value


def _import(module: str) -> ModuleType:
    try:
        with insisting():
            return importlib.import_module(module)
    except (KeyboardInterrupt, Ended):
        raise
    except BaseException as error:  # a module may raise anything, SystemExit included
        check_ended()  # the module, or one that it imports, may have made another exception of it
        place = _place(error, module)
        if place is None and isinstance(error, ModuleNotFoundError):
            raise UsageError(f"there is no module {error.name} (looked for in {Path.cwd()} and on sys.path)") from None
        reason = error.msg if isinstance(error, SyntaxError) else text_of(error)
        line = f"importing {module} failed at {place or module}: {type(error).__name__}: {reason}"
        raise TargetFailed(line.removesuffix(": ")) from error


# Where it was raised --------------------------------------------------------------------------------------------------


def _place(error: BaseException, module: str) -> str | None:
    """Returns the innermost line of the user's own code, as ``file:line``; None if none was reached."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    place = own_place(error, module)
    return None if place is None else _short(place)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
