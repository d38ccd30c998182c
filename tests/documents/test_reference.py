"""docs/reference.md names all that there is: every option, method, hook, error, variable and exit code."""

import inspect
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_cli import commands, ending, exit_codes
from fang_cli.settings import SETTINGS
from fang_cli.supervisor.process_group import EXIT_GAVE_UP
from fang_cli.supervisor.report import PROCESS
from fang_core import (
    AsyncQueueable,
    ClaimedTask,
    Events,
    Exponential,
    InsertOptions,
    Queueable,
    RetentionMode,
    SleepParams,
    TaskConfig,
    errors,
)
from fang_core.config import EXIT_RUNS_LEFT, EXIT_STUCK
from fang_core.errors import AccessRefused, BackendError, SchemaError, UsageError
from fang_core.tasks.runnable import Options
from fang_threaded import Queue, WorkerPool

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
SECTIONS = dict(re.findall(r"^##+ (.+)\n((?:(?!##).*\n)*)", PAGE.read_text("utf-8"), re.MULTILINE))


def missing(section: str, names: Iterable[str]) -> set[str]:
    """Those that do not begin a word between backquotes in the tables of a section, or follow a dot in one."""
    rows = "".join(line for line in SECTIONS[section].splitlines(keepends=True) if line.startswith("|"))
    told = {name for quoted in re.findall(r"`([^`]+)`", rows) for name in re.findall(r"\w+", quoted)}
    assert told, f"no table in {section}"
    return set(names) - told


def arguments(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_options_of_a_task_class() -> None:
    assert missing("Options of a task class: `TaskConfig`", get_type_hints(TaskConfig)) == set()


def test_what_an_insert_takes() -> None:
    named = arguments(Queue.insert_task) - {"task", "options"}
    assert missing("Inserting", named | set(get_type_hints(InsertOptions))) == set()


@pytest.mark.parametrize("queue", [Queue, AsyncQueue])
def test_queues(queue: type) -> None:
    assert missing("Queues", arguments(queue) | public(queue)) == set()


@pytest.mark.parametrize("protocol", [Queueable, AsyncQueueable])
def test_what_the_protocols_have(protocol: type) -> None:
    assert missing("Queues", public(protocol)) == set()


@pytest.mark.parametrize("pool", [WorkerPool, AsyncWorkerPool])
def test_pools(pool: type) -> None:
    instance_attributes = {"queue", "options", "is_clean", "has_too_many_stuck"}
    assert missing("Pools", arguments(pool) | public(pool) | instance_attributes | arguments(SleepParams)) == set()


@pytest.mark.parametrize(
    ("section", "made"),
    [("Queues", Queue), ("Queues", AsyncQueue), ("Pools", WorkerPool), ("Pools", AsyncWorkerPool)],
)
def test_defaults(section: str, made: type) -> None:
    for name, parameter in inspect.signature(made).parameters.items():
        row = re.search(rf"^\| `{name}` \| (?:`([^|]*)`)?", SECTIONS[section], re.MULTILINE)
        assert row, name
        if parameter.default is inspect.Parameter.empty:
            assert row[1] is None, name
        elif row[1] is not None:
            given = eval(row[1], {"timedelta": timedelta, "RetentionMode": RetentionMode, "SleepParams": lambda: None})
            assert given == parameter.default, name
        else:
            assert parameter.default is None, name


def test_defaults_of_sleep_params() -> None:
    told = re.findall(r"`(\w+)` \((\d) s\)", SECTIONS["Pools"])
    assert SleepParams(**{name: timedelta(seconds=int(seconds)) for name, seconds in told}) == SleepParams()
    assert {name for name, _ in told} >= {"min_sleep_period", "sleep_step", "max_sleep_period"}


def test_defaults_of_a_task_class() -> None:
    defaults = Options("", TaskConfig()).config
    for name in TaskConfig.__annotations__:
        row = re.search(
            rf"^\| `{name}` \| (?:`(.*?)`)?", SECTIONS["Options of a task class: `TaskConfig`"], re.MULTILINE
        )
        assert row, name
        if row[1] is not None:
            assert eval(row[1], {"Exponential": Exponential}) == defaults.get(name), name


def test_what_a_run_can_know() -> None:
    assert (
        missing(
            "In a run", {*ClaimedTask._fields, "Snooze", "RetryAfter", "Cancel", "lease", "interrupt", "Interrupted"}
        )
        == set()
    )


def test_hooks_with_their_arguments() -> None:
    hooks = {name: hook for name, hook in vars(Events).items() if inspect.isfunction(hook)}
    signatures = {f"`{name}({', '.join(inspect.signature(hook).parameters)})`" for name, hook in hooks.items()}
    told = set(re.findall(r"^\| (`[^`]+`)", SECTIONS["Hooks: `Events`"], re.MULTILINE)) - {"hook"}
    assert {signature.replace("(self, ", "(") for signature in signatures} == told


def test_errors() -> None:
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    first_column = set(re.findall(r"^\| `(\w+)` \|", SECTIONS["Errors"], re.MULTILINE))
    assert first_column == raised - {"FangError"}


def test_what_an_error_says_of_what_was_written() -> None:
    unsure = set(re.findall(r"^\| `(\w+)` \| perhaps \|", SECTIONS["Errors"], re.MULTILINE))
    for name in ("OutcomeUnknown", "BackendUnavailable"):
        assert name in unsure
    for name, error in vars(errors).items():
        if inspect.isclass(error) and "othing was written" in (error.__doc__ or "") and name != "BackendError":
            assert name not in unsure, name


def test_commands() -> None:
    assert missing("The command", commands.fang.later) == set()


def test_variables() -> None:
    settings = {f"FANG_{name.upper()}" for name in SETTINGS}
    assert missing("Environment variables", settings | {PROCESS}) == set()


def test_exit_codes() -> None:
    """docs/commands.md has the table."""
    codes = {exit_codes.exit_code(error("")) for error in (UsageError, AccessRefused, SchemaError, BackendError)}
    codes |= {0, 1, EXIT_RUNS_LEFT, EXIT_STUCK, EXIT_GAVE_UP, ending.ENDED_BY_SIGTERM, exit_codes.INTERRUPTED}
    codes |= {exit_codes.UNREAD}
    assert codes == set(exit_codes.MEANINGS)
