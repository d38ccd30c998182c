"""Defines tasks, their life, and the protocols of queues and pools. It is pure: it has no driver, socket or clock."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import offering

if TYPE_CHECKING:
    from fang_core.public import *  # noqa: F403 - the list stands there
else:
    # A command that only reads needs none of the task classes, and so no pydantic, which takes time.
    __getattr__ = offering(__name__, {})
