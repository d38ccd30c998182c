"""The commands on each backend, by its URL: one task's life as an operator meets it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from fang_backends import queue_of
from fang_cli.targets import Target
from fang_cli.worker.serving import Ports, serving
from fang_core import Queueable, Runnable, TaskConfig, TaskState
from fang_core.aside import Route, set_aside
from fang_threaded import WorkerPool
from tests.cli.invoking import fang
from tests.moving.places import URLS


class Mail(Runnable):
    task_config = TaskConfig(kind="every.Mail", task_type="mail", max_retries=0)
    to: str = "ada"

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture(params=URLS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    with URLS[request.param](request) as url:
        assert fang("migrate", "--database-url", url).returncode == 0
        yield url


def test_a_task_is_found_explained_failed_and_retried(database: str) -> None:
    def run(*arguments: str) -> str:
        done = fang(*arguments, FANG_DATABASE_URL=database)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with queue_of(database) as queue:
        task = queue.insert_task(Mail())
        assert str(task.id) in run("tasks", "list", "--type", "mail")
        assert json.loads(run("why", str(task.id), "--json"))["cause"] == "unserved_type"
        held = queue.fetch_and_touch_task("mail")
        assert held is not None
        queue.fail_task(held, "no such mailbox")

        status = json.loads(run("status", "--json"))
        assert [(each["state"], each["count"]) for each in status["tasks"]] == [("failed", 1)]
        assert [each["error"] for each in status["last_failures"]] == ["no such mailbox"]
        assert [(pool["mode"], pool["life"]) for pool in status["pools"]] == [("manual", "alive")]

        assert "1 task has been retried" in run("tasks", "retry", "--type", "mail", "--yes")
        assert queue.find_task_by_id(task.id).state is TaskState.NEW  # type: ignore[union-attr]
        run("queues", "pause", "mail", "--reason", "the server is down")
        [mail] = [each for each in json.loads(run("queues", "list", "--json")) if each["task_type"] == "mail"]
        assert (mail["waiting"], mail["paused"]) == (1, True)
        run("queues", "resume", "mail")
        run("limits", "set", "mail", "5")
        assert "mail" in run("limits", "list")
        run("schedules", "list")
        run("pools")
        run("top", "--once")


def test_a_task_is_inserted_run_and_its_worker_asked_whether_it_is_ready(database: str) -> None:
    def run(*arguments: str) -> str:
        done = fang(*arguments, FANG_DATABASE_URL=database)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    inserted = json.loads(run("insert", "every.Mail", '{"to": "bob"}', "--app", __name__, "--json"))
    with queue_of(database) as queue:
        task = queue.find_task_by_id(UUID(inserted["id"]))
        assert task is not None
        assert task.metadata == {"type": "every.Mail", "to": "bob"}
        pool = WorkerPool(queue, task_type="mail")
        with serving([Target("app:pool", pool)], Ports(probes=0), None) as port:
            ready = ("healthcheck", "--url", f"http://127.0.0.1:{port}/ready")
            assert "it is not running" in fang(*ready).stderr
            with pool:
                pool.drain()
                run(*ready)
            run("healthcheck", "--url", f"http://127.0.0.1:{port}/live")
        assert queue.find_task_by_id(task.id) is None


def test_the_doctor_looks_at_the_engine_and_at_pools(database: str) -> None:
    done = fang("doctor", "--json", FANG_DATABASE_URL=database)
    found = {check["name"]: check["level"] for check in json.loads(done.stdout)["checks"]}
    assert {"pools", "served", "schedules", "paused", "runs"} <= found.keys()
    assert len(found) > 4
    assert "error" not in found.values()
    assert done.returncode == 0


def test_a_migration_says_what_it_did_and_a_check_changes_nothing(database: str) -> None:
    again = fang("migrate", "--database-url", database)
    assert (again.returncode, again.stderr) == (0, "")
    assert "are up to date" in again.stdout or again.stdout == "Redis needs no tables\n"
    assert fang("migrate", "--check", "--database-url", database).stdout == again.stdout


def test_a_task_that_a_killed_move_has_set_aside_says_so(database: str) -> None:
    with queue_of(database) as queue:
        task = queue.insert_task(Mail())
        [parcel] = queue.moving.read([task.id])
        queue.moving.exchange([(parcel.task, set_aside(parcel.task, Route("sqlite:///old.db", "redis://new")))])
    why = json.loads(fang("why", str(task.id), "--json", FANG_DATABASE_URL=database).stdout)
    assert why["cause"] == "set_aside"
    assert "from sqlite:///old.db to redis://new has set it aside" in why["text"]
    assert "Its task type is mail" in why["text"]
    assert "run the same one again" in why["remedy"]
    checks = json.loads(fang("doctor", "--json", FANG_DATABASE_URL=database).stdout)["checks"]
    [moving] = [check for check in checks if check["name"] == "moving"]
    assert (moving["level"], moving["text"][-3:]) == ("warning", ": 1")
    assert "a move to another queue has set aside" in fang("status", FANG_DATABASE_URL=database).stdout


def unusable(name: str, folder: Path) -> str:
    """The URL of a database that a user has got wrong."""
    if name == "directory":
        (folder / "directory").mkdir()
    elif name == "text":
        (folder / "text").write_text("not a database, and longer than the header of one: " * 20)
    elif name == "foreign":
        with closing(sqlite3.connect(folder / "foreign")) as connection:
            connection.execute("CREATE TABLE people (name TEXT)")
    elif "://" in name:
        return name
    return f"sqlite:///{folder}/{name}"


@pytest.mark.parametrize(
    ("name", "says", "code"),
    [
        ("missing", "there is no file {folder}/missing: `fang migrate` or the application creates it", 2),
        ("no/where", "there is no file {folder}/no/where, and {folder}/no is not a directory", 2),
        ("directory", "directory cannot be opened: see that it is a file", 69),
        ("text", "text is no SQLite database, or is encrypted", 78),
        ("foreign", "{folder}/foreign has no tables of Fang's: `fang migrate` or the application creates them", 78),
        ("sqlite:///:memory:", "a database in memory is gone with its process", 2),
        ("redis://127.0.0.1:1", "Redis at 127.0.0.1:1 cannot be reached", 69),
        ("redis://127.0.0.1:1/x", "the URL of Redis cannot be used", 2),
        ("postgresql://127.0.0.1:1/x", "the database does not answer", 69),
        ("mysql://host/x", "there is no backend for mysql://", 2),
    ],
)
@pytest.mark.parametrize("command", ["status", "limits list", "queues list"])
def test_a_database_that_cannot_be_used_is_one_line(
    tmp_path: Path, name: str, says: str, code: int, command: str
) -> None:
    url = unusable(name, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = fang(*command.split(), FANG_DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("fang: ")
    assert says.format(folder=tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before  # nothing is made by those who only look


@pytest.mark.parametrize("name", ["no/where", "directory", "text"])
def test_a_migration_of_what_is_no_database_is_one_line(tmp_path: Path, name: str) -> None:
    done = fang("migrate", FANG_DATABASE_URL=unusable(name, tmp_path))
    assert (done.returncode in {69, 78}, done.stdout, done.stderr.count("\n")) == (True, "", 1)
