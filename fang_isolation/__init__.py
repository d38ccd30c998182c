"""Runs tasks in child processes, on Pebble: for ``isolation="process"``, and for suspects.

A pool imports it when the first of its runs is to be isolated.
"""

from fang_core.errors import MissingExtra

try:
    import pebble as _library  # noqa: F401
except ImportError:
    raise MissingExtra("isolation in processes needs Pebble: pip install 'fang-tasks[isolation]'") from None

from fang_isolation.isolation import Isolation

__all__ = ("Isolation",)
