"""Logging of ``fang worker``: as the application configures it, else as lines on stderr."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OURS: Final = ("fang_core", "fang_threaded", "fang_async", "fang_cli")


class _Level(int):
    """A level that was set here: known by its identity, whatever level the application sets."""


@contextmanager
def applications_logging(given: str | None) -> Iterator[None]:
    """Lets what is done in its context, the import of the application, configure logging.

    Until then, and for good if the root logger has no handler at the end, lines go to stderr from the level ``given``
    on, or from INFO. If it has one the application's configuration stands; a level that was given is then that of our
    own loggers.
    """
    level = getattr(logging, (given or "info").upper())
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    # The last resort, not a handler of the root logger: with one the application's own basicConfig would do nothing.
    former_resort, logging.lastResort = logging.lastResort, handler
    former_level, ours = root.level, _Level(level)
    root.setLevel(ours)
    try:
        yield
    finally:
        logging.lastResort = former_resort
        if not root.handlers:
            root.addHandler(handler)
        elif root.level is ours:
            root.setLevel(former_level)
        if given is not None and handler not in root.handlers:
            for name in _OURS:
                logging.getLogger(name).setLevel(level)
