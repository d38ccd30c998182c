"""The options of inserts are written once. What is derived from them fits the rest."""

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints
from uuid import UUID, uuid4

import pytest

from fang_core import (
    AsyncMemoryQueue,
    InsertOptions,
    MemoryQueue,
    Queueable,
    Runnable,
    Task,
    TaskConfig,
    WrongArguments,
)
from fang_core.tasks.options import COLUMNS, checked_options


class Opted(Runnable):
    task_config = TaskConfig(kind="options.Opted")

    def run(self, queue: Queueable) -> None: ...


HINTS = get_type_hints(InsertOptions, include_extras=True)


def test_every_option_may_be_none() -> None:
    assert {name for name, hint in HINTS.items() if type(None) in get_args(hint)} == HINTS.keys()


def test_what_is_stored_as_it_is_has_a_field_of_its_name() -> None:
    assert set(COLUMNS) <= set(Task._fields)
    assert set(COLUMNS) | {"scheduled_at", "delay", "uniq", "expires"} == HINTS.keys()


@pytest.mark.parametrize("name", sorted(HINTS.keys() & TaskConfig.__annotations__.keys() - {"expires"}))
def test_a_class_and_an_insert_take_the_same_values(name: str) -> None:
    """What follows the type in ``Annotated`` checks the value; a class adds its default at the end.

    Except of ``expires``, for which an insert takes a time, too.
    """
    of_class, of_insert = get_type_hints(TaskConfig, include_extras=True)[name], get_args(HINTS[name])[0]
    taken, default = get_args(of_class)[:-1], get_args(of_class)[-1].default
    assert taken == ((of_insert | None,) if default is None else get_args(of_insert) or (of_insert,))


def test_every_option_has_a_docstring() -> None:
    """Each key is followed by one, as editors show it."""
    body = inspect.getsource(InsertOptions).split('"""', 2)[2]
    for name in HINTS:
        after = body.split(f"\n    {name}: ", 1)[1].split("\n", 1)[1]
        assert after.startswith('    """'), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "max_retry",
            r"^insert: there is no option 'max_retry' \(did you mean 'max_retries'\?\); options are ",
        ),
        ("priorty", r"did you mean 'priority'\?"),
        ("conection", r"did you mean 'connection'\?"),
        ("task", r"no option 'task'"),
        ("task_typ", r"did you mean 'task_type'\?"),
        ("", r"no option ''"),
        ("id", r"^id is an option of insert_task: insert_tasks makes an id for each of its tasks$"),
    ],
)
def test_a_name_that_is_no_option_is_told_the_nearest(name: str, message: str) -> None:
    """Also if its value is None, or that of a good one is wrong."""
    for options in ({name: 1}, {name: None}, {"priority": "high", name: 1}):
        with pytest.raises(WrongArguments, match=message) as caught:
            checked_options(options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


async def test_nothing_is_inserted_with_an_unknown_option() -> None:
    given: dict[str, Any] = {"max_retry": 1}
    threaded, asynchronous = MemoryQueue(), AsyncMemoryQueue()
    with pytest.raises(WrongArguments, match="max_retries"):
        threaded.insert_task(Opted(), **given)
    with pytest.raises(WrongArguments, match="max_retries"):
        threaded.insert_tasks([Opted()], **given)
    with pytest.raises(WrongArguments, match="max_retries"):
        await asynchronous.insert_task(Opted(), **given)
    with pytest.raises(WrongArguments, match="insert_tasks makes an id"):
        await asynchronous.insert_tasks([Opted()], id=uuid4())
    assert (threaded.tasks, asynchronous.tasks) == ([], [])


def test_none_is_the_same_as_nothing() -> None:
    queue = MemoryQueue()
    row = queue.insert_task(Opted(), id=UUID(int=7), **InsertOptions(**dict.fromkeys(HINTS)))  # type: ignore[typeddict-item]
    assert (row.id, row.task_type, row.priority, row.max_retries, row.uniq_hash) == (UUID(int=7), "common", 0, 20, None)
    assert row.scheduled_at == row.created_at


def test_what_a_caller_hands_in_stays_as_it_was() -> None:
    options: InsertOptions = {"priority": None, "delay": timedelta(hours=1), "max_retries": 0}
    before = dict(options)
    row = MemoryQueue().insert_task(Opted(), **options)
    assert (options, row.priority, row.max_retries) == (before, 0, 0)
    assert row.scheduled_at - row.created_at == timedelta(hours=1)
    due = datetime(2040, 1, 1, tzinfo=UTC)
    assert MemoryQueue().insert_task(Opted(), scheduled_at=due).scheduled_at == due
