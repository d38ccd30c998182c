"""What a task class is, checked where it is defined."""

import abc
import sys
import types
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from pydantic import Field, model_validator

from fang_core import (
    AsyncRunnable,
    ClaimedTask,
    Constant,
    Cron,
    DefinitionError,
    Exponential,
    Fair,
    Limit,
    Queueable,
    Rate,
    Runnable,
    ScheduleOnce,
    Task,
    TaskConfig,
    Unique,
)
from fang_core.tasks.payloads import codec
from fang_core.tasks.registry import Registry
from fang_core.tasks.runnable import BaseRunnable


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Kinds are global: the classes of these tests register with one of their own."""
    fresh = Registry()
    monkeypatch.setattr("fang_core.tasks.runnable.REGISTRY", fresh)
    return fresh


def define(base: type = Runnable, **namespace: Any) -> Any:
    """A task class, made in one expression."""

    def body(scope: dict[str, Any]) -> None:
        scope["__module__"] = __name__
        scope["run"] = lambda self, queue: None
        scope.update(namespace)

    return types.new_class("Task", (base,), exec_body=body)


# Options --------------------------------------------------------------------------------------------------------------


def test_options_have_defaults() -> None:
    class Plain(Runnable):
        def run(self, queue: Queueable) -> None: ...

    options = Plain.__fang_options__
    assert (options.kind, options.task_type, options.former_kinds) == ("Plain", "common", ())
    assert (options.config["priority"], options.config["max_retries"]) == (0, 20)
    assert options.backoff == Exponential()
    assert (options.uniq, options.cron) == (False, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_retry": 5}, r"^Task\.task_config: there is no option 'max_retry' \(did you mean 'max_retries'\?\); "),
        (
            {"x": 5},
            r"no option 'x'.*; options are backoff, cron, expires, fair_by, .*, task_type, timeout, uniq$",
        ),
        ({"timeout": 5}, r"^Task\.task_config\.timeout: timeout must be a timedelta, not int$"),
        ({"timeout": timedelta(0)}, r"timeout must be more than zero, and a hundred years at most$"),
        ({"expires": datetime.now(UTC)}, r"^Task\.task_config\.expires: expires must be a timedelta, not datetime$"),
        ({"isolation": "thread"}, r"^Task\.task_config\.isolation: Input should be 'pool' or 'process'$"),
        ({"memory_limit": 512}, r"memory_limit: Input should be greater than or equal to 1048576$"),
        ({"memory_limit": 2**30}, r"^Task\.task_config\.memory_limit limits child processes only: add isolation='pro"),
        ({"memory_limit": 2.0**30}, r"memory_limit: Input should be a valid integer"),
        ({"limits": Limit(5)}, r"^Task\.task_config\.limits: limits must be a list, such as \[Limit\(5\), "),
        ({"limits": [5]}, r"limits takes Limit\(\.\.\.\), Rate\(\.\.\.\) and Fair\(\.\.\.\), not int$"),
        ({"limits": [Limit]}, r"limits takes Limit\(\.\.\.\), .*, not Limit$"),
        ({"limits": [Fair("a")]}, r"^Task\.task_config\.limits: Fair goes into fair_by: fair_by=Fair\(\.\.\.\)$"),
        ({"limits": [Limit(5), Limit(6)]}, r"there are two of Limit for the whole type: remove one$"),
        ({"fair_by": 5}, r"^Task\.task_config\.fair_by: by must be the name of a field, several names, or a"),
        (
            {"fair_by": "a"},
            r"^Task\.task_config: its key 'a' is no field of the class; its fields are none",
        ),
        ({"fair_by": "a", "limits": [Limit(2, by="b")]}, r"^Task\.task_config: a task has one key: write the same by="),
        ({"headers": {"a": "b"}}, r"no option 'headers'; options are "),
        ({"max_retries": "5"}, r"^Task\.task_config\.max_retries: Input should be a valid integer"),
        ({"max_retries": 5.0}, r"max_retries: Input should be a valid integer"),
        ({"max_retries": True}, r"max_retries: Input should be a valid integer"),
        ({"max_retries": -1}, r"max_retries: .* greater than or equal to 0"),
        ({"max_retries": 1_000_001}, r"max_retries: .* less than or equal to 1000000"),
        ({"priority": 3}, r"priority: .* less than or equal to 2"),
        ({"priority": -3}, r"priority: .* greater than or equal to -2"),
        ({"priority": "high"}, r"priority: Input should be a valid integer"),
        ({"task_type": ""}, r"task_type: String should have at least 1 character"),
        ({"task_type": 5}, r"task_type: Input should be a valid string"),
        ({"task_type": "a\0b"}, r"task_type: String should match pattern"),
        ({"task_type": "\ud800"}, r"task_type: Input should be a valid string"),
        ({"kind": "a\nb\0"}, r"kind: String should match pattern"),
        ({"kind": "x" * 501}, r"kind: String should have at most 500 characters"),
        ({"kind": None}, r"kind: Input should be a valid string"),
        ({"backoff": timedelta(seconds=5)}, r"backoff: Input should be callable"),
        ({"uniq": 1}, r"uniq: uniq is True, False or Unique\(...\), not int"),
        ({"uniq": None}, r"uniq: uniq is True, False or Unique\(...\), not NoneType"),
        ({"uniq": Unique(by="url")}, r"^Task\.task_config\.uniq compares the field 'url': there is none$"),
        ({"uniq": Unique(within=timedelta(1)), "cron": "@daily"}, r"with cron= a Unique can have by= only$"),
        ({"uniq": Unique(while_="waiting"), "cron": "@daily"}, r"with cron= a Unique can have by= only$"),
        ({"cron": 5}, r"^Task\.task_config\.cron: a schedule is a pattern, a Cron or a ScheduleOnce, not int$"),
        ({"cron": {"pattern": "@daily"}}, r"cron: a schedule is a pattern"),
        ({"cron": "0 25 * * *"}, r"^Task\.task_config\.cron: cron '0 25 \* \* \*': hour '25' is not in 0-23$"),
        ({"cron": "0 0 30 2 *"}, r"cron '0 0 30 2 \*' never fires"),
        ({"cron": ""}, r"cron '': expected 5 fields"),
        (5, r"^Task\.task_config: Input should be a valid dictionary$"),
    ],
)
def test_options_are_checked_at_definition(config: Any, message: str, registry: Registry) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        define(task_config=config)

    assert "\n" not in str(caught.value)
    assert registry.version == 0


class Exported(Runnable):
    task_config = TaskConfig(
        task_type="exports", kind="runnable.Exported", limits=[Limit(5), Rate(10, by="tenant")], fair_by="tenant"
    )
    tenant: str

    def run(self, queue: Queueable) -> None: ...


def test_the_lane_of_a_task_is_its_key() -> None:
    options = Exported.__fang_options__
    assert options.rules == (Limit(5), Rate(10, by="tenant"), Fair("tenant"))
    assert options.lane_of is not None
    assert options.lane_of(Exported(tenant="acme")) == "acme"


def test_the_lane_of_a_task_without_a_key_is_empty() -> None:
    unkeyed = define(task_config=TaskConfig(limits=[Limit(5)]))
    assert unkeyed.__fang_options__.lane_of(unkeyed()) == ""
    assert define().__fang_options__.lane_of is None


def test_limits_are_inherited_and_replaced_as_a_whole() -> None:
    heir = define(Exported, task_config=TaskConfig(limits=[Limit(2)]))
    assert heir.__fang_options__.rules == (Limit(2), Fair("tenant"))
    free = define(Exported, task_config=TaskConfig(limits=[], fair_by=None))
    assert (free.__fang_options__.rules, free.__fang_options__.lane_of) == ((), None)
    with pytest.raises(DefinitionError, match=r"^Task\.task_config: a task has one key"):
        define(Exported, task_config=TaskConfig(fair_by=str))


@pytest.mark.parametrize(
    "config",
    [
        {"priority": -2, "max_retries": 0},
        {"priority": 2, "max_retries": 1_000_000},
        {"kind": "x" * 500, "task_type": "mit Umlaut ä"},
        {"backoff": timedelta},
        {"uniq": True, "cron": Cron("@daily", "Europe/Berlin")},
        {"uniq": Unique(by=[]), "cron": Cron("@daily")},
        {"uniq": Unique(within=timedelta(days=1), on_conflict="raise")},
        {"uniq": False, "cron": ScheduleOnce(datetime(2020, 1, 1, tzinfo=UTC))},
        {"cron": None},
    ],
)
def test_options_at_their_limits_are_good(config: dict[str, Any]) -> None:
    task = define(task_config=config)

    assert task.task_config == config
    assert {key: task.__fang_options__.config[key] for key in config} == config


def test_options_are_inherited_by_merging_but_for_the_kind() -> None:
    steady = Constant()

    class Parent(Runnable):
        task_config = TaskConfig(kind="the.parent", task_type="heavy", max_retries=3, backoff=steady)

        def run(self, queue: Queueable) -> None: ...

    class Child(Parent):
        task_config = TaskConfig(max_retries=7)

    class Grandchild(Child):
        task_config = TaskConfig(priority=1)

    class Silent(Grandchild):
        pass

    for cls, kind, retries, priority in [
        (Parent, "the.parent", 3, 0),
        (Child, "Child", 7, 0),
        (Grandchild, "Grandchild", 7, 1),
        (Silent, "Silent", 7, 1),
    ]:
        options = cls.__fang_options__
        assert (options.kind, options.backoff) == (kind, steady)
        assert options.columns == ("heavy", priority, retries, None, None)
        assert ("kind" in cls.task_config) == (cls is Parent)


def test_uniq_is_inherited_and_cron_is_not() -> None:
    class Parent(Runnable):
        task_config = TaskConfig(uniq=True, cron="@daily")

        def run(self, queue: Queueable) -> None: ...

    class Child(Parent):
        pass

    class Other(Child):
        task_config = TaskConfig(uniq=False, cron="@hourly")

    assert (Parent.__fang_options__.uniq, Parent.__fang_options__.cron) == (True, Cron("@daily"))
    assert (Child.__fang_options__.uniq, Child.__fang_options__.cron) == (True, None)
    assert (Other.__fang_options__.uniq, Other.__fang_options__.cron) == (False, Cron("@hourly"))


def test_of_two_parents_the_first_decides() -> None:
    class Left(Runnable):
        task_config = TaskConfig(task_type="left", max_retries=1)

    class Right(Runnable):
        task_config = TaskConfig(task_type="right", priority=2)

    class Both(Left, Right):
        def run(self, queue: Queueable) -> None: ...

    options = Both.__fang_options__
    assert options.columns == ("left", 2, 1, None, None)


@pytest.mark.parametrize("base", [Runnable, AsyncRunnable])
def test_class_keywords_are_refused(base: Any) -> None:
    with pytest.raises(DefinitionError, match=r"unknown class keyword max_retries; options go into task_config"):
        types.new_class("Task", (base,), {"max_retries": 5})


# Fields ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [Task, ClaimedTask])
def test_a_record_of_a_task_is_no_base_of_a_task_class(record: Any) -> None:
    message = (
        f"Hello derives from {record.__name__}, which is a record of a task in the database: "
        "derive a task class from Runnable, or from AsyncRunnable if its run is a coroutine"
    )
    with pytest.raises(DefinitionError) as caught:
        types.new_class("Hello", (record,))
    assert str(caught.value) == message


def test_reserved_names_of_fields_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"a task cannot have a field named type; rename it"):
        define(__annotations__={"type": str})


@pytest.mark.parametrize("name", ["run", "task_config"])
def test_fields_that_would_shadow_are_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's own, that the field shadows an attribute
        with pytest.raises(DefinitionError, match=f"field named {name}; rename it"):
            define(__annotations__={name: int}, **{name: 5} if name == "run" else {"task_config": {}})


@pytest.mark.parametrize("name", ["kind", "priority", "task_type", "max_retries", "backoff", "state", "id"])
def test_other_names_are_free(name: str) -> None:
    task = define(__annotations__={name: int})(**{name: 5})

    assert codec.decode(type(task), f'{{"{name}":5}}') == task


# run ------------------------------------------------------------------------------------------------------------------


async def of_async(self: Any, queue: Any) -> None: ...


async def of_async_generator(self: Any, queue: Any) -> Any:
    yield


def of_threads(self: Any, queue: Any) -> None: ...


def without_queue(self: Any) -> None: ...


async def async_without_queue(self: Any) -> None: ...


def of_two(self: Any, queue: Any, more: Any) -> None: ...


def by_keyword(self: Any, *, queue: Any) -> None: ...


def of_generator(self: Any, queue: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("base", "run", "message"),
    [
        (Runnable, of_async, r"^Task\.run must be a plain 'def run', or derive from AsyncRunnable$"),
        (Runnable, of_async_generator, r"must be a plain 'def run'"),
        (Runnable, of_generator, r"must not yield"),
        (AsyncRunnable, of_threads, r"^Task\.run must be 'async def run' without yield, or derive from Runnable$"),
        (AsyncRunnable, of_async_generator, r"must be 'async def run'"),
        (AsyncRunnable, of_generator, r"must be 'async def run'"),
        (
            Runnable,
            without_queue,
            r"^Task\.run must take the queue and nothing else: write 'def run\(self, queue: Queueable\) -> None'$",
        ),
        (AsyncRunnable, async_without_queue, r"else: write 'async def run\(self, queue: AsyncQueueable\) -> None'$"),
        (Runnable, of_two, r"must take the queue and nothing else"),
        (Runnable, by_keyword, r"must take the queue and nothing else"),
    ],
)
@pytest.mark.parametrize("inherited", [False, True])
def test_run_of_the_wrong_sort_is_refused(base: Any, run: Any, message: str, inherited: bool) -> None:
    bases = (type("Mixin", (), {"run": run}), base) if inherited else (base,)
    own = {} if inherited else {"run": run}

    with pytest.raises(DefinitionError, match=message):
        types.new_class("Task", bases, exec_body=lambda scope: scope.update(own))


@pytest.mark.parametrize(
    "run",
    [lambda self, queue: None, lambda *_: None, lambda self, queue=None, **_: None, staticmethod(lambda queue: None)],
    ids=["named", "any", "optional", "static"],
)
def test_run_may_take_the_queue_in_any_way(run: Any) -> None:
    assert define(run=run).__fang_insertable__


def test_no_class_is_of_both_modes() -> None:
    for run in (of_threads, of_async):
        with pytest.raises(DefinitionError, match="run must be"):
            types.new_class("Task", (Runnable, AsyncRunnable), exec_body=lambda scope, run=run: scope.update(run=run))  # type: ignore[misc]


def test_run_may_come_from_a_mixin(registry: Registry) -> None:
    class Mixin:
        def run(self, queue: Queueable) -> None: ...

    class Task(Mixin, Runnable):
        pass

    assert registry.get("Task") is Task


# What is registered ---------------------------------------------------------------------------------------------------

T = TypeVar("T")


def test_a_class_without_run_is_not_registered(registry: Registry) -> None:
    class Base(Runnable):
        n: int = 0

    class AlsoBase(Base):
        @abc.abstractmethod
        def step(self) -> None: ...

        def run(self, queue: Queueable) -> None: ...

    class Real(AlsoBase):
        def step(self) -> None: ...

    assert set(registry.runnable_kinds("threaded")) == {"Real"}
    for cls in (Base, AlsoBase):
        with pytest.raises(TypeError, match="abstract"):
            cls()  # type: ignore[abstract]


def test_a_class_of_no_mode_is_neither_registered_nor_insertable(registry: Registry) -> None:
    class Stray(BaseRunnable):
        def run(self, queue: Queueable) -> None: ...

    assert registry.version == 0
    assert not registry.runnable_kinds("threaded")
    with pytest.raises(DefinitionError, match="cannot be inserted"):
        codec.encode(Stray())


def test_generics_are_not_registered_but_what_derives_from_them_is(registry: Registry) -> None:
    class Box(Runnable, Generic[T]):
        item: T

        def run(self, queue: Queueable) -> None: ...

    class IntBox(Box[int]):
        pass

    assert set(registry.runnable_kinds("threaded")) == {"IntBox"}
    with pytest.raises(DefinitionError, match="derive a class of its own from it"):
        codec.encode(Box[int](item=1))
    with pytest.raises(DefinitionError, match="derive a class of its own from it"):
        codec.encode(Box(item=1))
    assert codec.encode(IntBox(item=1)) == '{"type":"IntBox","item":1}'


def test_each_mode_has_its_own_kinds(registry: Registry) -> None:
    class Heavy(Runnable):
        def run(self, queue: Queueable) -> None: ...

    class Light(AsyncRunnable):
        async def run(self, queue: Any) -> None: ...

    assert dict(registry.runnable_kinds("threaded")) == {"Heavy": Heavy}
    assert dict(registry.runnable_kinds("async")) == {"Light": Light}


# A schedule builds its tasks without arguments ------------------------------------------------------------------------


NAIVE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def refuse(value: Any) -> Any:
    raise ValueError(f"no {value}")


def of_a_default_that_raises() -> int:
    raise LookupError("nothing there")


@pytest.mark.parametrize(
    ("namespace", "problem"),
    [
        ({"__annotations__": {"a": int, "b": int}, "a": 1}, "field b has no default"),
        ({"__annotations__": {"a": int}, "a": Field(alias="A")}, "field A has no default"),
        (
            {"__annotations__": {"a": int}, "a": Field(default="x", validate_default=True)},
            "field a is refused by its own",
        ),
        ({"check": model_validator(mode="before")(refuse)}, "the task is refused by its own validation"),
        ({"__annotations__": {"a": int}, "a": Field(default_factory=of_a_default_that_raises)}, "raises LookupError"),
        ({"__annotations__": {"a": Any}, "a": object()}, r"Task\.a: cannot be written as JSON"),
        ({"__annotations__": {"a": datetime}, "a": NAIVE}, r"Task\.a: the datetime has no time zone"),
    ],
)
def test_a_schedule_needs_a_class_that_builds_alone(
    namespace: dict[str, Any], problem: str, registry: Registry
) -> None:
    with pytest.raises(
        DefinitionError, match=rf"^Task: cron builds the task without arguments, but .*{problem}"
    ) as caught:
        define(task_config=TaskConfig(cron="@daily"), **namespace)

    assert "\n" not in str(caught.value)
    assert registry.version == 0


def test_a_schedule_may_rely_on_defaults_of_every_sort(registry: Registry) -> None:
    class Report(AsyncRunnable):
        task_config = TaskConfig(cron=Cron("0 3 * * *", "Europe/Berlin"))
        day: datetime = Field(default_factory=lambda: datetime.now(UTC))
        size: int = 5

        async def run(self, queue: Any) -> None: ...

    assert registry.get("Report") is Report


def test_a_schedule_needs_a_class_that_can_run() -> None:
    with pytest.raises(DefinitionError, match=r"^Base: cron needs a class that can run, and is not inherited"):

        class Base(Runnable):
            task_config = TaskConfig(cron="@daily")

    with pytest.raises(DefinitionError, match=r"^Box: cron needs a class that can run"):

        class Box(Runnable, Generic[T]):
            task_config = TaskConfig(cron="@daily")
            item: T | None = None

            def run(self, queue: Queueable) -> None: ...


# Annotations that are text --------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Loads source text as a module."""

    def load(text: str) -> Any:
        loaded = types.ModuleType("tasks_of_a_test")
        monkeypatch.setitem(sys.modules, loaded.__name__, loaded)
        exec(compile(text, str(tmp_path / "tasks.py"), "exec"), loaded.__dict__)
        return loaded

    return load


FUTURE = "from __future__ import annotations\n"
BODY = """
from pydantic import BaseModel
from fang_core import Queueable, Runnable

class Order(Runnable):
    lines: "list[Line]"

    def run(self, queue: Queueable) -> None: ...

"""
LINE = """
class Line(BaseModel):
    sku: str
"""


@pytest.mark.parametrize("text", [BODY + LINE, FUTURE + BODY + LINE], ids=["quoted", "future"])
def test_forward_references_are_resolved_when_a_pool_asks(text: str, module: Any, registry: Registry) -> None:
    loaded = module(text)

    found = registry.runnable_kinds("threaded")

    assert found["Order"] is loaded.Order
    task = codec.decode(found["Order"], '{"lines":[{"sku":"a"}]}')
    assert task == loaded.Order(lines=[loaded.Line(sku="a")])


SCHEDULED = """
from pydantic import BaseModel
from fang_core import Queueable, Runnable, TaskConfig

class Order(Runnable):
    task_config = TaskConfig(cron="@daily")
    note: "str | None" = None
    lines: "list[Line]"{default}

    def run(self, queue: Queueable) -> None: ...

"""


def test_a_schedule_whose_class_has_open_references_needs_defaults(module: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^Order: cron builds .*, but field lines has no default$"):
        module(SCHEDULED.format(default="") + LINE)

    loaded = module(SCHEDULED.format(default=" = []") + LINE)
    assert loaded.Order.__fang_options__.cron == Cron("@daily")


def test_a_reference_that_leads_nowhere_is_an_error_that_names_it(module: Any, registry: Registry) -> None:
    module(FUTURE + BODY)

    with pytest.raises(DefinitionError) as caught:
        registry.runnable_kinds("threaded")

    assert str(caught.value) == "kind Order (tasks_of_a_test.Order) cannot be completed: name 'Line' is not defined"


def test_former_kinds_are_not_inherited_and_not_the_present_kind() -> None:
    class Renamed(Runnable):
        task_config = TaskConfig(kind="runnable.Renamed", former_kinds=("runnable.Old",), cron="@daily")

        def run(self, queue: Queueable) -> None: ...

    class Derived(Renamed):
        pass

    assert Renamed.__fang_options__.kinds == ("runnable.Renamed", "runnable.Old")
    assert Renamed.__fang_options__.schedule_name == "runnable.Old"
    assert Derived.__fang_options__.kinds == ("Derived",)
    assert "former_kinds" not in Derived.task_config
    with pytest.raises(DefinitionError, match="former_kinds names its present kind: remove it there"):

        class Circular(Runnable):
            task_config = TaskConfig(former_kinds=("Circular",))

            def run(self, queue: Queueable) -> None: ...

    with pytest.raises(DefinitionError, match=r"task_config\.former_kinds: .*tuple"):

        class Misspelt(Runnable):
            task_config = TaskConfig(former_kinds="runnable.Old")  # type: ignore[typeddict-item]

            def run(self, queue: Queueable) -> None: ...


def test_the_fields_of_a_unique_are_stored_ones() -> None:
    hidden = {"__annotations__": {"n": int}, "n": Field(default=0, exclude=True)}
    with pytest.raises(DefinitionError, match=r"^Task\.task_config\.uniq compares the field n, which is not stored$"):
        define(**hidden, task_config=TaskConfig(uniq=Unique(by=["n"])))
