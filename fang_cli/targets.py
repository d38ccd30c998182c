"""What ``module:pool`` names: the user's module is imported, and whatever is wrong with it becomes one line."""

import importlib
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeGuard

from fang_cli.ending import Ended, check_ended
from fang_core.errors import FangError, UsageError
from fang_core.failure import text_of
from fang_core.places import own_place
from fang_threaded import WorkerPool

if TYPE_CHECKING:
    from fang_async import AsyncWorkerPool

AnyPool: TypeAlias = "WorkerPool | AsyncWorkerPool"


class TargetFailed(FangError):
    """The module of a target raised an exception while it was imported."""


class Target(NamedTuple):
    """A pool, and how it was asked for."""

    name: str
    pool: AnyPool


def find_targets(names: Sequence[str]) -> list[Target]:
    """The pools that these names, ``module:attribute``, stand for; the working directory is importable.

    Raises ``UsageError`` for what names no pool or is given twice, ``TargetFailed`` where a module raises.
    """
    sys.path.insert(0, str(Path.cwd()))
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
    """Whether it is a pool of the async mode."""
    # The mode is not imported for this, it may lack its driver: whoever has such a pool has imported it.
    module = sys.modules.get("fang_async.pool")
    return module is not None and isinstance(pool, module.AsyncWorkerPool)


def _find(name: str) -> AnyPool:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise UsageError(f"{name!r} names no pool: write module:pool, as in app.tasks:pool")
    imported = _import(module)
    try:
        value: object = reduce(getattr, attribute.split("."), imported)
    except AttributeError:
        raise UsageError(f"module {module} has no attribute {attribute}") from None
    if is_async(value) or isinstance(value, WorkerPool):
        return value
    raise UsageError(f"{name} is no WorkerPool or AsyncWorkerPool, but of type {type(value).__name__}")


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (KeyboardInterrupt, Ended):
        raise
    except BaseException as error:  # a module may raise anything, SystemExit included
        place = _place(error, module)
        if place is None and isinstance(error, ModuleNotFoundError):
            raise UsageError(f"there is no module {error.name} (looked for in {Path.cwd()} and on sys.path)") from None
        reason = error.msg if isinstance(error, SyntaxError) else text_of(error)
        line = f"importing {module} failed at {place or module}: {type(error).__name__}: {reason}"
        raise TargetFailed(line.removesuffix(": ")) from error


# Where it was raised --------------------------------------------------------------------------------------------------


def _place(error: BaseException, module: str) -> str | None:
    """The innermost line of the user's own code, as ``file:line``; None where none had been reached."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    place = own_place(error, module)
    return None if place is None else _short(place)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
