"""`fang queues` and `fang limits` as users meet them."""

import getpass
import json
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from fang_cli.commands import fang as command
from fang_core import Fair, Limit, Queueable, Runnable, TaskConfig
from fang_threaded import Queue, WorkerPool
from tests.cli.invoking import fang

ME = f"{getpass.getuser()}@{socket.gethostname()}"


class Export(Runnable):
    task_config = TaskConfig(
        kind="cli.Export", task_type="cli.exports", limits=[Limit(9)], fair_by=Fair("tenant", weights={"acme": 3})
    )
    tenant: str = ""

    def run(self, queue: Queueable) -> None: ...


class Login(Runnable):
    task_config = TaskConfig(
        kind="cli.Login", task_type="cli.logins", fair_by=Fair("password", weights={"hunter2secret": 5})
    )
    password: str = ""

    def run(self, queue: Queueable) -> None: ...


Run = Callable[..., str]


@pytest.fixture
def printed(url: str) -> Run:
    """Runs the command on the database; returns what it prints."""

    def run(*arguments: str) -> str:
        result = fang(*arguments, FANG_DATABASE_URL=url)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    return run


def told(run: Run, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_a_task_type_is_paused_and_resumed(url: str, printed: Run) -> None:
    with Queue(url) as queue:
        queue.insert_task(Export(), task_type="mail")
        queue.insert_task(Export(), task_type="mail", delay=timedelta(hours=1))
    paused = printed("queues", "pause", "mail", "--for", "90m", "--reason", "the API is \x1b[31mdown")
    assert re.match(rf"mail is paused until \S+ \S+, since \S+ \S+ by {ME}: the API is .\[31mdown\n", paused)
    assert paused.endswith("none of its tasks runs; 2 wait\n")
    [shown] = told(printed, "queues", "list")
    until, since = (datetime.fromisoformat(shown.pop(name)) for name in ("paused_until", "paused_at"))
    assert abs(until - since - timedelta(minutes=90)) < timedelta(minutes=1)
    assert 0 < shown.pop("oldest_due_seconds") < 60 * 60
    assert shown == {
        "task_type": "mail",
        "waiting": 2,
        "running": 0,
        "estimated": False,
        "at_least": False,
        "pools": 0,
        "workers": 0,
        "paused": True,
        "limited": False,
        "paused_by": ME,
        "pause_reason": "the API is \x1b[31mdown",
    }
    assert [each["paused"] for each in told(printed, "limits", "list")] == [True]
    table = printed("queues", "list")
    assert "mail" in table
    assert "paused" in table
    assert "\x1b" not in table
    assert printed("queues", "resume", "mail") == "mail is not paused\n"
    assert [each["paused"] for each in told(printed, "queues", "list")] == [False]
    assert printed("limits", "list") == "no task types that are paused or limited\n"


def test_only_pools_that_work_count_as_serving_a_type(url: str, printed: Run) -> None:
    """Of a killed pool the record stays until another pool finds it dead: its type would look served."""
    with psycopg.connect(url) as connection:
        for workers, mode, stopping, silent_for in (
            (1, "threaded", False, "9 s"),
            (10, "async", False, "31 s"),
            (100, "threaded", True, "1 s"),
            (1000, "manual", False, "1 s"),
            (10_000, "threaded", False, None),  # it never tells what it does, as pools of older releases
        ):
            [pool] = (
                connection.execute(
                    "INSERT INTO fang.fang_pools (id, mode, host, pid, task_types, kinds, workers, stopping)"
                    " VALUES (gen_random_uuid(), %s, 'host', 1, '{mail}', '{}', %s, %s) RETURNING id",
                    (mode, workers, stopping),
                ).fetchone()
                or ()
            )
            if silent_for:
                connection.execute(
                    "INSERT INTO fang.fang_live (pool_id, at) VALUES (%s, now() - %s::interval)", (pool, silent_for)
                )
    [mail] = told(printed, "queues", "list")
    assert (mail["task_type"], mail["pools"], mail["workers"]) == ("mail", 2, 10_001)


def test_a_pause_may_end_at_a_time(printed: Run) -> None:
    printed("queues", "pause", "mail", "--until", "2090-07-01T12:00", "--tz", "Europe/Berlin", "--by", "grace")
    [shown] = told(printed, "queues", "list")
    assert datetime.fromisoformat(shown["paused_until"]) == datetime(2090, 7, 1, 10, tzinfo=UTC)
    assert shown["paused_by"] == "grace"


def test_limits_are_set_listed_and_removed(url: str, printed: Run) -> None:
    WorkerPool(Queue(url), task_type="cli.exports").drain()  # declares what the class says
    given = ("--each", "tenant", "2", "--rate", "10/s,20", "--rate-each", "tenant", "5/30s")
    shown = printed("limits", "set", "cli.exports", "5", *given, "--reason", "it is slow")
    assert shown == (
        "cli.exports: 5 at once; 2 at once for each tenant; 10/s, 20 at first; 5/30s for each tenant\n"
        "instead of what cli.Export declares: 9 at once; fair for each tenant (weights: acme 3)\n"
    )
    [each] = told(printed, "limits", "list")
    assert datetime.fromisoformat(each.pop("set_at"))
    assert each == {
        "task_type": "cli.exports",
        **dict.fromkeys(("paused_until", "paused_at", "paused_by", "pause_reason")),
        "paused": False,
        "holds": {
            "max_running": 5,
            "max_running_per_key": 2,
            "rate": {"interval_seconds": 0.1, "burst": 20},
            "key_rate": {"interval_seconds": 6.0, "burst": 1},
            "fair": False,
            "weights": None,
        },
        "declared": {"cli.Export": [{"limit": 9}, {"fair": True, "by": "tenant", "weights": {"acme": 3}}]},
        "set": [
            {"limit": 5},
            {"limit": 2, "by": "tenant"},
            {"rate": 10, "per": 1.0, "burst": 20},
            {"rate": 5, "per": 30.0, "by": "tenant"},
        ],
        "set_by": ME,
        "set_reason": "it is slow",
        "running": 0,
        "waiting": 0,
        "more_waiting": False,
    }
    assert told(printed, "status")["types"][0]["holds"] == each["holds"]
    table = printed("limits", "list")
    assert "10/min for each key" in table
    assert "it is slow" in table
    assert printed("limits", "list") in printed("status")
    assert printed("limits", "remove", "cli.exports") == "cli.exports: 9 at once; keys take turns, as the code says\n"
    assert printed("limits", "set", "cli.exports", "--none").startswith("cli.exports: no limits\ninstead of")
    fair = printed("limits", "set", "cli.exports", "--fair", "tenant", "--weight", "a=b=2")
    assert fair.startswith("cli.exports: fair for each tenant (weights: a=b 2)\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("limits set mail", "say what is to hold: a number, --each, --rate, --rate-each or --fair; or --none"),
        ("limits set mail 5 --none", "--none means no limits: leave it out, or the other options"),
        ("limits set mail --rate 10", "--rate must be a rate such as 10/s, 100/min or 5/30s, not '10'"),
        ("limits set mail --rate 10/year", "--rate must be a rate such as"),
        pytest.param(f"limits set mail --rate {'1' * 5_000}/s", "--rate must be a rate such as", id="many digits"),
        ("limits set mail --rate 5/99999999999999d", "--rate: the period of '5/99999999999999d' is too long"),
        ("limits set mail --rate 0/s", "Rate: n must be a whole number from 1 to"),
        ("limits set mail --rate-each tenant 10/s/s", "--rate-each must be a rate such as"),
        ("limits set mail --weight a=2", "--weight needs --fair KEY"),
        ("limits set mail --fair a --weight a", "--weight must be a key and a whole number, as in acme=3, not 'a'"),
        ("limits set mail --each a 2 --fair b", "a task has one key"),
        ("queues pause mail --for 5m --until 2090-01-01", "give --for or --until, not both"),
        ("queues pause mail --for 0", "--for must be more than zero, and a hundred years at most"),
        ("schedules pause nightly --for 0s", "--for must be more than zero, and a hundred years at most"),
        ("queues pause mail --for soon", "--for must be a span of time such as 90s, 15m, 6h or 2d, not 'soon'"),
        ("queues pause mail --until tomorrow", "--until must be a time such as 2026-12-24T18:00+01:00, not 'tomorrow'"),
        ("queues pause mail --until 2090-01-01", "--until has no zone: add --tz Europe/Berlin"),
        ("queues pause mail", "no database: give --database-url, or set FANG_DATABASE_URL"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FANG_DATABASE_URL", raising=False)
    assert command.main(arguments.split(), standalone_mode=False) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fang: {message}")
    assert error.count("\n") == 1


def test_what_the_database_refuses_is_one_line(url: str) -> None:
    result = fang("limits", "set", "mail", "--each", "tenant", "2", FANG_DATABASE_URL=url)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("fang: tasks of type 'mail' have no key: set fair_by='tenant' in their class")


def test_a_type_that_nothing_has_is_told_as_such_with_the_one_that_was_meant(url: str, printed: Run) -> None:
    lists = ": fang queues list shows which there are\n"
    assert printed("queues", "pause", "mail").endswith(f"none waits\nno pool serves this task type{lists}")
    assert printed("limits", "set", "exports", "3").endswith(f"no pool serves this task type{lists}")
    with Queue(url) as queue, WorkerPool(queue, task_type="mail"):
        meant = f"no pool serves this task type (did you mean 'mail'?){lists}"
        assert printed("queues", "pause", "mial").endswith(meant)
        assert printed("limits", "set", "mial", "3").endswith(meant)
        assert printed("queues", "resume", "mial") == f"mial is not paused, with its limits: 3 at once\n{meant}"
        assert printed("limits", "remove", "mial") == f"mial: no limits, as the code says\n{meant}"
        assert printed("queues", "resume", "mial") == f"mial is not paused\n{meant}"
        assert printed("queues", "resume", "mail") == "mail is not paused\n"
        assert printed("limits", "remove", "mail") == "mail: no limits, as the code says\n"
        assert printed("queues", "pause", "mail").endswith("none waits\n")
        assert "no pool" not in printed("limits", "set", "mail", "3")


def test_a_pause_that_has_passed_is_refused_and_leaves_the_one_that_holds(url: str) -> None:
    assert fang("queues", "pause", "mail", FANG_DATABASE_URL=url).returncode == 0
    result = fang("queues", "pause", "mail", "--until", "2020-01-01T00:00Z", FANG_DATABASE_URL=url)
    assert (result.returncode, result.stderr) == (2, "fang: until has passed already: nothing was changed\n")
    assert "paused" in fang("queues", "list", FANG_DATABASE_URL=url).stdout


def test_weights_do_not_show_a_masked_field(url: str, printed: Run) -> None:
    WorkerPool(Queue(url), task_type="cli.logins").drain()  # declares what the class says
    commands = [("limits", "list"), ("status",), ("queues", "list")]
    shown: dict[tuple[str, ...], str] = {}
    shown |= {(*words, *more, "before"): printed(*words, *more) for words in commands for more in ((), ("--json",))}
    set_by_hand = ("limits", "set", "cli.logins", "4", "--fair", "password", "--weight", "hunter2secret=7")
    shown[set_by_hand] = printed(*set_by_hand)
    shown |= {(*words, *more): printed(*words, *more) for words in commands for more in ((), ("--json",))}
    shown["queues", "resume"] = printed("queues", "resume", "cli.logins")
    shown["limits", "remove"] = printed("limits", "remove", "cli.logins")
    assert [words for words, text in shown.items() if "hunter2secret" in text] == []
    assert shown[set_by_hand].startswith(
        "cli.logins: 4 at once; fair for each password (weights: ********** 7)\n"
        "instead of what cli.Login declares: fair for each password (weights: ********** 5)\n"
    )
    (info,) = json.loads(shown["limits", "list", "--json"])
    assert info["holds"]["weights"] == {"**********": 7}
    assert info["declared"] == {"cli.Login": [{"fair": True, "by": "password", "weights": {"**********": 5}}]}
    with Queue(url) as queue:
        (kept,) = queue.limits.list()
    assert kept.settings.weights == {"hunter2secret": 5}


def test_weights_do_not_show_a_field_that_the_setting_masks(
    url: str, printed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkerPool(Queue(url), task_type="cli.exports").drain()
    commands = [(*words, *more) for words in (("limits", "list"), ("status",)) for more in ((), ("--json",))]
    assert [words for words in commands if "acme" not in printed(*words)] == []
    assert [words for words in commands if "acme" in printed(*words, "--mask", "tenant")] == []
    monkeypatch.setenv("FANG_MASK", "tenant")
    assert [words for words in commands if "acme" in printed(*words)] == []
    assert "acme" not in printed("limits", "set", "cli.exports", "5")
