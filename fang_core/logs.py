"""Logging that cannot end what logs."""

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Python's logger of this name; what an application's filters and handlers raise does not reach the caller.

    Handlers of the standard library guard themselves, filters and others do not; and a service of a pool that logs a
    failure must outlive that as well. What they raise is printed, as ``logging`` prints what goes wrong in a handler.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """See ``logging.Logger.log``."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})  # the record names the caller of this method
        except Exception:  # noqa: BLE001 - whatever an application's logging does
            if logging.raiseExceptions:
                with suppress(Exception):
                    traceback.print_exc(file=sys.stderr)
