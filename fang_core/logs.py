"""Logs without ever raising, and without being silenced by accident by an application's configuration."""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final

LOGGERS: Final = (
    "fang_core",
    "fang_postgres",
    "fang_threaded",
    "fang_async",
    "fang_sqlite",
    "fang_redis",
    "fang_isolation",
    "fang_telemetry",
    "fang_web",
    "fang_cli",
)
"""The names of the library's loggers."""


def set_level(level: int | str) -> None:
    """Sets the level of these loggers."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level)


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Wraps Python's logger of this name, for the library's own lines.

    Exceptions of an application's filters, handlers and record factory do not reach the caller: a service of a pool
    that logs a failure must outlive them. They are printed, as ``logging`` prints the errors of handlers.

    Each line resets ``disabled``. ``logging.config`` sets it on every existing logger that the configuration does not
    name, unless ``disable_existing_loggers=False`` is given; so an application that configures its logging after its
    imports would never hear that its tasks fail. Levels, filters, ``propagate`` and ``logging.disable`` are respected.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging has this name
        """See ``logging.Logger.isEnabledFor``."""
        self.logger.disabled = False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Keeps the ``extra`` of a line, except names that the application's own records already have."""
        if kwargs.get("extra"):
            kwargs["extra"] = self._without_collisions(kwargs["extra"])
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See ``logging.Logger.log``."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})  # the record names the caller of this method
        # A handler that formats a traceback calls methods of the user's exceptions, which may raise anything.
        except BaseException:  # noqa: BLE001 - an application's logging may raise anything
            if logging.raiseExceptions:
                with suppress(BaseException):
                    traceback.print_exc(file=sys.stderr)

    def _without_collisions(self, extra: Mapping[str, object]) -> dict[str, object]:
        """Drops names that the application's record factory sets: ``logging`` would refuse a line with one of them."""
        taken = vars(logging.getLogRecordFactory()(self.name, logging.DEBUG, "", 0, "", (), None))
        return {name: value for name, value in extra.items() if name not in taken}
