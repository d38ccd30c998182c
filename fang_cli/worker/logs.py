"""Sets up logging for ``fang worker``: as the application configures it, or else as lines on stderr."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fang_cli.supervisor.report import mark
from fang_core.logs import set_level

_FORMAT: Final = "%(asctime)s {mark}%(levelname)s %(name)s: %(message)s"


class _Level(int):
    """A level that was set here, recognised by its identity even if the application sets an equal one."""


@contextmanager
def applications_logging(given: str | None) -> Iterator[None]:
    """Lets its block, which imports the application, configure logging.

    During the block lines go to stderr from the level ``given`` on, or from INFO; afterwards too, if the root logger
    has no handler by then. If it has one, the application's configuration stays, and a given level is set for Fang's
    own loggers. In a process of a supervisor each line has its number.
    """
    level = getattr(logging, (given or "info").upper())
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT.format(mark=mark())))
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
            set_level(level)
