"""What a pool needs for isolated runs, what it does when that is missing, and what is left when it dies."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncMemoryQueue, AsyncRunnable, MemoryQueue, Runnable, TaskConfig, TaskState
from fang_core.errors import MissingExtra
from fang_core.runs.isolation import Isolates
from fang_core.tasks.registry import REGISTRY
from fang_threaded import Queue
from tests.isolation.conftest import START, Bench, is_there
from tests.modes import eventually, harness_of
from tests.patience import PATIENT
from tests.processes import ends


def program(folder: Path, name: str, text: str) -> "subprocess.Popen[str]":
    """Starts a program of an application, beside its modules."""
    (folder / name).write_text(textwrap.dedent(text))
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.Popen(
        [sys.executable, name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def without_pebble(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"pebble", "fang_isolation"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pebble", None)


@pytest.mark.usefixtures("without_pebble")
def test_a_pool_that_needs_the_extra_says_so_when_it_starts(bench: Bench) -> None:
    expected = (
        r"^\w+ has isolation='process': isolation in processes needs Pebble: pip install 'fang-tasks\[isolation\]'$"
    )
    with pytest.raises(MissingExtra, match=expected):
        bench.pool()
    bench.pool(task_type="other")  # it serves no class that needs it


@pytest.mark.usefixtures("without_pebble")
def test_a_class_that_needs_the_extra_and_comes_later_fails_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "_classes", {})
    bench.pool()
    base: Any = Runnable if bench.harness.mode == "threaded" else AsyncRunnable

    class Late(base):  # type: ignore[misc]
        task_config = TaskConfig(kind="isolation.Late", task_type="isolation", isolation="process")

        if bench.harness.mode == "threaded":

            def run(self, queue: Any) -> None: ...

        else:

            async def run(self, queue: Any) -> None: ...

    task = bench.harness.call(bench.queue.insert_task, Late(), max_retries=0)
    message = bench.ended(task, TaskState.FAILED).error_message
    assert message == "MissingExtra: isolation in processes needs Pebble: pip install 'fang-tasks[isolation]'"


def test_a_class_that_a_child_cannot_import_fails_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_classes", dict(REGISTRY._classes))
    base: Any = bench.task("Act")

    class Local(base):  # type: ignore[misc]
        task_config = TaskConfig(kind="isolation.Local")

    Local.__module__ = "tests.isolation.tasks"  # which does not have it
    bench.pool()
    task = bench.harness.call(bench.queue.insert_task, Local(act="tell"), max_retries=0)
    message = bench.ended(task, TaskState.FAILED).error_message
    expected = "kind isolation.Local cannot run in a child process: its module tests.isolation.tasks does not define it"
    assert message == f"UsageError: {expected}"


@pytest.mark.parametrize("needed", ["when the pool starts", "by a run"])
def test_the_event_loop_goes_on_while_isolation_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str
) -> None:
    make = AsyncWorkerPool._make_isolation
    went_on: list[bool] = []

    def slow(pool: Any) -> Any:
        answered = threading.Event()
        pool._lifetime.runtime._loop.call_soon_threadsafe(answered.set)
        went_on.append(answered.wait(5))
        return make(pool)

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(AsyncWorkerPool, "_make_isolation", slow)
    if needed == "by a run":
        monkeypatch.setattr(Isolates, "check", nothing)
    with harness_of("async") as harness:
        bench = Bench(harness, tmp_path)
        bench.pool()
        bench.ran("tell")
        harness.end()
    assert went_on == [True]


def test_a_pool_that_isolates_nothing_imports_nothing_for_it(tmp_path: Path) -> None:
    text = """
        import sys
        from fang_threaded import MemoryQueue, Runnable, WorkerPool

        class Plain(Runnable):
            def run(self, queue): ...

        queue = MemoryQueue()
        queue.insert_task(Plain())
        assert WorkerPool(queue).drain() == 1
        unwanted = {"pebble", "fang_isolation", "multiprocessing"}
        print([name for name in sys.modules if name.partition(".")[0] in unwanted])
    """
    printed, errors = program(tmp_path, "plain.py", text).communicate(timeout=PATIENT)
    assert (printed, errors) == ("[]\n", "")


MAIN = """
    import os, pathlib, sys
    from fang_threaded import MemoryQueue, Runnable, TaskConfig, WorkerPool

    class Heavy(Runnable):
        task_config = TaskConfig(isolation="process", max_retries=0)

        def run(self, queue):
            pathlib.Path("ran").write_text(str(os.getpid()))

    queue = MemoryQueue()
    pool = WorkerPool(queue, warn_after=None)

    {guard}
        task = queue.insert_task(Heavy())
        assert pool.drain() == 1
        row = queue.find_task_by_id(task.id)
        print(os.getpid(), row and row.error_message)
"""


def test_tasks_of_the_main_module_can_be_isolated(tmp_path: Path) -> None:
    main = program(tmp_path, "app.py", MAIN.format(guard="if __name__ == '__main__':"))
    printed, errors = main.communicate(timeout=PATIENT)
    assert (printed, errors) == (f"{main.pid} None\n", "")
    assert int((tmp_path / "ran").read_text()) != main.pid


def test_a_main_module_that_runs_a_pool_whoever_imports_it_does_not_run_another_in_the_child(tmp_path: Path) -> None:
    printed, errors = program(tmp_path, "app.py", MAIN.format(guard="if True:")).communicate(timeout=PATIENT)
    assert "FangError: the child process of this run ended before it could begin; its stderr says why" in printed
    assert "UsageError: a child process imports the main module, which starts a pool" in errors
    assert not (tmp_path / "ran").exists()


def test_a_child_does_not_import_the_main_module_for_tasks_of_others(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text(
        textwrap.dedent("""
            from fang_threaded import Runnable, TaskConfig

            class Heavy(Runnable):
                task_config = TaskConfig(isolation="process", max_retries=0)

                def run(self, queue): ...
        """)
    )
    text = """
        print("imported")
        from fang_threaded import MemoryQueue, WorkerPool
        from heavy import Heavy

        queue = MemoryQueue()
        task = queue.insert_task(Heavy())
        assert WorkerPool(queue).drain() == 1
        print(queue.find_task_by_id(task.id))
    """
    printed, errors = program(tmp_path, "app.py", text).communicate(timeout=PATIENT)
    assert (printed, errors) == ("imported\nNone\n", "")


@pytest.mark.parametrize("act", ["hang", "hang_in_c", "hang_with_a_program"])
def test_children_end_when_the_process_of_the_pool_is_killed(tmp_path: Path, act: str) -> None:
    text = f"""
        from fang_core import MemoryQueue
        from fang_threaded import WorkerPool
        from tests.isolation.tasks import ThreadedAct

        queue = MemoryQueue()
        queue.insert_task(ThreadedAct(act="{act}", path="{tmp_path / "told"}"))
        WorkerPool(queue, task_type="isolation").run()
    """
    main = program(tmp_path, "app.py", text)
    told = tmp_path / "told"
    eventually(told.exists, START)
    child = int(told.read_text().partition('"pid": ')[2].partition(",")[0].rstrip("}"))
    assert is_there(child)
    os.kill(main.pid, signal.SIGKILL)
    assert ends(child, 10)
    for started in re.findall(r'"program": (\d+)', told.read_text()):
        assert ends(int(started), 10)
    main.communicate(timeout=PATIENT)


@pytest.mark.parametrize("is_forked", [True, False])
def test_children_and_their_server_end_with_the_process_of_the_pool_though_it_has_forked_another(
    tmp_path: Path, is_forked: bool
) -> None:
    text = f"""
        import os, time
        from pathlib import Path
        from fang_core import MemoryQueue
        from fang_isolation.fork_server import own_server
        from fang_threaded import WorkerPool
        from tests.isolation.tasks import ThreadedAct

        own_server().is_usable &= {is_forked}
        queue = MemoryQueue()
        queue.insert_task(ThreadedAct(act="hang", path="{tmp_path / "told"}"))
        pool = WorkerPool(queue, task_type="isolation")
        pool.start()
        while not Path("told").exists():
            time.sleep(0.01)
        print(own_server().pid, flush=True)
        if os.fork():
            time.sleep(600)
        print(os.getpid(), flush=True)
        time.sleep(600)
    """
    main = program(tmp_path, "app.py", text)
    assert main.stdout is not None
    server, other = main.stdout.readline().strip(), int(main.stdout.readline())
    child = int((tmp_path / "told").read_text().partition('"pid": ')[2].partition(",")[0].rstrip("}"))
    try:
        os.kill(main.pid, signal.SIGKILL)
        assert ends(child, 10)
        assert server == "None" if not is_forked else ends(int(server), 10)
        assert is_there(other)
    finally:
        os.kill(other, signal.SIGKILL)
    main.communicate(timeout=PATIENT)


def test_the_main_module_of_a_task_finds_the_environment_as_it_is_when_its_child_starts(tmp_path: Path) -> None:
    text = """
        import os
        from fang_threaded import MemoryQueue, Runnable, TaskConfig, WorkerPool

        FOUND = os.environ.get("FANG_TEST_MAIN")

        class ReadsEnvironmentInMain(Runnable):
            task_config = TaskConfig(isolation="process", max_retries=0)

            def run(self, queue):
                print(FOUND, flush=True)

        if __name__ == "__main__":
            queue = MemoryQueue()
            for value in ("first", "second"):
                os.environ["FANG_TEST_MAIN"] = value
                queue.insert_task(ReadsEnvironmentInMain())
                WorkerPool(queue).drain()
    """
    printed, errors = program(tmp_path, "app.py", text).communicate(timeout=PATIENT)
    assert (printed, errors) == ("first\nsecond\n", "")


@pytest.mark.parametrize("queue", [Queue, AsyncQueue])
def test_a_queues_recipe_has_all_that_it_was_made_with(queue: Any) -> None:
    import inspect

    given = dict.fromkeys(list(inspect.signature(queue.__init__).parameters)[2:])
    made = queue("postgresql://localhost/app")
    assert made.recipe.keywords.keys() == given.keys()
    again = made.recipe()
    assert again.recipe.keywords == made.recipe.keywords
    assert again.recipe.args == made.recipe.args


def test_memory_has_no_recipe() -> None:
    assert not hasattr(MemoryQueue(), "recipe")
    assert not hasattr(AsyncMemoryQueue(), "recipe")
