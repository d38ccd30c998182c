"""The process' logging, as it was before a test configured it."""

import logging
from collections.abc import Callable


def logging_as_it_is() -> Callable[[], None]:
    """What is called to have it back: the root's handlers, and each logger's level and whether it is disabled."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    before = {each: (each.level, each.disabled) for each in (root, *_loggers())}

    def restore() -> None:
        root.handlers[:] = handlers
        for each in (root, *_loggers()):
            level, each.disabled = before.get(each, (logging.NOTSET, False))
            each.setLevel(level)

    return restore


def _loggers() -> list[logging.Logger]:
    return [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
