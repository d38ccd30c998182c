"""Databases that are not UTF-8: what their encoding lacks spoils a text at worst, and harms no neighbour."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from fang_async import AsyncWorkerPool
from fang_cli.watching.status import read_status
from fang_core import (
    AsyncRunnable,
    Cancel,
    Constant,
    PayloadError,
    RetentionMode,
    Runnable,
    StatementRefused,
    TaskConfig,
    TaskFilter,
)
from fang_core.monitoring.history import Flush, StatsRow, minute_of
from fang_core.tasks.payloads.payload import path_of
from fang_core.tasks.registry import Registry
from fang_postgres import migrate
from fang_threaded import WorkerPool
from tests.modes import RAN, Database, Harness, eventually, ran

RARE: Final = "no room \N{EM DASH} 5 \N{EURO SIGN} caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{SLIGHTLY SMILING FACE}"
RARE_LETTERS: Final = "\N{EM DASH}\N{CYRILLIC SMALL LETTER ZHE}\N{LATIN SMALL LETTER E WITH ACUTE}\U0001f642"
ENCODINGS: Final = ["UTF8", "SQL_ASCII", "LATIN1", "EUC_JP", "WIN1251"]
LACKING: Final = ["LATIN1", "EUC_JP", "WIN1251"]
AT_ONCE: Final = TaskConfig(max_retries=2, backoff=Constant(delay=timedelta(0), jitter=0))


class Rare(Runnable):
    task_config = AT_ONCE | {"kind": "tests.Rare"}
    says: str = ""
    n: int = 0

    def run(self, queue: Any) -> None:
        _run(self)


class AsyncRare(AsyncRunnable):
    task_config = AT_ONCE | {"kind": "tests.AsyncRare"}
    says: str = ""
    n: int = 0

    async def run(self, queue: Any) -> None:
        _run(self)


def _run(task: Rare | AsyncRare) -> None:
    if task.n > 0:
        RAN.put(task.n)
    elif task.n == 0:
        raise ValueError(RARE)
    else:
        raise Cancel(RARE)


@pytest.fixture(scope="module")
def made(server_url: str) -> Iterator[Callable[[str], str]]:
    """The URL of a database in an encoding, made when it is first asked for."""
    names: dict[str, str] = {}
    with psycopg.connect(server_url, autocommit=True) as connection:

        def url_of(encoding: str) -> str:
            name = names.get(encoding)
            url = make_url(server_url).set(database=name or f"t_{uuid4().hex[:12]}")
            text = url.render_as_string(hide_password=False)
            if name is None:
                create = "CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE 'C'"
                connection.execute(sql.SQL(create).format(sql.Identifier(url.database or ""), encoding))
                names[encoding] = url.database or ""
                migrate.upgrade(text)
            return text

        yield url_of
        for name in names.values():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def rare(harness: Harness) -> Any:
    return Rare if harness.mode == "threaded" else AsyncRare


def held_in(encoding: str, text: str) -> bool:
    names = {"LATIN1": "latin-1", "WIN1251": "cp1251", "EUC_JP": "euc_jp"}
    try:
        text.encode(names.get(encoding, "utf-8"))
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_failure_is_retried_and_harms_no_neighbour(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    url = made(encoding)
    queue = harness.queue(url)
    harness.call(queue.remove_all_tasks)
    failing, cancelled = (harness.call(queue.insert_task, rare(harness)(n=n)) for n in (0, -1))
    harness.call(queue.insert_tasks, [rare(harness)(n=n + 1) for n in range(20)])
    pool = harness.pool(queue, number_of_workers=4, retention_mode=RetentionMode.KEEP_ALL)
    database = Database(url)
    unended = "SELECT count(*) FROM fang.fang_tasks WHERE state NOT IN ('finished', 'failed', 'cancelled')"
    eventually(lambda: database.rows(unended) == [(0,)])
    database.close()
    harness.stop(pool)
    assert sorted(RAN.get_nowait() for _ in range(RAN.qsize())) == list(range(1, 21))
    written = RARE if held_in(encoding, RARE) else RARE.encode("ascii", "backslashreplace").decode()
    failed = harness.call(queue.find_task_by_id, failing.id)
    assert (failed.state, failed.retries, failed.error_message) == ("failed", 2, f"ValueError: {written}")
    assert [error["error"] for error in failed.errors] == [failed.error_message] * 3
    assert harness.call(queue.find_task_by_id, cancelled.id).error_message == written
    assert [failure.error for failure in read_status(url, "fang").last_failures] == [failed.error_message]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_payload_is_held_or_refused_with_its_path(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    queue = harness.queue(made(encoding))
    harness.call(queue.remove_all_tasks)
    for character in (
        "\N{EM DASH}",
        "\N{CYRILLIC SMALL LETTER ZHE}",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "\U0001f642",
    ):
        if held_in(encoding, character):
            task = harness.call(queue.insert_task, rare(harness)(says=f"x{character}"))
            assert harness.call(queue.find_task_by_id, task.id).metadata["says"] == f"x{character}"
            harness.call(queue.remove_task, task.id)
            continue
        for insert in (
            lambda text=character: harness.call(queue.insert_task, rare(harness)(says=text)),
            lambda text=character: harness.call(queue.insert_tasks, [rare(harness)(), rare(harness)(says=text)]),
        ):
            with pytest.raises(PayloadError) as refused:
                insert()
            assert (refused.value.path, f"U+{ord(character):04X}" in str(refused.value)) == (".says", True)
    assert harness.call(queue.remove_all_tasks) == 0


@pytest.mark.parametrize("encoding", LACKING)
def test_other_texts_are_refused_in_one_line(harness: Harness, made: Callable[[str], str], encoding: str) -> None:
    queue = harness.queue(made(encoding))
    with pytest.raises(StatementRefused, match=r"does not have the character U\+1F642: use one with ENCODING 'UTF8'"):
        harness.call(queue.insert_task, rare(harness)(), task_type="\U0001f642")


@pytest.mark.parametrize("encoding", LACKING)
def test_a_failure_by_hand_is_written_as_one_of_a_run(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    queue = harness.queue(made(encoding))
    harness.call(queue.remove_all_tasks)
    harness.call(queue.insert_task, rare(harness)())
    fetched = harness.call(queue.fetch_and_touch_task)
    retried = harness.call(queue.schedule_retry, fetched, timedelta(0), RARE)
    failed = harness.call(queue.fail_task, retried, "\U0001f642")
    assert retried.error_message == RARE.encode("ascii", "backslashreplace").decode()
    assert [error["error"] for error in failed.errors] == [retried.error_message, "\\U0001f642"]


@pytest.mark.parametrize("encoding", LACKING)
def test_a_reason_to_cancel_is_written_as_well_as_it_can_be(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    queue = harness.queue(made(encoding))
    harness.call(queue.remove_all_tasks)
    one, many = (harness.call(queue.insert_task, rare(harness)()) for _ in range(2))
    written = RARE.encode("ascii", "backslashreplace").decode()
    assert harness.call(queue.cancel_task, one.id, RARE).error_message == written
    assert harness.call(queue.cancel_tasks, TaskFilter(all_tasks=True), RARE) == 1
    assert harness.call(queue.find_task_by_id, many.id).cancel_request["reason"] == written


@pytest.mark.parametrize("encoding", LACKING)
def test_a_schedule_is_put_or_refused_and_its_reason_written_as_well_as_it_can_be(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    schedules = harness.queue(made(encoding)).schedules
    put = harness.call(schedules.put, "rare", rare(harness)(), cron="@daily", reason=RARE, by=RARE)
    written = RARE.encode("ascii", "backslashreplace").decode()
    assert (put.change_reason, put.changed_by) == (written, written)
    assert harness.call(schedules.pause, "rare", reason=RARE).pause_reason == written
    with pytest.raises(PayloadError, match=r"U\+1F642") as refused:
        harness.call(schedules.put, "rare", rare(harness)(says="\U0001f642"), cron="@daily")
    assert refused.value.path == ".says"
    with pytest.raises(StatementRefused, match=r"does not have the character U\+1F642"):
        harness.call(schedules.put, "\U0001f642", rare(harness)(), cron="@daily")
    assert [info.name for info in harness.call(schedules.list) if info.is_stored] == ["rare"]
    assert harness.call(schedules.remove, "rare")


@pytest.mark.parametrize("encoding", LACKING)
def test_the_audit_is_written_as_well_as_it_can_be(harness: Harness, made: Callable[[str], str], encoding: str) -> None:
    audit = harness.queue(made(encoding)).audit
    details = {RARE: [RARE, {"quoted": '"\\x41"'}]}
    entry = harness.call(audit.begin, RARE, "pause", "exports", details)
    assert harness.call(audit.end, entry, RARE)
    written = RARE.encode("ascii", "backslashreplace").decode()
    (found,) = harness.call(audit.list, limit=1)
    assert (found.who, found.result) == (written, written)
    assert found.details == {written: [written, {"quoted": '"\\x41"'}]}


LEFT_OUT: Final = "is left out: the database's encoding does not have the character"


def define(harness: Harness, kind: str, **options: Any) -> None:
    base = Runnable if harness.mode == "threaded" else AsyncRunnable

    def run(self: Any, queue: Any) -> None: ...
    async def run_async(self: Any, queue: Any) -> None: ...

    body = {"task_config": {"kind": kind} | options, "run": run if harness.mode == "threaded" else run_async}
    type("Odd", (base,), body)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    for module in ("fang_core.tasks.runnable", "fang_core.tasks.registry"):
        monkeypatch.setattr(f"{module}.REGISTRY", registry)
    return registry


@pytest.mark.parametrize("encoding", LACKING)
def test_a_pool_leaves_out_what_cannot_be_stored_and_runs_the_others(
    harness: Harness,
    made: Callable[[str], str],
    encoding: str,
    caplog: pytest.LogCaptureFixture,
    own_registry: Registry,
) -> None:
    url = made(encoding)
    queue = harness.queue(url)
    harness.call(queue.remove_all_tasks)
    own_registry.add(["tests.Rare" if harness.mode == "threaded" else "tests.AsyncRare"], rare(harness))
    for kind in ("\U0001f642", "\U0001f642\U0001f680", "\U0001f680"):
        define(harness, kind)
    pool = harness.pool(queue, poll=timedelta(milliseconds=20), task_type=["common", "\U0001f680s", "other"])
    harness.call(queue.insert_task, rare(harness)(n=1))
    harness.call(queue.insert_task, rare(harness)(n=2), task_type="other")
    assert ran(2) == [1, 2]
    define(harness, "later \U0001f40d")
    define(harness, "ticks \U0001f40d", cron="@daily")
    eventually(lambda: "kind later \U0001f40d is left out" in caplog.text)
    harness.call(queue.insert_task, rare(harness)(n=3))
    assert ran(1) == [3]
    database = Database(url)
    assert database.rows("SELECT task_types, kinds FROM fang.fang_pools") == [
        (["common", "other"], [rare(harness).task_config["kind"]])
    ]
    database.close()
    harness.stop(pool)
    lines = sorted(line for record in caplog.records if LEFT_OUT in (line := record.getMessage()))
    assert lines == [
        f"kind later \U0001f40d {LEFT_OUT} U+1F40D",
        f"kind ticks \U0001f40d {LEFT_OUT} U+1F40D",
        f"kind \U0001f642 {LEFT_OUT} U+1F642",
        f"kind \U0001f642\U0001f680 {LEFT_OUT} U+1F642",
        f"kind \U0001f680 {LEFT_OUT} U+1F680",
        f"task type \U0001f680s {LEFT_OUT} U+1F680",
    ]
    assert "tries again" not in caplog.text


@pytest.mark.parametrize("encoding", LACKING)
def test_a_pool_of_types_that_cannot_be_stored_does_not_start(
    harness: Harness, made: Callable[[str], str], encoding: str
) -> None:
    queue = harness.queue(made(encoding))
    pool = (WorkerPool if harness.mode == "threaded" else AsyncWorkerPool)(
        queue, task_type=["\U0001f642", "\U0001f680"]
    )
    for _ in range(2):
        with pytest.raises(StatementRefused, match=r"no task can have the type \U0001f642: .* U\+1F642: use one with"):
            harness.call(pool.start)


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ('{"type":"A","b":"x"}', None),
        ('{"type":"A","b":"—"}', ".b"),
        ('{"type":"A","b":{"c":[1,{"d":"a—"}]}}', ".b['c'][1]['d']"),
        ('{"type":"A","b":{"—":1}}', r".b[key '\u2014']"),
        ('{"type":"A—"}', ".type"),
    ],
)
def test_the_path_to_a_character(metadata: str, path: str | None) -> None:
    assert path_of(metadata, "\N{EM DASH}") == path


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_the_history_is_kept(harness: Harness, made: Callable[[str], str], encoding: str) -> None:
    queue = harness.queue(made(encoding))
    store = harness.call(queue.store)
    pair = "post\N{LATIN SMALL LETTER E WITH ACUTE}", "Caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    try:
        flush = Flush(minute_of(harness.call(store.tell_time)), {pair: StatsRow(finished=1)})
        assert harness.call(store.flush_stats, uuid4(), flush).is_written
        assert pair in [(kind.task_type, kind.kind) for kind in harness.call(queue.stats).kinds]
    finally:
        harness.call(store.close)
