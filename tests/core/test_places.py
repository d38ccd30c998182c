"""The line that a log names is the application's own, wherever that comes from."""

import asyncio
import json
import runpy
import sys
import threading
import traceback
import types
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fang_async import AsyncWorkerPool
from fang_core import AsyncMemoryQueue, AsyncRunnable, TaskConfig
from fang_core.failure import describe, origin
from fang_core.interpreter.places import own_place, place, place_in
from fang_core.runs.location import frames_of_coroutine, frames_of_thread
from tests.patience import PATIENT

HERE = __file__


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - handed on to the test
        return error
    raise AssertionError("it did not raise")


def first_line(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def in_the_library() -> None:
    json.loads("not JSON")


def wraps() -> None:
    try:
        in_the_library()
    except ValueError as error:
        raise RuntimeError("wrapped") from error


def test_it_is_not_that_of_the_library_that_raised() -> None:
    assert own_place(caught(in_the_library), __name__) == f"{HERE}:{first_line(in_the_library) + 1}"


def test_of_a_chain_it_is_where_the_last_one_was_raised() -> None:
    assert own_place(caught(wraps), __name__) == f"{HERE}:{first_line(wraps) + 4}"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], types.ModuleType]:
    """Makes modules from source, at a path below a directory of the test's own."""

    def make(file: str, source: str) -> types.ModuleType:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        name = file.removeprefix("site-packages/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        module = types.ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, str(path), "exec"), vars(module))
        return module

    return make


CALLS = "def run(function):\n    return function()\n"
FAILS = "def fails():\n    raise ValueError\n"


def test_what_is_installed_is_not_the_applications(make: Callable[[str, str], Any], tmp_path: Path) -> None:
    library = make("site-packages/library.py", FAILS)
    application = make("application.py", CALLS)

    error = caught(lambda: application.run(library.fails))

    assert own_place(error, "application") == f"{tmp_path}/application.py:2"


def test_an_application_may_be_installed_itself(make: Callable[[str, str], Any], tmp_path: Path) -> None:
    make("site-packages/shop/__init__.py", "")
    tasks = make("site-packages/shop/tasks.py", CALLS)
    prices = make("site-packages/shop/prices.py", CALLS)
    library = make("site-packages/library.py", FAILS)

    error = caught(lambda: tasks.run(lambda: prices.run(library.fails)))

    assert own_place(error, "shop.tasks") == f"{tmp_path}/site-packages/shop/prices.py:2"


def test_packages_that_share_a_namespace_are_not_each_others(make: Callable[[str, str], Any], tmp_path: Path) -> None:
    make("site-packages/company/shop/__init__.py", "")
    tasks = make("site-packages/company/shop/tasks.py", CALLS)
    make("site-packages/company/library/__init__.py", "")
    library = make("site-packages/company/library/core.py", FAILS)

    error = caught(lambda: tasks.run(library.fails))

    assert own_place(error, "company.shop.tasks") == f"{tmp_path}/site-packages/company/shop/tasks.py:2"


def test_code_without_a_file_is_named_where_there_is_nothing_better() -> None:
    typed = types.ModuleType("typed_in")
    exec(compile(CALLS + FAILS, "<stdin>", "exec"), vars(typed))
    error = caught(lambda: typed.run(typed.fails))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]  # without this file's frames

    assert own_place(error, "typed_in") == "<stdin>:4"
    assert own_place(error, "elsewhere") is None
    assert place(error, "elsewhere") == "<stdin>:4"


def test_a_generated_frame_of_a_class_is_not_the_innermost() -> None:
    def fails() -> None:
        exec(compile("raise ValueError", "<string>", "exec"), globals())  # as a dataclass' __init__ runs in its module

    assert own_place(caught(fails), __name__) == f"{HERE}:{first_line(fails) + 1}"


def test_code_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("zipped_tasks.py", "import json\ndef run():\n    json.loads('')\n")
    monkeypatch.syspath_prepend(tmp_path / "app.zip")
    run = runpy.run_module("zipped_tasks")["run"]

    assert own_place(caught(run), "zipped_tasks") == f"{tmp_path}/app.zip/zipped_tasks.py:3"


def test_a_group_names_the_place_of_its_first_cause_too() -> None:
    async def fails() -> None:
        in_the_library()

    async def gathers() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(fails())

    report = describe(caught(lambda: asyncio.run(gathers())), __name__)

    inner = f"JSONDecodeError at {HERE}:{first_line(in_the_library) + 1}"
    assert origin(report) == f"ExceptionGroup at {HERE}:{first_line(gathers) + 1} ({inner})"


def test_what_an_exception_hides_and_a_file_is_called_does_no_harm() -> None:
    class Hiding(Exception):
        @property
        def __traceback__(self) -> Any:
            raise SystemExit

    def fails() -> None:
        raise Hiding

    assert own_place(caught(fails), __name__) == f"{HERE}:{first_line(fails) + 1}"
    scope = {"__name__": object()}
    exec(compile(FAILS, "/tmp/evil\nERROR fake\x1b[31m.py" + "x" * 10_000, "exec"), scope)
    named = place(caught(scope["fails"]), "")  # type: ignore[arg-type]
    assert named is not None
    assert named.isprintable()
    assert len(named) < 400


def test_an_exception_that_was_never_raised_has_none() -> None:
    assert place(ValueError(), __name__) is None


def test_a_deep_recursion_has_one() -> None:
    def deeper() -> None:
        deeper()

    error = caught(deeper)
    assert len(list(traceback.walk_tb(error.__traceback__))) > 500
    assert own_place(error, __name__) == f"{HERE}:{first_line(deeper) + 1}"


# Code that has not ended ----------------------------------------------------------------------------------------------


def test_a_thread_stands_in_the_innermost_line_of_its_own_code() -> None:
    stands, may_end = threading.Event(), threading.Event()

    def waits() -> None:
        stands.set()
        may_end.wait()

    thread = threading.Thread(target=waits)
    thread.start()
    assert stands.wait(PATIENT)
    found = place_in(frames_of_thread(thread.ident), __name__)
    may_end.set()
    thread.join()
    assert found in {f"{HERE}:{first_line(waits) + 1}", f"{HERE}:{first_line(waits) + 2}"}
    assert place_in(frames_of_thread(thread.ident), __name__) is None
    assert place_in(frames_of_thread(None), __name__) is None


async def test_a_coroutine_stands_in_the_innermost_line_of_its_own_code_that_it_awaits() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    async def calls() -> None:
        await waits()

    task = asyncio.create_task(calls())
    await asyncio.sleep(0)
    assert place_in(frames_of_coroutine(task.get_coro()), __name__) == f"{HERE}:{first_line(waits) + 1}"
    task.cancel()
    await asyncio.wait([task])
    assert frames_of_coroutine(task.get_coro()) == []


async def test_a_run_of_an_asyncio_worker_is_found_through_the_worker() -> None:
    queue = AsyncMemoryQueue()
    await queue.insert_task(Waits())
    async with AsyncWorkerPool(queue, grace_period=timedelta(0)) as pool:
        await asyncio.wait_for(Waits.begun.wait(), PATIENT)
        (worker,) = pool._lifetime.workers._by_number().values()
        found = place_in(frames_of_coroutine(worker.task.get_coro()), __name__)
    assert found == f"{HERE}:{first_line(Waits.run) + 2}"


class Waits(AsyncRunnable):
    task_config = TaskConfig(kind="places.Waits")
    begun: ClassVar[asyncio.Event] = asyncio.Event()

    async def run(self, queue: Any) -> None:
        self.begun.set()
        await asyncio.Event().wait()
