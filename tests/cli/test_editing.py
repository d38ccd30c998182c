"""`fang tasks edit` as users meet it."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from fang_cli.commands import fang
from fang_core import Queueable, Runnable, TaskConfig
from fang_core.tasks.registry import REGISTRY
from fang_threaded import Queue

APP = """
    from fang_threaded import Runnable, TaskConfig

    class Order(Runnable):
        task_config = TaskConfig(kind="cli.Order")
        number: int
        to: dict[str, str]

        def run(self, queue): ...
"""
Edit = Callable[..., Result]


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url) as opened:
        yield opened


@pytest.fixture
def order(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UUID]:
    """The id of a task whose class stands in the module `orders`, which the command has not imported."""
    (tmp_path / "orders.py").write_text(dedent(APP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REGISTRY, "_classes", {})

    class Order(Runnable):
        task_config = TaskConfig(kind="cli.Order")
        number: int
        to: dict[str, str]

        def run(self, queue: Queueable) -> None: ...

    task = queue.insert_task(Order(number=7, to={"city": "Rome", "name": "Ada"}))
    REGISTRY._classes.clear()
    yield task.id
    sys.modules.pop("orders", None)


@pytest.fixture
def edit(url: str, order: UUID) -> Edit:
    def invoke(*arguments: str) -> Result:
        command = ["tasks", "edit", str(order), *arguments, "--database-url", url]
        return CliRunner().invoke(fang, command, prog_name="fang")

    return invoke


def row(queue: Queue, task_id: UUID) -> Any:
    task = queue.find_task_by_id(task_id)
    assert task is not None
    return task


def test_fields_and_options_are_changed(queue: Queue, order: UUID, edit: Edit) -> None:
    at = ("--at", "2090-07-01T12:00", "--tz", "Europe/Berlin")
    result = edit("--set", "number=8", "--set", "to.city=Oslo", "--priority", "1", *at, "--app", "orders")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"task {order} has been changed\n"
    task = row(queue, order)
    assert task.metadata == {"type": "cli.Order", "number": 8, "to": {"city": "Oslo", "name": "Ada"}}
    assert (task.priority, task.scheduled_at) == (1, datetime(2090, 7, 1, 10, tzinfo=UTC))
    assert edit("--payload", '{"number": 9, "to": {}}', "--app", "orders").exit_code == 0
    assert row(queue, order).metadata == {"type": "cli.Order", "number": 9, "to": {}}


def test_all_options_are_changed_and_other_headers_stay(queue: Queue, order: UUID, edit: Edit) -> None:
    given = ("--type", "slow", "--max-retries", "7", "--timeout", "30s", "--expires", "2h", "--app", "orders")
    result = edit(*given, "--header", "tenant=acme", "--header", "trace=1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert edit("--header", "trace=2", "--app", "orders").exit_code == 0
    task = row(queue, order)
    assert (task.task_type, task.max_retries, task.timeout) == ("slow", 7, timedelta(seconds=30))
    assert task.expires_at == task.scheduled_at + timedelta(hours=2)
    assert task.headers == {"tenant": "acme", "trace": "2"}


def test_without_the_class_fields_are_written_only_unchecked(queue: Queue, order: UUID, edit: Edit) -> None:
    before = row(queue, order)
    refused = edit("--set", "number=8")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "fang: the class of 'cli.Order' is not known, and nothing can check the fields: name its module with --app"
    )
    assert row(queue, order) == before
    assert edit("--priority", "-1").exit_code == 0  # which needs no check of fields
    assert edit("--set", "number=many", "--unchecked").exit_code == 0
    after = row(queue, order)
    assert after.priority == -1
    assert after.metadata == {"type": "cli.Order", "number": "many", "to": {"city": "Rome", "name": "Ada"}}


def test_what_only_the_class_knows_is_left_alone(queue: Queue, url: str, order: UUID) -> None:
    class Unique(Runnable):
        task_config = TaskConfig(kind="cli.Order", uniq=True)

        def run(self, queue: Queueable) -> None: ...

    task = queue.insert_task(Unique())
    REGISTRY._classes.clear()
    result = CliRunner().invoke(fang, ["tasks", "edit", str(task.id), "--priority", "1", "--database-url", url])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("fang: the class of 'cli.Order' says which tasks are equal, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what is to change: --set, --payload, or an option such as --priority"),
        (("--set", "number=x-secret", "--app", "orders"), "--set: the payload does not fit Order.number: "),
        (("--set", "nubmer=8", "--app", "orders"), "--set: Order has no field 'nubmer' (did you mean 'number'?)"),
        (("--set", f"number={'[' * 50_000}{']' * 50_000}", "--app", "orders"), "a value is nested too deeply"),
        (("--set", "number.x=8", "--app", "orders"), "--set: 'number' is no object, so that 'number.x' is not in it"),
        (("--payload", "[]", "--app", "orders"), "--payload must be a JSON object"),
        (("--payload", "{}", "--set", "number=8"), "give --set or --payload, not both"),
        (("--in", "2h", "--at", "2090-01-01T00:00Z"), "give --at or --in, not both"),
    ],
)
def test_what_makes_no_sense_is_not_written(
    queue: Queue, order: UUID, edit: Edit, arguments: tuple[str, ...], message: str
) -> None:
    before = row(queue, order)
    result = edit(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fang: {message}")
    assert "secret" not in result.stderr
    assert row(queue, order) == before


def test_a_task_that_has_ended_stays_as_it_is(queue: Queue, order: UUID, edit: Edit) -> None:
    queue.cancel_task(order)
    result = edit("--priority", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
