"""Says what is wrong with a request: each error becomes a page of one line, with its status."""

from collections.abc import Mapping
from typing import Final

from fang_core.errors import (
    AccessRefused,
    BackendError,
    FangError,
    SchemaError,
    StaleTask,
    StatementRefused,
    UnknownPool,
    UnknownSchedule,
    UnreadablePayload,
    UsageError,
)


class PageError(Exception):
    """A request cannot be answered. The text is for the person who made it: what is wrong, and what to do.

    Attributes:
        status: the status of the response.
        headers: headers of the response.
    """

    status = 500

    def __init__(self, text: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.headers = dict(headers or {})


class BadRequest(PageError):
    """A parameter is not one that the page knows, or not within its bounds."""

    status = 400


class Unauthorized(PageError):
    """The request comes from an unknown user."""

    status = 401


class Forbidden(PageError):
    """The user may not do this, or the request came from another site."""

    status = 403


class NotFound(PageError):
    """There is no such page, or what it would show is gone."""

    status = 404


class MethodNotAllowed(PageError):
    """A page is read, an action is posted."""

    status = 405


class TooLarge(PageError):
    """The form is larger than the page takes."""

    status = 413


class NotAForm(PageError):
    """The posted data is not a form that a browser sends."""

    status = 415


_STATUSES: Final[tuple[tuple[type[FangError], int], ...]] = (
    (UnknownPool, 404),
    (UnknownSchedule, 404),
    (StaleTask, 409),
    (StatementRefused, 409),
    (UsageError, 400),
    (UnreadablePayload, 422),
    (AccessRefused, 503),
    (SchemaError, 503),
    (BackendError, 503),
)


def status_of(error: FangError) -> int:
    """Returns the status of the page that shows an error of the queue."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
