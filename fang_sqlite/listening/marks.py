"""Marks the pools that wait to be woken: by files next to the database, as marks change too often for commits.

The name of a mark says which pool waits, and which socket reaches it.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from fang_sqlite.connections.lockfiles import open_lock_file

_SUFFIX: Final = ".waits"


class Mark(NamedTuple):
    """One pool that waits, and the name of its socket; that is empty if it does not listen."""

    pool_id: UUID
    socket: str


def put(directory: Path, mark: Mark) -> None:
    """Notes that a pool waits."""
    os.close(open_lock_file(directory, _name(mark)))


def remove(directory: Path, mark: Mark) -> None:
    """Notes that it waits no longer."""
    with suppress(FileNotFoundError):
        (directory / _name(mark)).unlink()


def remove_all(directory: Path, pool_id: UUID) -> None:
    """Removes the mark that a pool has left which has died."""
    for mark in marks_in(names_in(directory)):
        if mark.pool_id == pool_id:
            remove(directory, mark)


def names_in(directory: Path) -> list[str]:
    """Returns the names of the files in the directory; none if it was removed."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def marks_in(names: list[str]) -> Iterator[Mark]:
    """Yields the marks among files."""
    for name in names:
        if name.endswith(_SUFFIX):
            pool_id, _, socket = name.removesuffix(_SUFFIX).partition(".")
            with suppress(ValueError):
                yield Mark(UUID(hex=pool_id), socket)


def _name(mark: Mark) -> str:
    return f"{mark.pool_id.hex}.{mark.socket}{_SUFFIX}"
