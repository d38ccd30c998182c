"""What anybody may have written into the tables: every page shows the rest, and says what it cannot read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from fang_async import AsyncQueue
from fang_backends import queues
from fang_core.pool.telling import glance
from fang_threaded import Queue
from tests.cli.invoking import fang
from tests.web.client import page_of

pytestmark = pytest.mark.usefixtures("no_finalizers_in_depth")

TASK: Final = "00000000-0000-0000-0000-00000000aa01"
POOL: Final = "00000000-0000-0000-0000-00000000bb01"
KIND: Final = "hostilerows"
TYPE: Final = "hostile type"
TIMES: Final = ("infinity", "-infinity", "294276-12-31 00:00:00+00", "4713-01-01 00:00:00+00 BC")
SPANS: Final = ("178000000 years", "-178000000 years", "10000000 days")
DEEP: Final = "[" * 3_000 + "]" * 3_000
LESS_DEEP: Final = "[" * 700 + "]" * 700
"""What json.loads reads in every version of Python, and functions that walk through it do not."""
LONG: Final = "9" * 5_000
JSON: Final = (
    f'{{"a": {DEEP}}}',
    f'{{"a": {LESS_DEEP}}}',
    f'{{"a": {LONG}}}',
    "null",
    "[]",
    '"text"',
    "1e400",
    '{"a": 1e400}',
    '[[null], {"": 1}]',
)
LISTS: Final = ("{}", "{NULL}", "{{a,b},{c,d}}", '{"\u202e"}')

SOUND: Final = (
    "INSERT INTO fang_pools (id, mode, host, pid, task_types, kinds, workers, lease) "
    f"VALUES ('{POOL}', 'asyncio', 'h', 1, '{{{TYPE}}}', '{{{KIND}}}', 2, '1 min')",
    f"INSERT INTO fang_live (pool_id, at, busy, waiting, runs) VALUES ('{POOL}', now(), 1, 0, '[]')",
    "INSERT INTO fang_tasks (id, metadata, task_type, state, pool_id, claimed_at, attempt) "
    f"""VALUES ('{TASK}', '{{"type": "{KIND}"}}', '{TYPE}', 'in_progress', '{POOL}', now(), 1)""",
    "INSERT INTO fang_types (task_type, max_running, rate_interval, rate_burst, key_rate_interval, key_rate_burst) "
    f"VALUES ('{TYPE}', 1, '1 s', 1, '1 s', 1)",
    "INSERT INTO fang_schedules (name, last_tick, kind, metadata, cron, tz, task_type) "
    f"""VALUES ('{KIND}', now(), '{KIND}', '{{"type": "{KIND}"}}', '0 5 * * *', 'UTC', '{TYPE}')""",
    "INSERT INTO fang_audit (at, who, action, target, details) VALUES (now(), 'ada', 'edit', 'x', '{}')",
    "INSERT INTO fang_stats VALUES (60, date_trunc('minute', now()), "
    f"'{POOL}', '{TYPE}', '{KIND}', 3, 3, 2, 0, 0, 0, 0, 0, 1, 1.5, 1, 2, '{{1,2}}', '{{1,2}}')",
)

HOSTILE: Final[dict[str, tuple[str, ...]]] = {
    **{f"fang_tasks.{column}": TIMES for column in ("claimed_at", "expires_at")},
    "fang_tasks.timeout": SPANS,
    "fang_tasks.errors": (
        "[null, 1, {}]",
        f'[{{"number": {DEEP}, "error": {DEEP}, "time": "infinity"}}]',
        f'[{{"number": 1, "error": {LESS_DEEP}}}]',
        f"[{LONG}]",
    ),
    "fang_tasks.headers": (*JSON, '{"a": null, "b": [1]}'),
    "fang_tasks.cancel_request": (*JSON, f'{{"by": {DEEP}, "at": "infinity", "reason": {LONG}}}'),
    "fang_tasks.metadata": tuple(f'{{"type": "{KIND}", "a": {value}}}' for value in (DEEP, LESS_DEEP, LONG)),
    "fang_tasks.error_message": ("\u202e\u2028<script>", "x" * 1_000_000),
    "fang_tasks.max_retries": ("2147483647",),
    "fang_tasks.attempt": ("9223372036854775807",),
    "fang_tasks.crashes": ("32767",),
    "fang_tasks.scheduled_at": ("0001-01-03 00:00:00+00", "9999-12-29 00:00:00+00"),
    "fang_tasks.created_at": ("0001-01-03 00:00:00+00", "9999-12-29 00:00:00+00"),
    "fang_tasks.lane": ("\u202e", "x" * 100_000),
    "fang_pools.task_types": LISTS,
    "fang_pools.kinds": LISTS,
    "fang_pools.isolated_kinds": LISTS,
    "fang_pools.started_at": TIMES,
    "fang_pools.workers": ("-2147483648", "0", "2147483647"),
    "fang_pools.pid": ("-1", "2147483647"),
    "fang_pools.mode": ("", "neither"),
    "fang_pools.host": ("", "\u202e" * 1_000),
    "fang_pools.lease": SPANS,
    "fang_pools.max_crashes": ("-5",),
    "fang_pools.runs": (
        *JSON,
        f'{{"{TASK}": {{"kind": "k", "claimed_at": "infinity", "attempt": 1e400}}}}',
        f'{{"{TASK}": {{"kind": "k", "since": "9999-12-31T23:59:59-14:00", "attempt": 1, "hung": "x"}}}}',
        f'{{"{TASK}": {{"kind": "k", "since": "2026-01-01T00:00:00Z", "attempt": 1, "hung": {DEEP}}}}}',
        f'{{"{TASK}": {{"kind": "k", "since": "2026-01-01T00:00:00Z", "attempt": 1, "hung": {LESS_DEEP}}}}}',
    ),
    "fang_live.at": TIMES,
    "fang_live.busy": ("-2147483648", "2147483647"),
    "fang_live.waiting": ("-2147483648", "2147483647"),
    "fang_live.runs": (
        *JSON,
        f'[["{TASK}", "k", 1e400, 1, null, null, null], ["{TASK}", "k", 1, 1e400, 1e400, 1e400, {DEEP}], ["x"], 3]',
        f'[["{TASK}", "k", 1e300, 1, 0, 0, ""], ["{TASK}", "k", -5, 1, -1, -1, ""]]',
    ),
    "fang_types.paused_until": TIMES,
    "fang_types.paused_at": TIMES,
    "fang_types.settling_until": TIMES,
    "fang_types.changed_at": TIMES,
    "fang_types.rate_interval": SPANS[::2],
    "fang_types.key_rate_interval": SPANS[::2],
    "fang_types.weights": (*JSON, '{"a": -1, "b": "x"}'),
    "fang_types.declared": (*JSON, f'{{"k": [{{"running": 1e400, "by": null}}, {DEEP}]}}', '{"k": {"a": 1}}'),
    "fang_types.changed": (*JSON, '[{"rate": 1, "per": 1e400}, {"rate": 1, "per": 1e18}]'),
    "fang_schedules.last_tick": TIMES,
    "fang_schedules.at": TIMES,
    "fang_schedules.until": TIMES,
    "fang_schedules.anchor": TIMES,
    "fang_schedules.paused_until": TIMES,
    "fang_schedules.paused_at": TIMES,
    "fang_schedules.changed_at": TIMES,
    "fang_schedules.every": SPANS,
    "fang_schedules.jitter": SPANS,
    "fang_schedules.missed_within": SPANS,
    "fang_schedules.cron": ("", "nonsense", "0 0 30 2 *", "* " * 10_000),
    "fang_schedules.tz": ("", "Nowhere/At all", "../../etc/passwd", "x" * 10_000),
    "fang_schedules.overlap": ("", "nonsense"),
    "fang_schedules.missed": ("", "nonsense"),
    "fang_schedules.metadata": JSON,
    "fang_schedules.options": JSON,
    "fang_schedules.declared": JSON,
    "fang_schedules.last_task_id": ("00000000-0000-0000-0000-000000000000",),
    "fang_audit.at": TIMES,
    "fang_audit.details": JSON,
    "fang_stats.at": TIMES,
    "fang_stats.span": ("0", "-1", "7", "3600"),
    "fang_stats.queue": ("{}", "{NULL}", "{-1}", "{{1},{2}}", "{2147483647,2147483647}"),
    "fang_stats.run": ("{}", "{NULL}", "{-1}", "{{1},{2}}", "{2147483647,2147483647}"),
    **{f"fang_stats.{name}": ("-1", "9223372036854775807") for name in ("started", "arrived", "finished", "failed")},
    **{
        f"fang_stats.{name}": ("NaN", "Infinity", "-Infinity", "-1", "1e300")
        for name in ("queue_s", "run_s", "cpu_s", "worker_s")
    },
}

UNREADABLE: Final = ("fang_tasks.metadata", "fang_tasks.errors")
"""Columns with JSON that nobody can read: where one task is shown, a line says so, and the command fails."""

AT_ONCE: Final = 4
"""Columns whose hostile values are in the database together, each in a row of its own. What cannot be read makes a
command fail, and is said on a page, so that none hides another one."""


def groups() -> list[tuple[str, ...]]:
    """Returns the columns that are tried together, which are of one table."""
    made = [UNREADABLE]
    for table in KEYS:
        of_table = [name for name in HOSTILE if name.startswith(f"{table}.") and name not in UNREADABLE]
        for first in range(0, len(of_table), AT_ONCE):
            made.append(tuple(of_table[first : first + AT_ONCE]))
    return made


CHECKED: Final = {"fang_tasks.updated_at"}
"""Columns of which the table checks that Python can hold them, which nothing but that would tell apart."""

KEYS: Final = {
    "fang_tasks": "id",
    "fang_pools": "id",
    "fang_live": "pool_id",
    "fang_types": "task_type",
    "fang_schedules": "name",
    "fang_audit": "id",
    "fang_stats": "writer",
}
"""What tells the rows of each table apart."""

_KEY: Final = {"fang_types": "copy {}", "fang_schedules": "copy {}", "fang_audit": "100{}"}

PAGES: Final[dict[str, tuple[str, ...]]] = {
    "fang_tasks": ("/", "/tasks", "/tasks?state=in_progress", "/tasks/{key}", "/pools", "/kinds", "/metrics"),
    "fang_pools": ("/", "/pools", "/queues", f"/tasks/{TASK}", "/metrics"),
    "fang_live": ("/", "/pools", f"/tasks/{TASK}", "/metrics"),
    "fang_types": ("/", "/queues", "/queues/{key}", f"/tasks/{TASK}", "/metrics"),
    "fang_schedules": ("/", "/schedules", "/metrics"),
    "fang_audit": ("/audit",),
    "fang_stats": ("/", "/kinds", f"/kinds/{KIND}", "/queues", "/metrics"),
}
COMMANDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "fang_tasks": (("status",), ("doctor",), ("tasks", "list"), ("tasks", "show", "{key}"), ("why", "{key}"), ("top",)),
    "fang_pools": (("status",), ("doctor",), ("pools",), ("queues", "list"), ("why", TASK), ("top",)),
    "fang_live": (("status",), ("pools",), ("why", TASK), ("top",)),
    "fang_types": (("status",), ("doctor",), ("queues", "list"), ("limits", "list"), ("why", TASK), ("top",)),
    "fang_schedules": (("status",), ("doctor",), ("schedules", "list"), ("top",)),
    "fang_audit": (),
    "fang_stats": (("status",), ("top",)),
}


@pytest.fixture
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database that has a row in each table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = fang")
        for statement in SOUND:
            connection.execute(statement)
        yield connection


@pytest.fixture
def queue_of_commands(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One for all commands of a test that use one: to open it takes longer than what they do."""
    with Queue(url, max_pool_size=1) as queue:
        monkeypatch.setattr(queues, "queue_of", lambda *_, **__: nullcontext(queue))
        yield


def put(sql: psycopg.Connection[Any], group: Sequence[str]) -> tuple[str, list[str]]:
    """Copies the row of a table once for each hostile value of each column; returns the table, and the copies' keys."""
    table = group[0].split(".")[0]
    keys = []
    given = [(name.split(".")[1], value) for name in group for value in HOSTILE[name]]
    for number, (column, value) in enumerate(given):
        key = (
            f"copy {number}" if KEYS[table] in ("name", "task_type") else f"00000000-0000-0000-0000-00000000{number:04}"
        )
        key = str(1_000 + number) if table == "fang_audit" else key
        if table == "fang_live":
            copy(sql, "fang_pools", {"id": key})
        copy(sql, table, {KEYS[table]: key, column: value})
        keys.append(key)
    return table, keys


def copy(sql: psycopg.Connection[Any], table: str, changed: Mapping[str, str]) -> None:
    """Copies the row of a table with other values, which are written as Postgres reads them."""
    found = sql.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        [table],
    )
    types = dict(found.fetchall())
    taken = {name: SQL("{}").format(Identifier(name)) for name in types if name not in changed}
    given = {name: SQL("CAST({} AS " + types[name] + ")").format(Literal(value)) for name, value in changed.items()}
    columns = taken | given
    names = SQL(", ").join(map(Identifier, columns))
    source = Identifier(table)
    values = SQL(", ").join(columns.values())
    sql.execute(
        SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} LIMIT 1").format(
            source, names, values, source
        )
    )


def test_every_column_that_can_hold_what_python_cannot_is_tried(sql: psycopg.Connection[Any]) -> None:
    found = sql.execute(
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'fang' "
        "AND table_name = ANY(%s) AND (data_type LIKE 'time%%' "
        "OR data_type IN ('interval', 'jsonb', 'ARRAY', 'double precision'))",
        [list(KEYS)],
    )
    columns = {name for (name,) in found}
    assert len(columns) > 40
    assert columns - set(HOSTILE) == CHECKED
    assert sorted(name for group in groups() for name in group) == sorted(HOSTILE)


@pytest.mark.parametrize("group", groups(), ids=" ".join)
async def test_pages_show_the_rows_that_can_be_read(
    sql: psycopg.Connection[Any], url: str, group: tuple[str, ...]
) -> None:
    table, keys = put(sql, group)
    async with AsyncQueue(url) as queue, page_of(queue) as browser:
        for page in PAGES[table]:
            for path in {page.format(key=key) for key in keys}:
                answer = await browser.get(path)
                assert answer.status_code == 200, (path, answer.text[:2_000])
                assert "cannot be read; the log says" not in answer.text, path


@pytest.mark.usefixtures("queue_of_commands")
@pytest.mark.parametrize("group", [group for group in groups() if COMMANDS[group[0].split(".")[0]]], ids=" ".join)
def test_commands_show_the_rows_that_can_be_read(
    sql: psycopg.Connection[Any], url: str, group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LONGEST", 0.0)  # no pool of these rows will ever beat
    table, keys = put(sql, group)
    for command in COMMANDS[table]:
        for words in {tuple(word.format(key=key) for word in command) for key in keys}:
            shown = fang(*words, "--database-url", url)
            assert shown.returncode in fine(words, group), (words, shown.stderr)
            document = fang(*words, "--json", "--database-url", url)
            assert document.returncode in fine(words, group), (words, document.stderr)
            if document.stdout:
                json.loads(document.stdout, parse_constant=refuse)


@pytest.mark.usefixtures("queue_of_commands")
@pytest.mark.parametrize("column", ["fang_pools.runs", "fang_live.runs"])
async def test_a_task_is_explained_whatever_its_holder_has_told(
    sql: psycopg.Connection[Any], url: str, column: str
) -> None:
    table, name = column.split(".")
    async with AsyncQueue(url) as queue, page_of(queue) as browser:
        for value in HOSTILE[column]:
            sql.execute(
                SQL("UPDATE {} SET {} = CAST({} AS jsonb) WHERE {} = {}").format(
                    Identifier(table), Identifier(name), Literal(value), Identifier(KEYS[table]), Literal(POOL)
                )
            )
            for words in (["why", TASK], ["why", TASK, "--json"]):
                told = fang(*words, "--database-url", url)
                assert (told.returncode, told.stderr) == (0, ""), (words, value[:100])
            answer = await browser.get(f"/tasks/{TASK}")
            assert answer.status_code == 200, (value[:100], answer.text[:2_000])


def fine(words: Sequence[str], group: tuple[str, ...]) -> tuple[int, ...]:
    """Returns the exit codes: the doctor may find errors, and one task whose JSON nobody can read is told in a line."""
    is_unreadable = group == UNREADABLE and words[0] in ("tasks", "why")
    return (0, 1) if words[0] == "doctor" or is_unreadable else (0,)


def refuse(text: str) -> None:
    pytest.fail(f"{text} is not JSON")
