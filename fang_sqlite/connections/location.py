"""Finds the file of a queue in what a caller gives, and the files that are next to it."""

import os
import re
from pathlib import Path
from typing import Final

from fang_core.errors import UsageError

_SCHEME: Final = re.compile(r"sqlite(\+\w+)?:", re.IGNORECASE)
"""How a URL begins; SQLAlchemy's may name a driver."""

_OTHER_SCHEME: Final = re.compile(r"(?P<scheme>[a-z][\w+.-]+)://|file:", re.IGNORECASE)
"""How a URL begins that is not of a file. A single letter may be a drive."""

_URL: Final = re.compile(_SCHEME.pattern + "(//(/(?P<path>.*))?)?", re.IGNORECASE | re.DOTALL)


def path_of(given: str | os.PathLike[str]) -> Path:
    """Returns the absolute path of a database file, given as a path or a URL like ``sqlite:///tasks.db``.

    As in SQLAlchemy's URLs, ``sqlite:///tasks.db`` is relative to the working directory, and ``sqlite:////srv/tasks.db``
    is not. Raises ``UsageError`` for what names no file.

    A link gives the file that it leads to: SQLite keeps its log next to that file, and pools that kept their locks next
    to the link would take all others for dead.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"give the path of a file or sqlite:///path, not {type(given).__name__}")
    text = os.fspath(given)
    if not isinstance(text, str) or "\0" in text:
        raise UsageError("the path of a database file is a text without null characters")
    url = text.strip()  # one that is read from a file ends in a line break
    if _SCHEME.match(url):
        text = _path_in(url)
    elif other := _OTHER_SCHEME.match(text):
        raise UsageError(f"give the path of a file or sqlite:///path, not a URL that begins with {other[0]:.40}")
    if text in {"", ":memory:"}:
        raise UsageError("a database in memory is gone with its process: give a file, or use MemoryQueue")
    try:
        path = Path(text).absolute()
    except FileNotFoundError:
        raise UsageError(f"{text!r:.100} is relative to the working directory, which has been removed") from None
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _path_in(url: str) -> str:
    found = _URL.fullmatch(url)
    if found is None:
        raise UsageError("the URL of a file is sqlite:///tasks.db, or sqlite:////srv/tasks.db from the root")
    path = found["path"] or ""
    if "?" in path:
        raise UsageError("the URL of a file takes no parameters: give synchronous= and other options to the queue")
    return path


def beside(path: Path) -> Path:
    """Returns the directory of lock files and sockets next to a database file."""
    return path.with_name(f"{path.name}-fang")
