"""`fang schedules` as users meet it."""

import getpass
import json
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from fang_cli.commands import fang as command
from fang_core import Every
from fang_threaded import Queue, WorkerPool
from tests.cli import scheduled
from tests.cli.invoking import fang
from tests.modes import eventually

ME = f"{getpass.getuser()}@{socket.gethostname()}"
MODULE = scheduled.__name__
REPORT = f"{MODULE}:Report"

Run = Callable[..., str]
Refused = Callable[..., str]


@pytest.fixture
def printed(url: str) -> Run:
    """Runs the command on the database; returns what it prints."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, ["schedules", *arguments, "--database-url", url])
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return run


@pytest.fixture
def refused(url: str) -> Refused:
    """Runs the command on the database; returns its exit code and the one line that says what is wrong."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, ["schedules", *arguments, "--database-url", url])
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        return f"{result.exit_code} {result.stderr.strip()}"

    return run


def listed(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("list", "--json"))
    return found


def test_a_schedule_is_put_and_shown_with_its_next_ticks(url: str, printed: Run) -> None:
    shown = printed(
        *("put", "nightly", REPORT, "--args", '{"day": "today"}', "--cron", "30 2 * 3,4 7L"),
        *("--tz", "Europe/Berlin", "--overlap", "skip", "--jitter", "10m", "--reason", "quieter", "--priority", "-1"),
    )
    assert shown == printed("list")
    lines = shown.splitlines()
    assert lines[:3] == [
        "nightly",
        '  task    cli.Report {"day": "today", "pages": 1} (task type cli.reports, priority -1, unique)',
        "  due     30 2 * 3,4 7L in Europe/Berlin, overlap skip, missed latest, jitter 10m",
    ]
    assert lines.pop(3) == "  pools   none serves its task type, so no tick is made"
    assert len(lines) == 9
    assert {re.sub(r"\d\d\d\d-\d\d-\d\d", "DAY", line[10:]) for line in lines[3:8]} == {
        "Sun DAY 03:00+0200 (moved: clocks skip 02:30)",
        "Sun DAY 02:30+0200",
    }
    assert re.fullmatch(rf"  changed \S+ \S+ by {ME}: quieter", lines[8])


def test_the_options_of_its_tasks_and_its_spans_are_shown_as_they_are_given(printed: Run) -> None:
    shown = printed(
        *("put", "often", REPORT, "--every", "6h", "--missed", "all", "--missed-within", "36h", "--no-uniq"),
        *("--max-retries", "3", "--timeout", "90s", "--expires", "15m", "--pause-on-failure"),
    )
    assert "(task type cli.reports, max retries 3, timeout 90s, expires after 15m)\n" in shown
    assert (
        "  due     every 6h, shown in UTC, overlap allow, missed all, up to 36h late, pauses if its task fails\n"
        in shown
    )


def test_a_schedule_of_a_class_that_no_pool_has_is_shown_as_such(url: str, printed: Run) -> None:
    """As when the class is gone from the code: the next ticks, which are shown, will not come."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO fang.fang_schedules (name, last_tick, declared) SELECT kind, now(), jsonb_build_object("
            "'kind', kind, 'task_type', 'cli.reports', 'cron', '@daily', 'tz', 'UTC')"
            " FROM unnest(ARRAY['cli.Gone', 'cli.Yearly']) AS class(kind)"
        )
    with WorkerPool(Queue(url), task_type="cli.reports"):
        shown = {each.split("\n")[0]: each for each in printed("list").split("\n\n")}
    told = "\n  pools   none of its task type has its class, so no tick is made\n"
    assert {name: told in each for name, each in shown.items()} == {"cli.Gone": True, "cli.Yearly": False}


def test_a_schedule_whose_task_type_no_pool_serves_is_shown_as_such(url: str, printed: Run) -> None:
    put = ("put", "nightly", REPORT, "--cron", "@daily")
    assert "  pools   none serves its task type, so no tick is made\n" in printed(*put)
    with WorkerPool(Queue(url), task_type="cli.reports"):
        assert "  pools " not in printed(*put)
        assert "  pools   none serves its task type (did you mean 'cli.reports'?), so no tick is made\n" in printed(
            *put, "--task-type", "cli.repotrs"
        )
        assert "(did you mean 'cli.reports'?)" in printed("resume", "nightly")
        assert "(did you mean 'cli.reports'?)" in printed("list")


def test_json_has_keys_that_stay(url: str, printed: Run) -> None:
    printed("put", "nightly", REPORT, "--cron", "30 2 * 3 7L", "--tz", "Europe/Berlin", "--until", "2099-01-01")
    [found] = listed(printed)
    tick = found.pop("next")[0]
    at, named = (datetime.fromisoformat(tick.pop(name)) for name in ("at", "named"))
    assert tick == {"shift": "moved"}
    assert (at.hour, at.utcoffset(), named.hour, named.tzinfo) == (3, timedelta(hours=2), 2, None)
    for name in ("last_tick", "changed_at"):
        assert datetime.fromisoformat(found.pop(name)).tzinfo is not None
    assert found.pop("changed_by") == ME
    assert found == {
        "name": "nightly",
        "kind": "cli.Report",
        "task_type": "cli.reports",
        "options": found["options"],
        "cron": "30 2 * 3 7L",
        "every": None,
        "at": None,
        "anchor": None,
        "tz": "Europe/Berlin",
        "overlap": "allow",
        "missed": "latest",
        "missed_within": None,
        "jitter": None,
        "until": "2098-12-31T23:00:00+00:00",
        "pause_on_failure": False,
        "paused": False,
        "paused_until": None,
        "paused_at": None,
        "paused_by": None,
        "pause_reason": None,
        "last_task_id": None,
        "declared": None,
        "change_reason": None,
        "payload": {"day": "yesterday", "pages": 1},
    }


def test_what_is_not_given_stays(url: str, printed: Run, refused: Refused) -> None:
    printed(
        *("put", "nightly", REPORT, "--args", '{"pages": 7}', "--every", "6h", "--tz", "Asia/Tokyo"),
        *("--overlap", "queue_one", "--missed", "skip", "--pause-on-failure", "--max-retries", "3"),
    )
    [before] = listed(printed)
    printed("put", "nightly", "--overlap", "skip", "--reason", "calmer")
    [after] = listed(printed)
    kept = before.keys() - {"overlap", "changed_at", "change_reason"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert (after["overlap"], after["change_reason"], after["missed_within"]) == ("skip", "calmer", 60)
    printed("put", "nightly", "--cron", "@daily", "--no-pause-on-failure", "--missed", "latest")
    [after] = listed(printed)
    assert (after["cron"], after["every"], after["tz"], after["overlap"]) == ("@daily", None, "Asia/Tokyo", "skip")
    assert (after["missed"], after["missed_within"], after["pause_on_failure"]) == ("latest", None, False)
    assert (after["payload"]["pages"], after["options"]["max_retries"]) == (7, 3)
    assert refused("put", "nightly", "--every", "5m", "--at", "2099-12-24T18:00") == (
        "2 fang: give one of --cron, --every and --at"
    )
    assert refused("put", "nightly", "--priority", "1", "--args", "{}") == (
        "2 fang: --priority, --args: name the class of the task too, as in app.tasks:Report"
    )
    assert refused("put", "nighty", "--cron", "@daily") == (
        "1 fang: there is no schedule 'nighty': did you mean 'nightly'?; "
        "a new one needs the class of its task, as in app.tasks:Report"
    )


def test_what_people_get_wrong_is_told_in_one_line_and_nothing_is_written(printed: Run, refused: Refused) -> None:
    for arguments, line in (
        ((REPORT,), "2 fang: give one of --cron, --every and --at"),
        ((REPORT, "--cron", "@daily", "--every", "5m"), "2 fang: give one of --cron, --every and --at"),
        ((REPORT, "--cron", "61 * * * *"), "2 fang: cron '61 * * * *': minute '61' is not in 0-59"),
        ((REPORT, "--every", "soon"), "2 fang: --every must be a span of time such as 90s, 15m, 6h or 2d, not 'soon'"),
        ((REPORT, "--at", "noon"), "2 fang: --at must be a time such as 2026-12-24T18:00+01:00, not 'noon'"),
        (
            (REPORT, "--at", "2099-12-24T18:00"),
            "2 fang: --at has no zone: add --tz Europe/Berlin, say, or an offset: 2099-12-24T18:00:00+00:00",
        ),
        (
            (REPORT, "--cron", "@daily", "--tz", "Berlin"),
            "2 fang: there is no time zone 'Berlin'; give a name like 'Europe/Berlin'",
        ),
        (
            (REPORT, "--cron", "@daily", "--args", "day=today"),
            "2 fang: --args is not JSON: Expecting value: line 1 column 1 (char 0)",
        ),
        (
            (REPORT, "--cron", "@daily", "--args", "[]"),
            """2 fang: --args must be a JSON object, as in '{"day": "today"}'""",
        ),
        (
            (REPORT, "--cron", "@daily", "--args", '{"page": 1}'),
            "2 fang: --args: Report has no field 'page' (did you mean 'pages'?)",
        ),
        (
            (REPORT, "--cron", "@daily", "--args", '{"pages": "secret"}'),
            "2 fang: --args: the payload does not fit Report.pages: Input should be a valid integer, unable to parse "
            "string as an integer",
        ),
        ((f"{MODULE}:Rapport", "--cron", "@daily"), f"2 fang: module {MODULE} has no attribute Rapport"),
        (
            (f"{MODULE}:NOT_A_TASK", "--cron", "@daily"),
            f"2 fang: {MODULE}:NOT_A_TASK is not a Runnable or AsyncRunnable but of type int",
        ),
        (
            ("Report", "--cron", "@daily"),
            "2 fang: 'Report' names no task class: write module:class, as in app.tasks:Report",
        ),
    ):
        assert refused("put", "nightly", *arguments) == line
    assert refused("put", "", REPORT, "--cron", "@daily").startswith("2 fang: the name of a schedule has 1 to 500")
    day = ("--from", "2026-01-01", "--to", "2026-01-02", "--tz", "UTC")
    for verb, *rest in (["pause"], ["resume"], ["run"], ["remove"], ["backfill", *day]):
        assert refused(verb, "nightly", *rest).startswith("1 fang: there is no schedule 'nightly': ")
    assert printed("list") == "no schedules\n"


def test_a_schedule_is_paused_and_resumed(printed: Run) -> None:
    printed("put", "nightly", REPORT, "--cron", "@daily")
    paused = printed(
        "pause", "nightly", "--until", "2099-12-24T18:00", "--tz", "Europe/Berlin", "--reason", "h\x1b[31mm"
    )
    assert paused == "schedule nightly is paused until 2099-12-24 17:00:00+00:00\n"
    shown = printed("list")
    assert re.search(rf"\n  paused  until 2099-12-24 17:00:00\+00:00, since \S+ \S+ by {ME}: h.\[31mm\n", shown)
    assert "\n  next    Fri 2099-12-25 00:00+0000\n" in shown
    assert "\x1b" not in shown
    assert "paused" not in printed("resume", "nightly", "--by", "ada")
    assert "by ada\n" in printed("list")
    assert printed("pause", "nightly") == "schedule nightly is paused\n"
    assert "\n  paused  until it is resumed, since " in printed("list")
    printed("pause", "nightly", "--for", "2h")
    (each,) = listed(printed)
    begin, end = (datetime.fromisoformat(each[name]) for name in ("paused_at", "paused_until"))
    assert abs(end - begin - timedelta(hours=2)) < timedelta(seconds=1)
    printed("put", "nightly", REPORT, "--cron", "@daily", "--tz", "Europe/Berlin")
    shown = printed("pause", "nightly", "--until", "2099-12-24T18:00Z")
    assert shown == "schedule nightly is paused until 2099-12-24 19:00:00+01:00\n"
    shown = printed(
        "put", "nightly", REPORT, "--cron", "@daily", "--tz", "Europe/Berlin", "--until", "2099-12-24T18:00"
    )
    assert ", until 2099-12-24 18:00:00+01:00\n" in shown


def test_a_pause_that_has_passed_is_refused_and_leaves_the_one_that_holds(printed: Run, refused: Refused) -> None:
    printed("put", "nightly", REPORT, "--cron", "@daily")
    printed("pause", "nightly")
    passed = "2 fang: until has passed already: nothing was changed"
    assert refused("pause", "nightly", "--until", "2020-01-01T00:00Z") == passed
    assert refused("pause", "nightly", "--until", "2099-01-01", "--for", "1h").startswith("2 fang: give --for or --un")
    (each,) = listed(printed)
    assert (each["paused"], each["paused_until"]) == (True, None)


def test_status_shows_the_schedules_that_are_paused(url: str, printed: Run) -> None:
    for name in ("goes on", "had been paused", "paused"):
        printed("put", name, REPORT, "--cron", "@daily")
    printed("pause", "paused", "--reason", "incident")
    printed("pause", "had been paused", "--for", "0.001")
    status = CliRunner().invoke(command, ["status", "--json", "--database-url", url])
    (each,) = json.loads(status.stdout)["paused_schedules"]
    assert datetime.fromisoformat(each.pop("paused_at"))
    assert each == {"name": "paused", "paused_until": None, "paused_by": ME, "pause_reason": "incident"}
    shown = CliRunner().invoke(command, ["status", "--database-url", url]).stdout
    assert "schedules that are paused" in shown
    assert "until it is resumed, since" in shown


def test_a_schedule_is_run_backfilled_and_removed(url: str, printed: Run, refused: Refused) -> None:
    printed("put", "nightly", REPORT, "--cron", "@daily", "--no-uniq", "--tz", "Europe/Berlin")
    task_id = re.fullmatch(r"task (\S+) has been inserted\n", printed("run", "nightly"))
    assert task_id
    filled = ("backfill", "nightly", "--from", "2026-01-01", "--to", "2026-01-03T12:00", "--tz", "Europe/Berlin")
    assert printed(*filled) == "3 tasks have been inserted\n"
    assert printed(*filled) == "0 tasks have been inserted\n"
    assert printed(*filled[:3], "2026-02-01", *filled[4:5], "2026-02-09", *filled[6:], "--overlap", "skip") == (
        "1 task has been inserted\n"
    )
    assert refused("backfill", "nightly", "--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z").startswith(
        "2 fang: end "
    )
    assert printed("remove", "nightly") == "schedule nightly has been removed\n"
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT scheduled_at, metadata->>'day' FROM fang.fang_tasks ORDER BY 1").fetchall()
    midnight = datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert [at for at, _ in rows[:3]] == [midnight + n * timedelta(days=1) for n in range(3)]
    assert {day for _, day in rows} == {"yesterday"}


def test_the_schedule_of_a_class_is_shown_replaced_and_run(url: str, printed: Run, refused: Refused) -> None:
    pool = WorkerPool(Queue(url), task_type="cli.reports")
    with pool:
        eventually(lambda: "cli.Yearly" in printed("list"))
        printed("remove", "cli.Yearly")
        eventually(lambda: "cli.Yearly" in printed("list"))  # its pool says again what the class says
    shown = printed("list")
    assert "  task    cli.Yearly (task type cli.reports), as its class says\n  due     @yearly in UTC\n" in shown
    assert refused("put", "cli.Yearly", "--cron", "@daily") == (
        "2 fang: schedule 'cli.Yearly' is of a class: name that, as in app.tasks:Report"
    )
    printed("run", "cli.Yearly", "--import", MODULE)
    changed = printed("put", "cli.Yearly", f"{MODULE}:Yearly", "--cron", "@daily", "--reason", "more often")
    assert changed.endswith(": more often\n  class   @yearly in UTC, in place of which this was put\n")
    printed("remove", "cli.Yearly")
    assert printed("list") == shown


def test_a_row_that_somebody_has_spoilt_is_shown_and_spoils_no_other(url: str, printed: Run) -> None:
    printed("put", "good", REPORT, "--cron", "@daily")
    printed("put", "spoilt", REPORT, "--cron", "@daily")
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE fang.fang_schedules SET cron = 'nonsense' WHERE name = 'spoilt'")
    shown = printed("list")
    assert shown.index("good") < shown.index("spoilt")
    assert "  due     nonsense in UTC, overlap allow, missed latest\n" in shown
    assert "  next    never: schedule 'spoilt' cannot be read: cron 'nonsense': expected 5 fields" in shown


def test_as_a_process_with_the_url_in_the_environment(url: str) -> None:
    with Queue(url) as queue:
        assert queue.schedules.list() == []
    result = fang("schedules", "list", FANG_DATABASE_URL=url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "no schedules\n", "")
    result = fang("schedules", "list")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "FANG_DATABASE_URL" in result.stderr


def test_an_interval_is_shown_in_its_zone(url: str, printed: Run) -> None:
    task = scheduled.Report()
    with Queue(url) as queue:
        queue.schedules.put(
            "hourly", task, every=Every(timedelta(hours=1), datetime(2026, 1, 1, tzinfo=UTC)), tz="Asia/Kolkata"
        )
        queue.schedules.put("once", task, at=datetime(2099, 1, 1, tzinfo=UTC))
    shown = printed("list")
    assert "  due     every 1h, shown in Asia/Kolkata, overlap allow" in shown
    assert re.search(r"  next    \w+ \d+-\d\d-\d\d \d\d:30\+0530\n", shown)
    assert "  due     once, at 2099-01-01 00:00:00+00:00, overlap allow" in shown
