"""Suspects that run in child processes, beside everything else; and when they do not."""

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest

from fang_core import RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.runs.isolation import Isolates
from fang_core.tasks.registry import REGISTRY
from fang_isolation.starting import Starter
from tests.isolation import tasks
from tests.isolation.conftest import Bench, is_there
from tests.modes import Database, eventually

SECOND = timedelta(seconds=1)


class Suspicious(Bench):
    """On Postgres, with tasks of a class that does not ask for isolation."""

    def __init__(self, harness: Any, folder: Path, url: str, database: Database) -> None:
        super().__init__(harness, folder)
        self.queue = harness.queue(url)
        self.database = database

    def suspect(self, act: str, path: Path | None = None, crashes: int = SUSPECT_AFTER, **options: Any) -> UUID:
        task = self.insert(act, name="Common", path=path, delay=timedelta(hours=1), **options)
        self.database.execute(
            "UPDATE fang.fang_tasks SET state = 'retried', crashes = %s, scheduled_at = now() WHERE id = %s",
            crashes,
            task.id,
        )
        return task.id

    def of(self, task_id: UUID, columns: str = "state::text, crashes, retries") -> Any:
        rows = self.database.rows(f"SELECT {columns} FROM fang.fang_tasks WHERE id = %s", task_id)
        return rows[0] if rows else None

    @property
    def isolated_kinds(self) -> list[str]:
        ((kinds,),) = self.database.rows("SELECT isolated_kinds FROM fang.fang_pools")
        return list(kinds)


@pytest.fixture
def suspicious(harness: Any, tmp_path: Path, url: str, database: Database) -> Any:
    made = Suspicious(harness, tmp_path, url, database)
    yield made
    harness.end()


def test_a_suspect_runs_in_a_child_beside_a_long_run_and_other_suspects(suspicious: Suspicious) -> None:
    path, others = suspicious.path(), [suspicious.path() for _ in range(2)]
    suspicious.pool(number_of_workers=4, isolate_suspects=True)
    long = suspicious.insert("wait_for_go", name="Common", path=path)
    assert suspicious.told(path)["pid"] == os.getpid()
    suspects = [suspicious.suspect("wait_for_go", other) for other in others]
    pids = [suspicious.told(other)["pid"] for other in others]
    assert os.getpid() not in pids
    assert len(set(pids)) == 2
    fresh = suspicious.path()
    suspicious.insert("tell", name="Common", path=fresh)
    assert suspicious.told(fresh)["pid"] == os.getpid()  # claims go on meanwhile
    for each in (path, *others):
        Path(f"{each}.go").touch()
    for task_id in (long.id, *suspects):
        eventually(lambda task_id=task_id: suspicious.of(task_id)[0] == "finished")  # type: ignore[misc]


def test_a_suspect_that_kills_its_child_is_parked_and_nothing_else_is_charged(suspicious: Suspicious) -> None:
    path = suspicious.path()
    pool = suspicious.pool(isolate_suspects=True)
    long = suspicious.insert("wait_for_go", name="Common", path=path)
    suspicious.told(path)
    culprit = suspicious.suspect("kill_itself")
    eventually(lambda: suspicious.of(culprit)[0] == "failed")
    assert suspicious.of(culprit)[1] == SUSPECT_AFTER + 1
    Path(f"{path}.go").touch()
    eventually(lambda: suspicious.of(long.id)[:2] == ("finished", 0))
    assert suspicious.harness.stop(pool) == 0


def test_a_pool_prepares_for_suspects_when_a_task_comes_that_has_crashed_once(
    suspicious: Suspicious, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = suspicious.task("Common")
    monkeypatch.setattr(REGISTRY, "_classes", {common.__fang_options__.kind: common})
    pool = suspicious.pool(isolate_suspects=True)
    isolates = pool._lifetime._isolates
    path = suspicious.path()
    suspicious.insert("tell", name="Common", path=path)
    suspicious.told(path)
    assert isolates._isolation is None
    suspicious.suspect("nothing", crashes=SUSPECT_AFTER - 1)
    eventually(lambda: isolates._isolation is not None)


def test_a_task_that_has_crashed_is_claimed_where_the_system_has_no_thread_to_prepare_for_suspects(
    suspicious: Suspicious, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = suspicious.task("Common")
    monkeypatch.setattr(REGISTRY, "_classes", {common.__fang_options__.kind: common})
    asked = threading.Event()

    def refuse(*_: object, **__: object) -> NoReturn:
        asked.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("fang_core.runs.isolation.Thread", refuse)
    suspicious.pool(isolate_suspects=True)
    path = suspicious.path()
    suspicious.suspect("tell", path, crashes=SUSPECT_AFTER - 1)
    suspicious.told(path)
    assert asked.is_set()


def test_a_suspect_whose_child_cannot_be_started_is_not_charged_and_runs_in_the_pool(
    suspicious: Suspicious, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Starter, "start", refuse)
    suspicious.pool(isolate_suspects=True, number_of_workers=1, retention_mode=RetentionMode.KEEP_ALL)
    path = suspicious.path()
    innocent = suspicious.suspect("tell", path)
    assert suspicious.told(path)["pid"] == os.getpid()
    eventually(lambda: suspicious.of(innocent) == ("finished", SUSPECT_AFTER, 0), 20)


def test_the_pool_says_which_kinds_it_isolates(suspicious: Suspicious) -> None:
    suspicious.pool(isolate_suspects=True)
    kinds = {suspicious.task(name).__fang_options__.kind for name in ("Common", "Act")}
    assert kinds <= set(suspicious.isolated_kinds)


def test_a_suspect_that_fails_in_a_child_goes_back_and_its_kind_runs_in_the_pool_again(
    suspicious: Suspicious, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fang_core")
    monkeypatch.setenv("FANG_TEST_POOL", str(os.getpid()))
    suspicious.pool(isolate_suspects=True, number_of_workers=1)
    path = suspicious.path()
    innocent = suspicious.suspect("fail_elsewhere", path)
    assert suspicious.told(path)["pid"] == os.getpid()
    eventually(lambda: suspicious.of(innocent)[0] == "finished")
    assert suspicious.of(innocent) == ("finished", SUSPECT_AFTER, 0)
    kind = suspicious.task("Common").__fang_options__.kind
    assert kind not in suspicious.isolated_kinds  # so that it is charged if it kills the pool now
    assert f"suspects of kind {kind} run in the pool itself now: one failed in a child process" in caplog.text


@pytest.mark.parametrize("why", ["the option", "a lifespan", "a middleware", "no extra"])
def test_suspects_run_in_the_pool_if_a_child_could_not_run_them_as_it_does(
    suspicious: Suspicious, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(REGISTRY, "_classes", {"isolation.x": suspicious.task("Common")})
    options: dict[str, Any] = {"isolate_suspects": why != "the option"}
    if why == "a lifespan":
        options["lifespan"] = lambda: tasks.told(None)
        monkeypatch.setenv("FANG_TEST_TOLD", os.devnull)
        monkeypatch.setattr(tasks, "told", lambda _: Nothing())
    elif why == "a middleware":
        options["middleware"] = [lambda run: Nothing()]
    elif why == "no extra":
        monkeypatch.setattr("fang_core.runs.isolation.find_spec", lambda name: None)
    suspicious.pool(**options)
    assert suspicious.isolated_kinds == []


class Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_only_classes_that_a_child_can_import_are_isolated() -> None:
    class Local(tasks.ThreadedCommon):
        task_config = tasks.TaskConfig(kind="isolation.LocalCommon")

    isolates = Isolates(lambda: None, None, takes_suspects=True)  # type: ignore[arg-type, return-value]
    isolates.serve({"a": tasks.ThreadedCommon, "b": Local, "c": tasks.ThreadedAct})
    assert isolates.kinds == {"a", "c"}
    REGISTRY._classes.pop("isolation.LocalCommon")


def test_a_suspect_is_not_charged_with_the_death_of_its_pool(suspicious: Suspicious) -> None:
    """The pool is declared dead, and its child lives no longer than that."""
    pool = suspicious.pool(isolate_suspects=True, number_of_workers=1, retention_mode=RetentionMode.KEEP_ALL)
    path = suspicious.path()
    suspect = suspicious.suspect("wait_for_go", path)
    child = suspicious.told(path)["pid"]
    store = suspicious.harness.call(suspicious.queue.store)
    heart = store.heart(False)
    from fang_core.liveness import Pulse

    ((pool_id, beats),) = suspicious.database.rows("SELECT id, beats FROM fang.fang_pools")
    told = suspicious.harness.call(heart.rescue, [Pulse(pool_id, beats, False, False, 60.0)])
    if not told:  # it has beaten just then
        ((pool_id, beats),) = suspicious.database.rows("SELECT id, beats FROM fang.fang_pools")
        told = suspicious.harness.call(heart.rescue, [Pulse(pool_id, beats, False, False, 60.0)])
    suspicious.harness.call(heart.close)
    suspicious.harness.call(store.close)
    assert [(each.id, each.charged) for each in told] == [(suspect, False)]
    assert suspicious.of(suspect)[1] == SUSPECT_AFTER
    eventually(lambda: not is_there(child))  # the run is lost
    Path(f"{path}.go").touch()
    eventually(lambda: suspicious.of(suspect)[0] == "finished")
    assert suspicious.harness.stop(pool) == 0
