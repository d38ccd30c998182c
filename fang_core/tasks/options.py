"""Defines the options of an insert, once for every queue, every backend and the task classes.

``CONTRIBUTING.md`` says how to add one.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Final

from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from fang_core.errors import WrongArguments
from fang_core.record import HIGHEST_PRIORITY, LOWEST_PRIORITY
from fang_core.tasks.arguments import (
    checked_delay,
    checked_expiry,
    checked_headers,
    checked_span,
    checked_time,
    usage_error,
)
from fang_core.tasks.uniqueness import Unique, checked_uniq
from fang_core.words.naming import no_option

Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
Priority = Annotated[int, Field(ge=HIGHEST_PRIORITY, le=LOWEST_PRIORITY)]
MaxRetries = Annotated[int, Field(ge=0, le=1_000_000)]
Timeout = Annotated[timedelta, PlainValidator(partial(checked_span, "timeout"))]
Uniq = Annotated[bool | Unique, PlainValidator(checked_uniq)]


@with_config(ConfigDict(strict=True))
class InsertOptions(TypedDict, total=False):
    """The options of ``insert_task`` and ``insert_tasks``. None is the same as leaving an option out.

    Use it in functions of your own that pass options on, so that type checkers check their callers too:
    ``def enqueue(task: Runnable, **options: Unpack[InsertOptions]) -> Task``.
    """

    task_type: Name | None
    """Decides which pools take the task: those that serve this type. 1 to 500 characters. The class's unless given."""

    priority: Priority | None
    """Orders the due tasks of one type: -2 (first) to 2 (last). The class's unless given."""

    max_retries: MaxRetries | None
    """How often a failure leads to another run; 0 for one run only. The class's unless given."""

    scheduled_at: Annotated[datetime, PlainValidator(checked_time)] | None
    """The earliest time to run the task, with a time zone. Now unless given."""

    delay: Annotated[timedelta, PlainValidator(checked_delay)] | None
    """The shortest wait before the run, by the database's clock: a hundred years at most. Cannot be given together with
    ``scheduled_at``. No wait unless given."""

    uniq: Uniq | None
    """Whether the task is unique: if an equal unique task is waiting or running, nothing is written, and that task is
    returned with ``conflict`` true. A ``Unique`` says otherwise which tasks are equal, for how long, and what happens
    then; ``True`` means the class's, if it has one. The class and the queue decide unless given."""

    timeout: Timeout | None
    """How long each run of the task may take. The class's unless given."""

    expires: Annotated[timedelta | datetime, PlainValidator(checked_expiry)] | None
    """How long the task may wait from when it is due, or a time with a zone: no run begins later, and a pool that
    claims the task then cancels it. The class's unless given."""

    headers: Annotated[dict[str, str], PlainValidator(checked_headers)] | None
    """Texts that travel with the task, apart from its payload: ``current_run().headers``. They do not count when tasks
    are compared. 8,192 bytes at most, keys and values together. ``Queue(inject=...)`` adds to them."""


_WITHOUT_COLUMN: Final = ("scheduled_at", "delay", "uniq", "expires")

COLUMNS: Final = tuple(name for name in InsertOptions.__annotations__ if name not in _WITHOUT_COLUMN)
"""The options that are stored unchanged, each in the column and the ``Task`` field of the same name."""

_CHECK: Final = TypeAdapter(InsertOptions)
_KEYWORDS: Final = (*InsertOptions.__annotations__, "connection", "id")


def checked_options(options: InsertOptions) -> InsertOptions:
    """Returns the options as checked: the headers are a copy.

    Raises ``UsageError`` if a value cannot be used, and ``WrongArguments`` if there is no option of a name.
    """
    for name in options:
        if name not in InsertOptions.__annotations__:
            raise _unknown(name)
    try:
        return _CHECK.validate_python(options)
    except ValidationError as error:
        raise usage_error(error) from None


def _unknown(name: str) -> WrongArguments:
    if name == "id":
        return WrongArguments("id is an option of insert_task: insert_tasks makes an id for each of its tasks")
    return WrongArguments(f"insert: {no_option(name, _KEYWORDS)}")
