"""What can be imported without knowing where it is defined."""

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any, get_args, get_type_hints
from uuid import UUID

import pytest

import fang_async
import fang_core
import fang_threaded
from fang_core import MemoryQueue, UsageError, errors
from fang_core.lifecycle import Result

OWN = {fang_core: set(), fang_threaded: {"Queue", "WorkerPool"}, fang_async: {"AsyncQueue", "AsyncWorkerPool"}}
MODULES = pytest.mark.parametrize("module", OWN, ids=lambda module: module.__name__)


@MODULES
def test_a_mode_offers_the_core_and_its_own(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) == set(fang_core.__all__) | OWN[module]
    assert all(getattr(module, name) is getattr(fang_core, name) for name in fang_core.__all__)
    assert set(module.__all__) <= set(dir(module))


@MODULES
def test_every_error_that_a_caller_can_meet_and_every_result_of_a_run_is_there(module: ModuleType) -> None:
    told = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert told - {"MissingExtra"} <= set(module.__all__)  # which is met where something is imported
    assert {result.__name__ for result in get_args(Result)} <= set(module.__all__)


def classes_named_by(hints: dict[str, Any]) -> set[type]:
    """The classes that annotations name, whatever they stand in."""
    left, found = list(hints.values()), set()
    while left:
        hint = left.pop()
        left += get_args(hint)
        if isinstance(hint, type):
            found.add(hint)
    return {cls for cls in found if cls.__module__.startswith("fang_")}


@MODULES
def test_what_hooks_of_events_are_given_can_be_named(module: ModuleType) -> None:
    hooks = [value for name, value in vars(fang_core.Events).items() if inspect.isfunction(value)]
    told = set().union(*(classes_named_by(get_type_hints(hook)) for hook in hooks))
    told |= set().union(*(classes_named_by(get_type_hints(cls)) for cls in told))
    assert {"Outcome", "Rescued", "ErrorReport"} <= {cls.__name__ for cls in told} <= set(module.__all__)


# Docstrings: editors and help() show that of the base class for a method that has none --------------------------------

QUEUES: dict[type, type] = {
    fang_core.AsyncQueueable: fang_core.Queueable,
    fang_core.MemoryQueue: fang_core.Queueable,
    fang_core.AsyncMemoryQueue: fang_core.Queueable,
    fang_threaded.Queue: fang_core.Queueable,
    fang_async.AsyncQueue: fang_core.Queueable,
}


def public_methods(cls: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(cls) if not name.startswith("_") and callable(value)}


@pytest.mark.parametrize("cls", [*QUEUES, fang_core.Queueable, fang_threaded.WorkerPool, fang_async.AsyncWorkerPool])
def test_every_public_method_says_what_it_does(cls: type) -> None:
    for name, method in {cls.__name__: cls, **public_methods(cls)}.items():
        text = inspect.getdoc(method)
        assert text, name
        assert not re.match(r"See |.*; see ", text), name


@pytest.mark.parametrize("name", public_methods(fang_core.Queueable))
@pytest.mark.parametrize("cls", QUEUES, ids=lambda cls: cls.__name__)
def test_the_methods_of_queues_say_what_their_protocol_says(cls: type, name: str) -> None:
    """Word for word; a queue may add to it. The text of ``Queueable`` is the one to change, and to copy."""
    wanted = (inspect.getdoc(getattr(QUEUES[cls], name)) or "").split()
    said = iter((inspect.getdoc(getattr(cls, name)) or "").split())
    assert [word for word in wanted if word not in said] == []


@MODULES
def test_what_is_public_has_a_docstring_that_says_something(module: ModuleType) -> None:
    told = {name: getattr(module, name) for name in module.__all__}
    documented = {name: value for name, value in told.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [name for name, value in documented.items() if re.match("$|See ", value.__doc__ or "")] == []


# Errors cross processes -----------------------------------------------------------------------------------------------

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "PayloadError": ("Kind", ".path", "is no good"),
    "Snooze": (timedelta(seconds=3),),
    "RetryAfter": (timedelta(seconds=3), "busy"),
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "UnreadablePayload": {"path": ".b", "reason": "missing"},
    "RowsLocked": {"written": {UUID(int=1)}, "locked": {UUID(int=2)}},
    "OutcomeUnknown": {"ids": (UUID(int=1), UUID(int=2))},
}
RAISED = [
    *(value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)),
    *(fang_core.Snooze, fang_core.Cancel, fang_core.RetryAfter),
]
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {n}": lambda error, n=n: pickle.loads(pickle.dumps(error, n))
        for n in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", RAISED, ids=lambda cls: cls.__name__)
def test_errors_are_copied_and_pickled_with_their_attributes(cls: type[Exception], way: str) -> None:
    error = cls(*ARGUMENTS.get(cls.__name__, ("text",)), **ATTRIBUTES.get(cls.__name__, {}))
    error.add_note("a note")

    again = WAYS[way](error)

    assert type(again) is cls
    assert again is not error
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert again.__notes__ == ["a note"]


# Wrong arguments are told the right ones ------------------------------------------------------------------------------

DELAY = timedelta(seconds=1)
WRONG: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: fang_core.Exponential(base=2),  # type: ignore[call-arg]
        "Exponential: got an unexpected keyword argument 'base'; "
        "its arguments are initial, factor, maximum, jitter, chance",
    ),
    (lambda: fang_core.Exponential(DELAY), "Exponential: too many positional"),  # type: ignore[misc]
    (lambda: fang_core.Linear(delay=DELAY), "its arguments are step, maximum, jitter, chance"),  # type: ignore[call-arg]
    (lambda: fang_core.Constant(seconds=1), "its arguments are delay, jitter, chance"),  # type: ignore[call-arg]
    (lambda: fang_core.Cron("@daily", timezone="UTC"), "its arguments are pattern, tz"),  # type: ignore[call-arg]
    (fang_core.Cron, "Cron: missing a required argument: 'pattern'"),  # type: ignore[call-arg]
    (lambda: fang_core.ScheduleOnce(when=1), "its arguments are at"),  # type: ignore[call-arg]
    (
        lambda: fang_core.SleepParams(step=DELAY),  # type: ignore[call-arg]
        "its arguments are min_sleep_period, max_sleep_period, sleep_step",
    ),
    (
        lambda: fang_threaded.WorkerPool(MemoryQueue(), workers=3),  # type: ignore[call-arg]
        "WorkerPool: got an unexpected keyword argument 'workers' (did you mean 'number_of_workers'?); "
        "its arguments are queue, number_of_workers, task_type, ",
    ),
    (
        lambda: fang_async.AsyncWorkerPool(fang_core.AsyncMemoryQueue(), greace_period=DELAY),  # type: ignore[call-arg]
        "AsyncWorkerPool: got an unexpected keyword argument 'greace_period' (did you mean 'grace_period'?); ",
    ),
    (
        lambda: fang_threaded.Queue("postgresql://", pool_size=3),  # type: ignore[call-arg]
        "Queue: got an unexpected keyword argument 'pool_size' (did you mean 'max_pool_size'?); ",
    ),
    (fang_async.AsyncQueue, "AsyncQueue: missing a required argument: 'database'"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize("make", [fang_threaded.Queue, fang_async.AsyncQueue])
@pytest.mark.parametrize("name", ["behind_pooler", "duplicated_tasks"])
def test_a_text_is_no_flag(make: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be True or False, not 'false'"):
        make("postgresql://", **{name: "false"})
    with pytest.raises(UsageError, match="max_pool_size must be an int, at least 1"):
        make("postgresql://", max_pool_size="3")


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_argument_is_told_the_right_ones(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(fang_core.WrongArguments, match=re.escape(message)) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)


def test_values_of_the_wrong_type_are_told_the_right_one() -> None:
    seconds: Any = 5
    for make in (
        lambda: fang_core.Exponential(initial=seconds),
        lambda: fang_core.Linear(maximum=seconds),
        lambda: fang_core.Constant(delay=seconds),
        lambda: fang_core.SleepParams(sleep_step=seconds),
    ):
        with pytest.raises(fang_core.UsageError, match="must be a timedelta, not int"):
            make()
    text: Any = "2"
    for make in (lambda: fang_core.Exponential(factor=text), lambda: fang_core.Constant(jitter=text)):
        with pytest.raises(fang_core.UsageError, match=r"between .* not '2'"):
            make()


# Checked at run time --------------------------------------------------------------------------------------------------


def test_queues_are_instances_of_their_protocols() -> None:
    threaded: list[Any] = [fang_core.MemoryQueue(), fang_threaded.Queue("postgresql://localhost/app")]
    asynchronous: list[Any] = [fang_core.AsyncMemoryQueue(), fang_async.AsyncQueue("postgresql://localhost/app")]

    assert all(isinstance(queue, fang_core.Queueable) for queue in threaded)
    assert all(isinstance(queue, fang_core.AsyncQueueable) for queue in asynchronous)
    assert not isinstance(object(), fang_core.Queueable | fang_core.AsyncQueueable)
