"""Logging that cannot end what logs, and that an application's configuration does not silence by accident."""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Python's logger of this name, for the library's own lines.

    What an application's filters, handlers and record factory raise does not reach the caller: a service of a pool that
    logs a failure must outlive that as well. It is printed, as ``logging`` prints what goes wrong in a handler.

    ``disabled`` is undone at each line. ``logging.config`` sets it on every logger that exists and is not named, unless
    it is told ``disable_existing_loggers=False``, so that an application that configures its logging after its imports
    would never hear that its tasks fail. A level, a filter, ``propagate`` and ``logging.disable`` are respected.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of logging's
        """See ``logging.Logger.isEnabledFor``."""
        self.logger.disabled = False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leaves ``extra`` to each line, but for names that the application's own records have already."""
        if kwargs.get("extra"):
            kwargs["extra"] = self._without_collisions(kwargs["extra"])
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See ``logging.Logger.log``."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})  # the record names the caller of this method
        # A handler that formats a traceback meets exceptions of the user's classes, whose methods may raise anything.
        except BaseException:  # noqa: BLE001 - whatever an application's logging does
            if logging.raiseExceptions:
                with suppress(BaseException):
                    traceback.print_exc(file=sys.stderr)

    def _without_collisions(self, extra: Mapping[str, object]) -> dict[str, object]:
        """``logging`` refuses a line whose ``extra`` has a name that a record factory of the application's sets."""
        taken = vars(logging.getLogRecordFactory()(self.name, logging.DEBUG, "", 0, "", (), None))
        return {name: value for name, value in extra.items() if name not in taken}
