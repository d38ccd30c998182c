"""Turns the errors of SQLite into ours, one line each, with what to do."""

import sqlite3
from pathlib import Path

from fang_core.errors import BackendError


def diagnosed(error: sqlite3.Error, path: Path) -> BackendError:
    """Returns our error for one of SQLite's."""
    return BackendError(f"{path.name}: {type(error).__name__}: {error}")
