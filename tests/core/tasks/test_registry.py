"""Which class stands for which kind."""

import importlib.util
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fang_core import AsyncRunnable, DefinitionError, DuplicateKind, Runnable, TaskConfig
from fang_core.tasks.registry import LOOK_AGAIN, Kinds, Registry


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr("fang_core.tasks.runnable.REGISTRY", fresh)
    monkeypatch.setattr("fang_core.tasks.registry.REGISTRY", fresh)
    return fresh


def task_class(name: str, module: str, kind: str | None = None, former: tuple[str, ...] = ()) -> Any:
    """A task class as ``module`` would define it."""

    def body(scope: dict[str, Any]) -> None:
        scope |= {"__module__": module, "__qualname__": name, "run": lambda self, queue: None}
        if kind is not None or former:
            scope["task_config"] = TaskConfig(kind=kind or name, former_kinds=former)

    return types.new_class(name.rpartition(".")[2], (Runnable,), exec_body=body)


def load(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_a_duplicate_names_both_places(registry: Registry) -> None:
    first = task_class("Fetch", "one.tasks")

    with pytest.raises(DuplicateKind) as caught:
        task_class("Fetch", "two.tasks")

    assert str(caught.value) == (
        "kind 'Fetch' is already taken by one.tasks.Fetch; "
        "give two.tasks.Fetch another: task_config = TaskConfig(kind='...')"
    )
    assert isinstance(caught.value, DefinitionError)
    assert registry.get("Fetch") is first


def test_a_duplicate_kind_within_one_module_is_refused() -> None:
    task_class("Fetch", "one.tasks")

    with pytest.raises(DuplicateKind, match=r"one\.tasks\.Fetch; give one\.tasks\.Outer\.Fetch another"):
        task_class("Outer.Fetch", "one.tasks")
    with pytest.raises(DuplicateKind, match=r"give one\.tasks\.Other another"):
        task_class("Other", "one.tasks", kind="Fetch")


def test_another_kind_is_the_way_out(registry: Registry) -> None:
    one = task_class("Fetch", "one.tasks")
    two = task_class("Fetch", "two.tasks", kind="two.Fetch")

    assert (registry.get("Fetch"), registry.get("two.Fetch")) == (one, two)


def test_the_same_module_and_name_replaces(registry: Registry) -> None:
    task_class("Fetch", "one.tasks")
    again = task_class("Fetch", "one.tasks")

    assert registry.get("Fetch") is again
    assert dict(registry.runnable_kinds("threaded")) == {"Fetch": again}


def test_a_class_is_found_under_its_former_kinds_too(registry: Registry) -> None:
    renamed = task_class("Greet", "one.tasks", former=("SendHello", "SendWelcome"))

    assert dict(registry.kinds("threaded")) == dict.fromkeys(("Greet", "SendHello", "SendWelcome"), renamed)
    assert registry.get("SendWelcome") is renamed
    assert set(Kinds("threaded").classes) == {"Greet", "SendHello", "SendWelcome"}


def test_a_former_kind_that_is_taken_names_both_places(registry: Registry) -> None:
    task_class("Send", "one.tasks")
    task_class("Greet", "one.tasks", former=("SendWelcome",))

    with pytest.raises(DuplicateKind) as caught:
        task_class("Deliver", "two.tasks", former=("Send",))
    assert str(caught.value) == (
        "former kind 'Send' of two.tasks.Deliver is taken by one.tasks.Send: "
        "remove that class, or take the name from former_kinds"
    )
    with pytest.raises(
        DuplicateKind, match=r"^former kind 'SendWelcome' of two\.tasks\.Deliver is taken by one\.tasks\."
    ):
        task_class("Deliver", "two.tasks", former=("SendWelcome",))
    with pytest.raises(DuplicateKind) as caught:
        task_class("SendWelcome", "two.tasks")
    assert str(caught.value) == (
        "kind 'SendWelcome' of two.tasks.SendWelcome is a former kind of one.tasks.Greet: "
        "give two.tasks.SendWelcome another: task_config = TaskConfig(kind='...')"
    )
    assert set(registry.kinds("threaded")) == {"Send", "Greet", "SendWelcome"}  # a refused class leaves nothing


def test_a_class_that_comes_again_has_the_former_kinds_of_its_last_definition(registry: Registry) -> None:
    task_class("Greet", "one.tasks", former=("SendWelcome",))
    again = task_class("Greet", "one.tasks", former=("SendHello",))

    assert dict(registry.kinds("threaded")) == {"Greet": again, "SendHello": again}


SOURCE = """
from fang_core import Queueable, Runnable

class Fetch(Runnable):
    def run(self, queue: Queueable) -> None: ...
"""


def test_the_same_file_under_two_names_replaces(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.py"
    path.write_text(SOURCE)

    first = load(path, "app_as_main", monkeypatch)
    second = load(path, "app_imported", monkeypatch)

    assert first.Fetch is not second.Fetch
    assert registry.get("Fetch") is second.Fetch


def test_two_files_with_the_same_text_do_not_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(SOURCE)
    load(tmp_path / "one.py", "app_one", monkeypatch)

    with pytest.raises(DuplicateKind, match=r"app_one\.Fetch; give app_two\.Fetch another"):
        load(tmp_path / "two.py", "app_two", monkeypatch)


def test_what_ran_as_main_is_named_as_an_importer_would(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__spec__ = importlib.util.spec_from_loader("shop.worker", loader=None)
    monkeypatch.setitem(sys.modules, "__main__", main)

    task_class("Fetch", "__main__")
    imported = task_class("Fetch", "shop.worker")

    assert registry.get("Fetch") is imported


def test_a_kind_of_an_interactive_session_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))

    with caplog.at_level(logging.INFO, "fang_core"):
        task_class("Fetch", "__main__")
        task_class("Fetch", "__main__")

    assert [record.getMessage() for record in caplog.records] == [
        "kind Fetch is defined in an interactive session: other processes cannot run it"
    ]


def test_the_version_rises_with_every_change_and_only_then(registry: Registry) -> None:
    versions = [registry.version]
    for name in ("Fetch", "Parse", "Fetch"):
        task_class(name, "one.tasks")
        versions.append(registry.version)
    assert versions == sorted(set(versions))

    with pytest.raises(DuplicateKind):
        task_class("Fetch", "two.tasks")
    registry.get("Fetch")
    registry.runnable_kinds("threaded")
    assert registry.version == versions[-1]


def test_an_unknown_kind_is_none(registry: Registry) -> None:
    assert registry.get("Nobody") is None


def test_what_a_pool_got_does_not_change_beneath_it(registry: Registry) -> None:
    fetch = task_class("Fetch", "one.tasks")
    found = registry.runnable_kinds("threaded")
    task_class("Parse", "one.tasks")

    assert dict(found) == {"Fetch": fetch}
    assert set(registry.runnable_kinds("threaded")) == {"Fetch", "Parse"}
    with pytest.raises(TypeError):
        found["Other"] = fetch  # type: ignore[index]


def test_the_name_of_a_class_is_its_kind_in_either_mode(registry: Registry) -> None:
    class Light(AsyncRunnable):
        async def run(self, queue: Any) -> None: ...

    assert registry.get("Light") is Light
    assert "Light" not in registry.runnable_kinds("threaded")


# What a pool that runs learns -----------------------------------------------------------------------------------------

HEAD = """
from pydantic import BaseModel
from fang_core import AsyncRunnable, Runnable
"""
OPEN = """
class Open(Runnable):
    address: "Address"
    def run(self, queue): ...
"""
WHOLE = """
class Whole(Runnable):
    def run(self, queue): ...
"""
ADDRESS = """
class Address(BaseModel):
    street: str = ""
"""


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the next part of a module's text."""
    module = types.ModuleType("growing")
    monkeypatch.setitem(sys.modules, "growing", module)

    def grow(part: str) -> None:
        exec(compile(part, "growing.py", "exec", dont_inherit=True), vars(module))

    grow(HEAD)
    return grow


def test_a_class_that_cannot_be_completed_is_left_out_once_said_and_holds_up_no_other(
    growing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = Kinds("threaded")
    growing(OPEN)
    assert not kinds.learn(0.0)
    growing(WHOLE)
    assert kinds.learn(0.0)
    assert set(kinds.classes) == {"Whole"}
    for mono in range(10):
        assert not kinds.learn(float(mono))
    growing(WHOLE.replace("Whole", "Other"))
    assert kinds.learn(10.0)
    assert set(kinds.classes) == {"Whole", "Other"}
    assert [record.getMessage() for record in caplog.records] == [
        "kind Open (growing.Open) cannot be completed: name 'Address' is not defined; it is left out until it can be"
    ]


def test_it_is_taken_up_when_the_type_is_there_though_the_registry_has_not_changed(growing: Any) -> None:
    kinds = Kinds("threaded")
    growing(OPEN)
    assert not kinds.learn(5.0)
    growing(ADDRESS)
    assert not kinds.learn(5.0 + LOOK_AGAIN / 2)
    assert kinds.learn(5.0 + LOOK_AGAIN)
    assert set(kinds.classes) == {"Open"}
    assert not kinds.learn(100.0)


def test_it_is_taken_up_at_once_when_it_was_used(growing: Any) -> None:
    kinds = Kinds("threaded")
    growing(OPEN)
    assert not kinds.learn(5.0)
    growing(ADDRESS + "Open(address=Address())")
    assert kinds.learn(5.0)
    assert set(kinds.classes) == {"Open"}


def test_one_that_is_defined_anew_and_cannot_be_completed_leaves_the_former_in_its_place(growing: Any) -> None:
    growing(WHOLE.replace("Whole", "Open"))
    kinds = Kinds("threaded")
    former = kinds.classes["Open"]
    growing(OPEN)
    assert not kinds.learn(0.0)
    assert kinds.classes["Open"] is former
    growing(ADDRESS)
    assert kinds.learn(LOOK_AGAIN)
    assert kinds.classes["Open"] is not former


def test_a_class_of_the_other_mode_is_no_news(growing: Any) -> None:
    kinds = Kinds("threaded")
    growing("class Light(AsyncRunnable):\n    async def run(self, queue): ...")
    assert not kinds.learn(0.0)


def test_a_pool_does_not_start_where_a_class_cannot_be_completed(growing: Any) -> None:
    growing(OPEN)
    with pytest.raises(DefinitionError, match="cannot be completed: name 'Address' is not defined"):
        Kinds("threaded")
