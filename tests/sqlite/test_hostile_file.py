"""What anybody may have written into the file: commands and pages show the rest, or name the row in one line."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from fang_core import Limit, Queueable, Runnable, TaskConfig
from fang_core.pool.telling import glance
from fang_sqlite import AsyncSqliteQueue, SqliteQueue
from tests.cli.invoking import fang
from tests.web.client import page_of

pytestmark = pytest.mark.usefixtures("no_finalizers_in_depth")

Look = TypeVar("Look")

LEAST, MOST = -(2**63), 2**63 - 1
DEEP: Final = "[" * 3_000 + "]" * 3_000
JSON: Final = ("", "no JSON", "null", "[]", "[null, 3]", '{"a": 3}', '"text"', DEEP, "9" * 5_000)
FORGOTTEN: Final = ("fang_types.managed", "fang_schedules.info")
"""What nobody may leave out: a limit, a pause or a schedule would be forgotten."""

HOSTILE: Final[dict[str, tuple[Any, ...]]] = {
    **{f"fang_tasks.{name}": (LEAST, MOST) for name in ("scheduled_at", "created_at", "updated_at", "claimed_at")},
    **{f"fang_tasks.{name}": (LEAST, MOST) for name in ("expires_at", "timeout")},
    **{f"fang_tasks.{name}": JSON for name in ("metadata", "errors", "headers", "cancel_request")},
    "fang_pools.started_at": (LEAST, MOST),
    **{f"fang_pools.{name}": JSON for name in ("task_types", "kinds", "isolated_kinds", "runs")},
    "fang_live.at": (LEAST, MOST),
    "fang_live.runs": JSON,
    "fang_stats.row": JSON,
    "fang_audit.at": (LEAST, MOST),
    "fang_audit.details": JSON,
    **dict.fromkeys(FORGOTTEN, JSON[:5]),
}
COMMANDS: Final = (
    *(("status",), ("doctor",), ("tasks", "list"), ("tasks", "show", "{task}"), ("why", "{task}"), ("pools",)),
    *(("queues", "list"), ("limits", "list"), ("schedules", "list"), ("top", "--once")),
)
PAGES: Final = ("/", "/tasks", "/tasks/{task}", "/pools", "/kinds", "/queues", "/schedules", "/audit", "/metrics")


class Parcel(Runnable):
    task_config = TaskConfig(kind="hostilefile.Parcel", task_type="hostilefile")

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file with a row in each table, and the id of a task that a pool holds."""
    path = tmp_path_factory.mktemp("sound") / "tasks.db"
    with SqliteQueue(path) as queue:
        task = queue.insert_task(Parcel())
        queue.insert_task(Parcel())
        queue.limits.set("hostilefile", [Limit(1)])
        queue.schedules.put("hostilefile", Parcel(), every=timedelta(hours=1))
        now = int(queue.stats(timedelta(hours=1)).until.timestamp() * 1e6)
    minute, pool = now - now % 60_000_000, b"\xaa" * 16
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "INSERT INTO fang_pools (id, mode, host, pid, task_types, kinds, workers, started_at, lease, max_crashes) "
            """VALUES (?, 'threads', 'h', 1, '["hostilefile"]', '["hostilefile.Parcel"]', 1, ?, 60000000, 3)""",
            (pool, now),
        )
        file.execute("INSERT INTO fang_live (pool_id, at) VALUES (?, ?)", (pool, now))
        file.execute("INSERT INTO fang_stats VALUES (60, ?, ?, 'hostilefile', 'k', '{\"started\": 1}')", (minute, pool))
        file.execute("INSERT INTO fang_audit (at, who, action, target) VALUES (?, 'ada', 'edit', 'x')", (now,))
        file.execute(
            "UPDATE fang_tasks SET state = 'in_progress', pool_id = ?, claimed_at = ?, attempt = 1 WHERE id = ?",
            (pool, now, task.id.bytes),
        )
        file.commit()
    return path, str(task.id)


@pytest.fixture
def written(sound: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    path, task = sound
    return Path(shutil.copy(path, tmp_path / "tasks.db")), task


def by_turns(looks: Sequence[Look], column: str, value: object) -> Sequence[Look]:
    """Every other look for one value of a column, and the rest for the next value; all of them if it has but two."""
    values = HOSTILE[column]
    return looks if len(values) == 2 else looks[values.index(value) % 2 :: 2]


@pytest.mark.parametrize("chosen", [by_turns, pytest.param(lambda looks, *_: looks, marks=pytest.mark.long, id="all")])
@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in HOSTILE.items() for value in values])
async def test_the_rest_is_shown(
    written: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    value: object,
    chosen: Callable[..., Sequence[Any]],
) -> None:
    monkeypatch.setattr(glance, "LONGEST", 0.0)  # no pool of these rows will ever beat
    path, task = written
    table, _, name = column.partition(".")
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"UPDATE {table} SET {name} = ?", (value,))
        file.commit()
    for words in chosen(COMMANDS, column, value):
        command = [word.format(task=task) for word in words]
        shown = fang(*command, "--database-url", f"sqlite:///{path}")
        told = (command, shown.stderr)
        if shown.returncode in ((0, 1) if words[0] == "doctor" else (0,)):
            continue
        assert shown.stderr.count("\n") == 1
        if column in FORGOTTEN:
            assert shown.returncode == 69, told
            assert "hostilefile' in fang_" in shown.stderr, told
        else:
            assert column.startswith("fang_tasks."), told
            assert task in command, told
            assert f"the row of task {task} (hostilefile.Parcel) cannot be read" in shown.stderr, told
    async with AsyncSqliteQueue(path) as queue, page_of(queue) as browser:
        for page in chosen(PAGES, column, value):
            answer = await browser.get(page.format(task=task))
            assert answer.status_code == 200, (page, answer.text[:1_000])
            assert column in FORGOTTEN or "cannot be read; the log says" not in answer.text, page
