"""`fang insert` as users meet it."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from fang_cli.commands import fang
from fang_core.tasks.registry import REGISTRY
from fang_threaded import Queue

APP = """
    from fang_threaded import Runnable, TaskConfig

    class Invoice(Runnable):
        task_config = TaskConfig(kind="cli.Invoice", task_type="invoices", uniq=True)
        number: int
        note: str = ""

        def run(self, queue): ...
"""
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Runs the command in a folder with the module `shop`, on a database with the tables."""
    (tmp_path / "shop.py").write_text(dedent(APP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REGISTRY, "_classes", {})

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(fang, [*arguments, "--database-url", url], input=stdin, prog_name="fang")

    yield run
    sys.modules.pop("shop", None)


def test_a_task_is_inserted_as_its_class_and_the_options_say(invoke: Invoke, url: str) -> None:
    options = ["--type", "late", "--priority", "2", "--in", "2h", "--header", "trace=a=b", "--timeout", "90s"]
    result = invoke("insert", "cli.Invoice", '{"number": "7"}', "--app", "shop", *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    with Queue(url) as queue:
        task = queue.find_task_by_id(UUID(found["id"]))
    assert found["conflict"] is False
    assert task is not None
    assert task.metadata == {"type": "cli.Invoice", "number": 7, "note": ""}  # as the class reads it
    assert (task.task_type, task.priority, task.headers) == ("late", 2, {"trace": "a=b"})
    assert task.timeout == timedelta(seconds=90)
    assert timedelta(minutes=115) < task.scheduled_at - datetime.now(UTC) < timedelta(minutes=125)


def test_standard_input_and_the_setting_serve_too(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fang]\napp = ["shop"]\n')
    at = ("--at", "2090-07-01T12:00", "--tz", "Europe/Berlin")
    first = invoke("insert", "cli.Invoice", "-", *at, stdin='{"number": 8}')
    again = invoke("insert", "cli.Invoice", '{"number": 8}', *at)
    other = invoke("insert", "cli.Invoice", '{"number": 8}', *at, "--no-uniq")
    task_id = first.stdout.split()[1]
    assert first.stdout == f"task {task_id} has been inserted\n"
    assert again.stdout == f"task {task_id} is there already\n"
    assert other.stdout.endswith(" has been inserted\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cli.Invoice", '{"number": "x-secret"}'], "JSON: the payload does not fit Invoice.number: Input should be a"),
        (["cli.Invoice", '{"nubmer": 7}'], "JSON: Invoice has no field 'nubmer' (did you mean 'number'?)"),
        (["cli.Invoice", "{number: 7}"], "JSON is not JSON: Expecting property name"),
        (["cli.Invoice", "[7]"], "JSON must be a JSON object"),
        (["cli.Invoice", f'{{"number": {"[" * 50_000}{"]" * 50_000}}}'], "JSON is nested too deeply"),
        (["cli.Invioce"], "no class has the kind 'cli.Invioce' (did you mean 'cli.Invoice'?)"),
        (["cli.Invoice", "{}", "--at", "2090-01-01", "--in", "2h"], "give --at or --in, not both"),
        (
            ["cli.Invoice", "{}", "--header", "trace"],
            "--header must be a key and a text, as in trace=7f3a, not 'trace'",
        ),
        (["cli.Invoice", "{}", "--app", "shoop"], "there is no module shoop"),
    ],
)
def test_what_the_class_refuses_is_not_written(invoke: Invoke, url: str, arguments: list[str], message: str) -> None:
    app = [] if "--app" in arguments else ["--app", "shop"]
    result = invoke("insert", *arguments, *app)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fang: {message}")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    with Queue(url) as queue:
        assert queue.count_by_kind() == {}


def test_without_a_module_no_class_is_known(invoke: Invoke) -> None:
    result = invoke("insert", "cli.Invoice", "{}")
    assert result.exit_code == 2
    assert result.stderr == (
        "fang: the class of 'cli.Invoice' is not known: name its module with --app, or in the setting app; or write it "
        "--unchecked\n"
    )


def test_a_class_named_with_its_module_is_told_how_to_write_that(invoke: Invoke) -> None:
    assert invoke("insert", "shop:Invoice").stderr == (
        "fang: the class of 'shop:Invoice' is not known: write Invoice --app shop; or write it --unchecked\n"
    )


def test_what_no_class_checks_is_inserted_if_that_is_said(invoke: Invoke, url: str) -> None:
    result = invoke("insert", "cli.Elsewhere", '{"number": [1, null]}', "--unchecked", "--type", "late", "--json")
    assert result.exit_code == 0, result.output
    with Queue(url) as queue:
        task = queue.find_task_by_id(UUID(json.loads(result.stdout)["id"]))
    assert task is not None
    assert task.metadata == {"type": "cli.Elsewhere", "number": [1, None]}
    assert (task.kind, task.task_type) == ("cli.Elsewhere", "late")
    assert invoke("insert", "cli.Elsewhere", "[1]", "--unchecked").exit_code == 2
