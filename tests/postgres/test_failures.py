"""What the server replies with an error has failed, and is known to: by statement and at COMMIT, in both modes."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from fang_core import (
    BackendError,
    Events,
    NotConnected,
    OutcomeUnknown,
    ReadOnlyServer,
    RowsLocked,
    Runnable,
    TaskConfig,
)
from fang_core.lifecycle import Outcome
from fang_postgres.connections.connecting import SETTINGS
from fang_postgres.connections.diagnosis import TookTooLong
from tests.modes import Database, Harness, eventually, harness_of, ran
from tests.patience import PATIENT

RAISES = """
    CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'so says the server' USING ERRCODE = '{code}'; END $$;
    CREATE {constraint} TRIGGER raises AFTER {event} ON fang.fang_tasks {deferred}
        FOR EACH ROW EXECUTE FUNCTION raises();
"""
AT_ONCE = {"constraint": "", "deferred": ""}
AT_COMMIT = {"constraint": "CONSTRAINT", "deferred": "DEFERRABLE INITIALLY DEFERRED"}
CODES = ["57014", "53100", "25006", "XX000"]
BULK = 2_500


class Seen(Events):
    def __init__(self) -> None:
        self.failed: SimpleQueue[BaseException] = SimpleQueue()
        self.lost: SimpleQueue[UUID] = SimpleQueue()

    def backend_failed(self, pool_id: UUID, error: BaseException) -> None:
        self.failed.put(error)

    def task_lost(self, pool_id: UUID, outcome: Outcome) -> None:
        self.lost.put(outcome.id)


class Numbered(Runnable):
    task_config = TaskConfig(kind="failures.Numbered")
    n: int

    def run(self, queue: Any) -> None: ...


@pytest.fixture(params=["threaded", "threaded on an engine", "async"])
def inserting(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    """``inserting(method, what)`` calls a method of a queue."""
    mode, _, shared = request.param.partition(" ")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg")) if shared else None
    with harness_of(mode) as harness:
        queue = harness.queue(url if engine is None else engine)
        yield lambda method, what, **options: harness.call(getattr(queue, method), what, **options)
    if engine is not None:
        engine.dispose()


@pytest.fixture
def server(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def raise_from_now_on(server: psycopg.Connection[Any], code: str, how: dict[str, str], event: str = "INSERT") -> None:
    server.execute(RAISES.format(code=code, event=event, **how).encode())


def stop_raising(server: psycopg.Connection[Any]) -> None:
    server.execute("DROP FUNCTION raises CASCADE")


CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("insert_task", Numbered(n=1), {}),
    ("insert_task", Numbered(n=1), {"uniq": True}),
    ("insert_tasks", [Numbered(n=1), Numbered(n=2)], {}),
    ("insert_tasks", [Numbered(n=1), Numbered(n=2)], {"uniq": True}),
    ("insert_tasks", [Numbered(n=n) for n in range(BULK)], {}),
]


@pytest.mark.parametrize("how", [AT_ONCE, AT_COMMIT], ids=["at once", "at commit"])
def test_nothing_was_written_and_the_error_says_so(
    inserting: Any, server: psycopg.Connection[Any], how: dict[str, str]
) -> None:
    for code in CODES:
        raise_from_now_on(server, code, how)
        for method, what, options in CALLS:
            with pytest.raises(BackendError, match=rf"\({code}\): so says the server; nothing was written: ") as caught:
                inserting(method, what, **options)
            assert type(caught.value) is {"25006": ReadOnlyServer, "57014": TookTooLong}.get(code, BackendError)
        stop_raising(server)
        assert server.execute("SELECT count(*) FROM fang.fang_tasks").fetchone() == (0,), code
        for method, what, options in CALLS:
            inserting(method, what, **options)
        server.execute("DELETE FROM fang.fang_tasks")


def test_a_timeout_of_the_servers_is_one_of_them(
    inserting: Any, url: str, server: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "statement_timeout", "200ms")
    server.execute(f'ALTER DATABASE "{make_url(url).database}" SET statement_timeout = 200'.encode())
    raise_from_now_on(server, "57014", AT_ONCE)
    sleeps = "CREATE OR REPLACE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS "
    server.execute(f"{sleeps} $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$".encode())
    with pytest.raises(BackendError, match="statement timeout; nothing was written") as caught:
        inserting("insert_tasks", [Numbered(n=1), Numbered(n=2)])
    assert type(caught.value) is TookTooLong


@pytest.mark.parametrize(("code", "tries"), [("40001", 5), ("40P01", 5), ("55P03", 1)])
def test_a_victim_is_tried_again_at_once_and_who_has_waited_for_a_lock_is_told(
    inserting: Any, server: psycopg.Connection[Any], code: str, tries: int
) -> None:
    """Five waits of ten seconds, one after the other, would be far more than a statement may take."""
    raise_from_now_on(server, code, AT_ONCE)
    counts = "CREATE SEQUENCE tries; CREATE OR REPLACE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS "
    raises = f"$$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
    server.execute((counts + raises).encode())
    for number, (method, what, options) in enumerate(CALLS[:3], start=1):
        with pytest.raises(RowsLocked, match="nothing was written, try again"):
            inserting(method, what, **options)
        assert server.execute("SELECT last_value FROM tries").fetchone() == (number * tries,)


@pytest.mark.parametrize("code", ["57P01", "08006"])
def test_a_reply_that_is_not_the_statements_own_leaves_it_open(
    inserting: Any, server: psycopg.Connection[Any], code: str
) -> None:
    raise_from_now_on(server, code, AT_COMMIT)
    for method, what, options in CALLS:
        with pytest.raises(OutcomeUnknown) as unknown:
            inserting(method, what, **options)
        assert len(unknown.value.ids) == (len(what) if method == "insert_tasks" else 1)


@pytest.mark.parametrize("code", ["57P01", "08006"])
def test_one_that_comes_before_the_commit_does_not(inserting: Any, server: psycopg.Connection[Any], code: str) -> None:
    """Nothing of a transaction can stand whose COMMIT was not sent."""
    raise_from_now_on(server, code, AT_ONCE)
    for method, what, options in (CALLS[3], CALLS[4]):
        with pytest.raises(NotConnected, match="so says the server"):
            inserting(method, what, **options)


@pytest.mark.parametrize("code", CODES)
def test_outcomes_are_tried_again_as_they_are(
    harness: Harness, url: str, database: Database, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And no refusal of what a run has said, for which its task would fail."""
    queue = harness.queue(url)
    harness.call(queue.insert_tasks, [harness.note(n=n) for n in range(3)])
    raise_from_now_on(database.connection, code, AT_ONCE, "DELETE")
    harness.pool(queue)
    assert ran(3) == [0, 1, 2]
    eventually(lambda: f": the database failed ({code}): so says the server; nothing was written" in caplog.text)
    stop_raising(database.connection)
    eventually(lambda: database.rows("SELECT state::text FROM fang.fang_tasks") == [])
    assert "refused" not in caplog.text


def test_what_was_changed_by_hand_while_the_server_failed_is_told_as_lost(
    harness: Harness, url: str, database: Database
) -> None:
    """The server has said that nothing was written: so a row that is not as it was is not one of ours."""
    queue, seen = harness.queue(url), Seen()
    task = harness.call(queue.insert_task, harness.note(n=0))
    raise_from_now_on(database.connection, "53100", AT_ONCE, "DELETE")
    harness.pool(queue, events=[seen])
    assert ran() == [0]
    seen.failed.get(timeout=PATIENT)
    database.execute("UPDATE fang.fang_tasks SET state = 'cancelled', pool_id = NULL, claimed_at = NULL")
    stop_raising(database.connection)
    assert seen.lost.get(timeout=PATIENT) == task.id
