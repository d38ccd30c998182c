"""`fang why` and `fang pools` as users meet them."""

import json
from collections.abc import Callable
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

from fang_cli.commands import fang
from fang_core import Progress, Queueable, Runnable, TaskConfig
from fang_core.backends.pools import Live, PoolRecord
from fang_core.driving import drive
from fang_core.record import LiveRun
from fang_threaded import Queue

Run = Callable[..., str]


class Print(Runnable):
    task_config = TaskConfig(kind="cli.Print", task_type="cli.prints")

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture
def printed(url: str) -> Run:
    """Runs a command on the database; returns what it prints."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(fang, [*arguments, "--database-url", url], env={"COLUMNS": "400"})
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return run


def test_why_names_the_cause_and_what_would_change_it(url: str, printed: Run) -> None:
    with Queue(url) as queue:
        task = queue.insert_task(Print())
        queue.pause("cli.prints", reason="out of \x1b[31mpaper", by="grace")
    cause, remedy = printed("why", str(task.id)).splitlines()
    assert cause.startswith("paused: Its task type cli.prints is paused by grace since ")
    assert cause.endswith("out of \N{REPLACEMENT CHARACTER}[31mpaper.")
    assert remedy == "fang queues resume cli.prints"
    told = json.loads(printed("why", str(task.id), "--json"))
    assert {name: told[name] for name in ("task_id", "cause", "remedy", "until")} == {
        "task_id": str(task.id),
        "cause": "paused",
        "remedy": remedy,
        "until": None,
    }
    assert told["details"] == {"task_type": "cli.prints", "by": "grace", "reason": "out of \x1b[31mpaper"}
    assert printed("why", str(uuid4())).startswith("gone: ")


HUNG = {
    "a": {"since": "2026-01-01T00:00:00+00:00", "kind": "cli.Hung", "attempt": 3, "hung": "stuck.py:7\x1b[2J"},
    "b": {"since": "2026-01-01T00:00:00+00:00", "kind": "cli.Slow", "attempt": 1, "progress": [1, 2, ""]},
    "c": ["written by somebody else"],
}


def test_pools_are_shown_with_what_they_do(url: str, printed: Run) -> None:
    assert printed("pools").splitlines() == [
        "no pools",
        "no runs that hang",
        "no runs that go on for more than a second",
    ]
    runs = (LiveRun(uuid4(), "cli.Print", 3723.5, 2, Progress(1, 4, "pages\x1b[2J")), LiveRun(uuid4(), "b", 1.5, 1))
    with Queue(url) as queue:
        store = queue.store()
        pool = PoolRecord(uuid4(), "threaded", "printer", 71, ("cli.prints",), ("cli.Print",), 4)
        drive(store.register(pool))
        drive(store.tell_live(pool.id, Live(2, 1, runs[::-1])))
        drive(store.close())
    text = printed("pools")
    assert "1 h 2 min" in text
    assert "1 of 4 pages\N{REPLACEMENT CHARACTER}[2J" in text
    assert text.index(str(runs[0].id)) < text.index(str(runs[1].id))  # the longest first
    with psycopg.connect(url) as connection:  # as the heart of the pool writes it
        connection.execute("UPDATE fang.fang_pools SET runs = %s", (json.dumps(HUNG),))
    lines = printed("pools").splitlines()
    [hung] = [line for line in lines if "cli.Hung" in line]
    assert "stuck.py:7\N{REPLACEMENT CHARACTER}[2J" in hung
    assert "cli.Slow" not in "\n".join(lines)
    [told] = json.loads(printed("pools", "--json"))
    since = "2026-01-01T00:00:00+00:00"
    assert told["hung"] == [
        {"id": "a", "kind": "cli.Hung", "attempt": 3, "since": since, "place": "stuck.py:7\x1b[2J"},
    ]
    assert (told["id"], told["busy"], told["workers"], told["waiting"]) == (str(pool.id), 2, 4, 1)
    assert told["live"][1] == {
        "id": str(runs[0].id),
        "kind": "cli.Print",
        "seconds": 3723.5,
        "attempt": 2,
        "progress": {"done": 1.0, "total": 4.0, "text": "pages\x1b[2J"},
    }
    assert told["seen_at"] is not None
