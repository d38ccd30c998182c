"""Databases that are not UTF-8: what their encoding lacks spoils a text at worst, and harms no neighbour."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from fang_cli.status import read_status
from fang_core import (
    AsyncRunnable,
    Cancel,
    Constant,
    PayloadError,
    RetentionMode,
    Runnable,
    StatementRefused,
    TaskConfig,
)
from fang_core.payload import path_of
from fang_postgres import migrate
from tests.modes import RAN, Database, Side, eventually

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


def rare(side: Side) -> Any:
    return Rare if side.mode == "threaded" else AsyncRare


def held_in(encoding: str, text: str) -> bool:
    names = {"LATIN1": "latin-1", "WIN1251": "cp1251", "EUC_JP": "euc_jp"}
    try:
        text.encode(names.get(encoding, "utf-8"))
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_failure_is_retried_and_harms_no_neighbour(side: Side, made: Callable[[str], str], encoding: str) -> None:
    url = made(encoding)
    queue = side.queue(url)
    side.call(queue.remove_all_tasks)
    failing, cancelled = (side.call(queue.insert_task, rare(side)(n=n)) for n in (0, -1))
    side.call(queue.insert_tasks, [rare(side)(n=n + 1) for n in range(20)])
    pool = side.pool(queue, number_of_workers=4, retention_mode=RetentionMode.KEEP_ALL)
    database = Database(url)
    unended = "SELECT count(*) FROM fang.fang_tasks WHERE state NOT IN ('finished', 'failed', 'cancelled')"
    eventually(lambda: database.rows(unended) == [(0,)], within=15)
    database.close()
    side.stop(pool)
    assert sorted(RAN.get_nowait() for _ in range(RAN.qsize())) == list(range(1, 21))
    written = RARE if held_in(encoding, RARE) else RARE.encode("ascii", "backslashreplace").decode()
    failed = side.call(queue.find_task_by_id, failing.id)
    assert (failed.state, failed.retries, failed.error_message) == ("failed", 2, f"ValueError: {written}")
    assert [error["error"] for error in failed.errors] == [failed.error_message] * 3
    assert side.call(queue.find_task_by_id, cancelled.id).error_message == written
    assert [failure.error for failure in read_status(url, "fang").last_failures] == [failed.error_message]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_payload_is_held_or_refused_with_its_path(side: Side, made: Callable[[str], str], encoding: str) -> None:
    queue = side.queue(made(encoding))
    side.call(queue.remove_all_tasks)
    for character in (
        "\N{EM DASH}",
        "\N{CYRILLIC SMALL LETTER ZHE}",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "\U0001f642",
    ):
        if held_in(encoding, character):
            task = side.call(queue.insert_task, rare(side)(says=f"x{character}"))
            assert side.call(queue.find_task_by_id, task.id).metadata["says"] == f"x{character}"
            side.call(queue.remove_task, task.id)
            continue
        for insert in (
            lambda text=character: side.call(queue.insert_task, rare(side)(says=text)),
            lambda text=character: side.call(queue.insert_tasks, [rare(side)(), rare(side)(says=text)]),
        ):
            with pytest.raises(PayloadError) as refused:
                insert()
            assert (refused.value.path, f"U+{ord(character):04X}" in str(refused.value)) == (".says", True)
    assert side.call(queue.remove_all_tasks) == 0


@pytest.mark.parametrize("encoding", LACKING)
def test_other_texts_are_refused_in_one_line(side: Side, made: Callable[[str], str], encoding: str) -> None:
    queue = side.queue(made(encoding))
    with pytest.raises(StatementRefused, match=r"does not have the character U\+1F642: use one with ENCODING 'UTF8'"):
        side.call(queue.insert_task, rare(side)(), task_type="\U0001f642")


@pytest.mark.parametrize("encoding", LACKING)
def test_a_failure_by_hand_is_written_as_one_of_a_run(side: Side, made: Callable[[str], str], encoding: str) -> None:
    queue = side.queue(made(encoding))
    side.call(queue.remove_all_tasks)
    side.call(queue.insert_task, rare(side)())
    fetched = side.call(queue.fetch_and_touch_task)
    retried = side.call(queue.schedule_retry, fetched, timedelta(0), RARE)
    failed = side.call(queue.fail_task, retried, "\U0001f642")
    assert retried.error_message == RARE.encode("ascii", "backslashreplace").decode()
    assert [error["error"] for error in failed.errors] == [retried.error_message, "\\U0001f642"]


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
