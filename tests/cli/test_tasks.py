"""`fang tasks` as users meet it: lists and pages, one task, and changes of many."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from fang_cli.commands import fang
from fang_cli.tasks import asking
from fang_cli.tasks.finding import found_page
from fang_core import Limit, Queueable, Runnable, Task, TaskConfig, TaskState
from fang_core.monitoring.listing import Count, TaskPage, in_words
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.selecting.filter import TaskFilter
from fang_threaded import Queue
from tests.modes import Database

APP = """
    from pydantic import BaseModel, Secret, SecretStr, field_serializer
    from fang_threaded import Runnable, TaskConfig

    class Card(BaseModel):
        number: SecretStr
        name: str

        @field_serializer("number")
        def written(self, value):
            return value.get_secret_value()

    class Charge(Runnable):
        task_config = TaskConfig(kind="cli.Charge")
        card: Card
        amount: int
        pin: Secret[int]
        api_token: str

        def run(self, queue): ...
"""
FAILED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Mail(Runnable):
    task_config = TaskConfig(kind="cli.Mail", task_type="mail")
    to: str = "ada"

    def run(self, queue: Queueable) -> None: ...


Run = Callable[..., Result]


@pytest.fixture
def run(url: str) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        command = [*arguments, "--database-url", url]
        return CliRunner().invoke(fang, command, input=stdin, prog_name="fang", env={"COLUMNS": "400"})

    return invoke


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    with Queue(url) as opened:
        yield opened


def told(result: Result) -> Any:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def fail(url: str, task: Task, error: str = "KeyError: 7") -> None:
    errors = [{"number": 1, "time": FAILED_AT.isoformat(), "error": error, "traceback": "Traceback\n  line"}]
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE fang.fang_tasks SET state = 'failed', attempt = 1, error_message = %s, errors = %s WHERE id = %s",
            (error, json.dumps(errors), task.id),
        )


class Called(Runnable):
    task_config = TaskConfig(kind="cli.Called", task_type="calls", limits=[Limit(1, by="api_token")])
    api_token: str

    def run(self, queue: Queueable) -> None: ...


def test_no_command_shows_a_key_or_a_header_that_is_masked(queue: Queue, run: Run) -> None:
    task = queue.insert_task(Called(api_token="s3cret"), headers={"authorization": "s3cret", "from": "test"})
    one = str(task.id)
    commands = [("tasks", "show", one), ("tasks", "list"), ("why", one), ("queues", "list"), ("limits", "list")]
    shown = {words: run(*words, *more).stdout for words in commands for more in ((), ("--json",))}
    assert [words for words, text in shown.items() if "s3cret" in text] == []
    listed = told(run("tasks", "list", "--json"))["tasks"][0]
    assert (listed["lane"], listed["headers"]) == ("**********", {"authorization": "**********", "from": "test"})
    unmasked = told(run("tasks", "show", one, "--unmasked", "--json"))
    assert (unmasked["lane"], unmasked["headers"]["authorization"]) == ("s3cret", "s3cret")


def test_a_word_of_the_setting_or_the_option_hides_fields_too(
    queue: Queue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them hides the other does not show, and the usual words stay."""
    task = queue.insert_task(
        Mail(to="ada@example.org"), headers={"tenant": "acme", "iban": "DE02", "x-token": "s3cret", "from": "test"}
    )
    commands = [
        ("tasks", "show", str(task.id), "--payload", "--app", __name__),
        ("tasks", "list"),
        ("why", str(task.id)),
    ]

    def seen(*more: str) -> set[str]:
        shown = "".join(run(*words, "--json", *more).stdout for words in commands)
        assert "from" in shown
        return {text for text in ("ada@example.org", "acme", "DE02", "s3cret") if text in shown}

    assert seen() == {"ada@example.org", "acme", "DE02"}
    assert seen("--mask", "iban", "--mask", "ten-ant") == {"ada@example.org"}
    monkeypatch.setenv("FANG_MASK", "IBAN, to")
    assert seen() == {"acme"}
    assert seen("--mask", "tenant") == set()


def test_an_empty_word_is_refused(run: Run) -> None:
    result = run("tasks", "list", "--mask", "")
    assert (result.exit_code, result.output) == (2, "fang: --mask takes a part of a field's name, as in --mask iban\n")


# Lists ----------------------------------------------------------------------------------------------------------------


def test_pages_go_on_as_the_last_line_says(queue: Queue, run: Run) -> None:
    tasks = queue.insert_tasks([Mail(to=f"no {number}") for number in range(5)])
    queue.insert_task(Mail(to="other"), task_type="other")
    seen: list[str] = []
    command = ["tasks", "list", "--type", "mail", "--newer-than", "2h", "--limit", "2"]
    for _ in range(3):
        result = run(*command)
        assert result.exit_code == 0, result.output
        seen += re.findall(r"[0-9a-f-]{36}", result.stdout.partition("go on")[0])
        command = shlex.split(result.stdout.partition("go on with: fang ")[2])
    assert command == []
    assert sorted(seen) == sorted(str(task.id) for task in tasks)


def test_each_option_is_a_condition(queue: Queue, run: Run, url: str) -> None:
    old = queue.insert_task(Mail(to="grace"), headers={"trace": "a"})
    queue.insert_task(Mail(), headers={"trace": "b"})
    failed = queue.insert_task(Mail())
    fail(url, failed)

    def ids(*options: str) -> set[str]:
        return {task["id"] for task in told(run("tasks", "list", "--json", *options))["tasks"]}

    assert ids("--header", "trace=a") == {str(old.id)}
    assert ids("--payload", "to=grace", "--kind", "cli.Mail") == {str(old.id)}
    assert ids("--state", "failed", "--error", "KeyError") == {str(failed.id)}
    assert ids("--id", str(old.id), "--id", str(failed.id), "--state", "new") == {str(old.id)}
    assert ids("--older-than", "1h") == ids("--changed-within", "0s") == ids("--pool", str(old.id)) == set()
    assert len(ids("--newer-than", "1h", "--unchanged-for", "0s")) == 3


def test_json_of_a_page_has_keys_that_stay(queue: Queue, run: Run) -> None:
    task = queue.insert_task(Mail(to="secret"), headers={"trace": "a"})
    result = run("tasks", "list", "--json")
    assert "secret" not in result.stdout
    page = told(result)
    assert set(page) == {"tasks", "cursor", "looked_at", "stopped", "looked_to"}
    assert (page["cursor"], page["stopped"]) == (None, False)
    [shown] = page["tasks"]
    assert set(shown) == set(Task._fields) - {"metadata", "errors", "conflict", "progress"}
    assert (shown["id"], shown["state"], shown["headers"]) == (str(task.id), "new", {"trace": "a"})
    assert datetime.fromisoformat(shown["created_at"]) == task.created_at


# One task -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def charge(queue: Queue, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of a task of the module `payments`, that failed."""
    (tmp_path / "payments.py").write_text(dedent(APP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REGISTRY, "_classes", {})
    task = queue.insert_task(Mail(), headers={"trace": "a\x1b"})
    with psycopg.connect(url) as connection:
        metadata = {"type": "cli.Charge", "card": {"number": "4711", "name": "Ada"}, "amount": 7}
        metadata |= {"pin": 1234, "api_token": "t0ken"}
        connection.execute("UPDATE fang.fang_tasks SET metadata = %s WHERE id = %s", (json.dumps(metadata), task.id))
    fail(url, task, "ValueError: \x1b[31mno\nmore")
    yield str(task.id)
    sys.modules.pop("payments", None)


def test_a_task_is_told_as_its_life(charge: str, run: Run) -> None:
    result = run("tasks", "show", charge)
    assert result.exit_code == 0, result.output
    assert re.search(r"^  state     failed$", result.stdout, re.MULTILINE)
    assert re.search(r"^  header    trace=a\N{REPLACEMENT CHARACTER}$", result.stdout, re.MULTILINE)
    life = {line.split("  ", 2)[2] for line in result.stdout.partition("life\n")[2].splitlines()}
    error = "failed: ValueError: \N{REPLACEMENT CHARACTER}[31mno"
    assert life == {"inserted", f"attempt 1 {error}", "failed after attempt 1"}
    assert "\x1b" not in result.stdout
    assert "4711" not in result.stdout
    assert "Traceback" not in result.stdout
    assert "      Traceback\n        line\n" in run("tasks", "show", charge, "--traceback").stdout


def test_why_it_does_not_run_is_told(charge: str, run: Run) -> None:
    why = told(run("tasks", "show", charge, "--json"))["why"]
    assert (why["cause"], why["task_id"]) == ("failed", charge)
    shown = run("tasks", "show", charge).stdout
    text = why["text"].replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert f"  why       {text}\n  remedy    {why['remedy']}\n" in shown


def test_secrets_of_a_payload_are_hidden(charge: str, run: Run) -> None:
    shown = run("tasks", "show", charge, "--payload", "--app", "payments")
    assert '  payload   card = {"name": "Ada", "number": "**********"}\n  payload   amount = 7\n' in shown.stdout
    known = told(run("tasks", "show", charge, "--payload", "--app", "payments", "--json"))
    hidden = {"pin": "**********", "api_token": "**********"}
    assert known["payload"] == {"card": {"number": "**********", "name": "Ada"}, "amount": 7, **hidden}
    assert [set(error) for error in known["errors"]] == [{"number", "time", "error"}]
    assert told(run("tasks", "show", charge, "--unmasked", "--json"))["payload"]["card"]["number"] == "4711"
    assert told(run("tasks", "show", charge, "--json"))["payload"] is None


def test_nothing_of_a_payload_is_shown_if_the_class_is_not_known(charge: str, run: Run) -> None:
    assert told(run("tasks", "show", charge, "--payload", "--json"))["payload"] == {
        "card": "**********",
        "amount": "**********",
        "pin": "**********",
        "api_token": "**********",
    }


def test_a_task_that_is_not_there(run: Run) -> None:
    gone = run("tasks", "show", "0199f3a2-7c1e-7d10-8a4b-2f6d9b1c0e55")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr.startswith("fang: there is no task 0199f3a2-7c1e-7d10-8a4b-2f6d9b1c0e55: ")
    assert run("tasks", "show", "7").stderr.startswith("fang: ID must be an id such as ")


# Changes of many ------------------------------------------------------------------------------------------------------


def states(queue: Queue) -> list[TaskState]:
    return [task.state for task in queue.list_tasks().tasks]


def test_a_script_says_yes_and_gets_numbers(queue: Queue, run: Run) -> None:
    queue.insert_tasks([Mail() for _ in range(3)])
    assert told(run("tasks", "cancel", "--type", "mail", "--dry-run", "--json")) == {
        "matched": 3,
        "exact": True,
        "estimate": None,
        "changed": None,
        "taken": None,
    }
    refused = run("tasks", "cancel", "--type", "mail")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert (
        refused.stderr == "fang: there is no terminal to ask at: add --yes to cancel them, or --dry-run to count them\n"
    )
    assert states(queue) == [TaskState.NEW] * 3
    done = run("tasks", "cancel", "--type", "mail", "--reason", "twice", "--by", "grace", "--yes")
    assert done.stdout == (
        "3 tasks match --type mail --state new --state retried --state in_progress\n"
        "3 tasks have been cancelled, or asked to end\n"
    )
    assert states(queue) == [TaskState.CANCELLED] * 3
    [task, *_] = queue.list_tasks().tasks
    assert task.cancel_request is not None
    assert (task.cancel_request["by"], task.cancel_request["reason"]) == ("grace", "twice")


def test_a_person_is_asked(queue: Queue, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "can_ask", lambda: True)
    queue.insert_task(Mail())
    no = run("tasks", "cancel", "--all", stdin="n\n")
    assert no.stdout.endswith("nothing was changed\n")
    assert "cancel them? [y/N]" in no.stderr
    assert states(queue) == [TaskState.NEW]
    assert run("tasks", "cancel", "--all", stdin="y\n").stdout.endswith("1 task has been cancelled, or asked to end\n")
    assert states(queue) == [TaskState.CANCELLED]


def test_ids_need_no_question(queue: Queue, run: Run) -> None:
    task = queue.insert_task(Mail())
    assert run("tasks", "cancel", str(task.id)).stdout == "1 task has been cancelled, or asked to end\n"
    assert states(queue) == [TaskState.CANCELLED]


def test_failed_tasks_run_again_and_others_only_if_named(queue: Queue, run: Run, url: str) -> None:
    failed, waiting, cancelled = queue.insert_tasks([Mail(), Mail(), Mail()])
    fail(url, failed)
    queue.cancel_task(cancelled.id)
    done = run("tasks", "retry", "--error", "KeyError", "--yes")
    assert done.stdout == ("1 task matches --state failed --state retried --error KeyError\n1 task has been retried\n")
    assert told(run("tasks", "retry", "--all", "--yes", "--json"))["changed"] == 0
    assert run("tasks", "retry", str(cancelled.id)).stdout == "1 task has been retried\n"
    assert run("tasks", "retry", str(waiting.id)).stdout == "0 tasks have been retried\n"
    assert states(queue) == [TaskState.NEW] * 3


def test_tasks_are_removed(queue: Queue, run: Run, url: str) -> None:
    kept, failed = queue.insert_tasks([Mail(), Mail()])
    fail(url, failed)
    assert told(run("tasks", "remove", "--state", "failed", "--yes", "--json")) == {
        "matched": 1,
        "exact": True,
        "estimate": None,
        "changed": 1,
        "taken": 0,
    }
    assert [task.id for task in queue.list_tasks().tasks] == [kept.id]
    assert run("tasks", "remove", "--all", "--yes").stdout == "1 task matches --all\n1 task has been removed\n"
    assert states(queue) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cancel --yes", "say which tasks to cancel: ids, an option such as --type or --state, or --all"),
        ("cancel --all --type mail --yes", "--all stands alone: leave it out, or the other options"),
        ("cancel 7 --yes", "ID must be an id such as"),
        ("list --error ab", "TaskFilter: error must"),
        ("list --payload a=1 --payload a.b=2", "--payload: 'a' and 'a.b' say two values for the same field"),
        ("list --older-than soon", "--older-than must be a time such as"),
        ("list --older-than 2026-01-01T12:00", "--older-than has no zone"),
        ("list --limit 501", "fang tasks list: invalid value for '--limit'"),
        ("list --cursor x", "cursor is not one that list_tasks returned"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, arguments: str, message: str) -> None:
    result = run("tasks", *arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fang: {message}")
    assert result.stderr.count("\n") == 1


# The numbers and words ------------------------------------------------------------------------------------------------


def test_more_than_a_list_counts_are_counted_before_a_change(run: Run, database: Database) -> None:
    """The planner expects none of them: the table was never analyzed."""
    database.execute(
        "INSERT INTO fang.fang_tasks (id, metadata, task_type, state)"
        " SELECT gen_random_uuid(), '{\"type\": \"cli.Many\"}', 'many', 'failed' FROM generate_series(1, 10500)"
    )
    dry = run("tasks", "retry", "--kind", "cli.Many", "--state", "failed", "--dry-run")
    assert dry.stdout == "10,500 tasks match --kind cli.Many --state failed\n"


def test_a_count_that_is_not_all_says_at_least() -> None:
    assert in_words(Count(1, True)) == "1 task"
    assert in_words(Count(2_784, False)) == "at least 2,784 tasks"
    part = Count(2_784, False, 13_820)
    assert in_words(part) == "at least 2,784 tasks (the database estimates 13,820)"
    assert json.loads(asking._numbers(part, 41_427)) == {
        "matched": 2_784,
        "exact": False,
        "estimate": 13_820,
        "changed": 41_427,
        "taken": None,
    }


def test_what_was_taken_meanwhile_is_said() -> None:
    assert asking.result("retried", Count(5, True), 3) == (
        "3 tasks have been retried; 2 that were counted were taken or changed meanwhile"
    )
    assert asking.result("retried", Count(1, True), 1) == "1 task has been retried"
    assert asking.result("retried", Count(90_000, False), 81_234) == "81,234 tasks have been retried"


def test_an_interrupted_change_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    def change(tell: Callable[[int], None]) -> int:
        tell(500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asking._changed("retried", change)
    assert capsys.readouterr().err == "500 were retried before it ended\n"


def test_options_of_a_filter_make_that_filter_again() -> None:
    from fang_cli.tasks.filtering import filter_of, told

    which = filter_of(
        headers=("a=b=c",),
        payload=("x.y=7", 'x.z="7"', "text=it's", "list=[1]"),
        kinds=("A", "B"),
        inserted_before=FAILED_AT - timedelta(hours=1),
    )
    assert which.payload == {"x": {"y": 7, "z": "7"}, "text": "it's", "list": [1]}
    words = shlex.split(told(which))
    pairs = list(zip(words[::2], words[1::2], strict=True))
    again = filter_of(
        headers=[value for name, value in pairs if name == "--header"],
        payload=[value for name, value in pairs if name == "--payload"],
        kinds=tuple(value for name, value in pairs if name == "--kind"),
        inserted_before=datetime.fromisoformat(next(value for name, value in pairs if name == "--older-than")),
    )
    assert again == which


class Sparse:
    """A queue that looks at ten tasks for each page, of which one matches, and stops; it has ``pages`` of these."""

    def __init__(self, pages: int) -> None:
        self.asked: list[tuple[int, str | None]] = []
        self._pages = pages

    def list_tasks(self, which: TaskFilter, *, limit: int, cursor: str | None) -> TaskPage:
        self.asked.append((limit, cursor))
        number = len(self.asked)
        is_last = number == self._pages
        tasks: Any = (f"task {number}",)
        return TaskPage(
            tasks=tasks, cursor=None if is_last else f"c{number}", looked_at=10, stopped=not is_last, looked_to=None
        )


@pytest.mark.parametrize(
    ("limit", "clock", "asked", "left"),
    [
        (3, repeat(0.0), [(3, "c0"), (2, "c1"), (1, "c2")], "c3"),
        (9, repeat(0.0), [(9, "c0"), (8, "c1"), (7, "c2"), (6, "c3")], None),
        (9, iter((0.0, 0.9, 1.0)), [(9, "c0"), (8, "c1")], "c2"),
    ],
    ids=["full", "no more", "over"],
)
def test_a_page_that_stops_is_gone_on_with_for_a_second(
    limit: int, clock: Iterator[float], asked: list[tuple[int, str]], left: str | None
) -> None:
    queue: Any = Sparse(pages=4)
    page = found_page(queue, TaskFilter(), limit, "c0", lambda: next(clock))
    assert queue.asked == asked
    assert page.tasks == tuple(f"task {number}" for number in range(1, len(asked) + 1))
    assert (page.cursor, page.stopped, page.looked_at) == (left, left is not None, 10 * len(asked))
