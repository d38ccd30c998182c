"""Options are checked where they are made."""

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest

from fang_core import RetentionMode, SleepParams, UsageError
from fang_core.config import PoolOptions, as_task_types

SECOND = timedelta(seconds=1)


def test_defaults() -> None:
    options = PoolOptions()

    assert options.number_of_workers == 1
    assert options.task_types == ("common",)
    assert options.retention_mode is RetentionMode.REMOVE_FINISHED
    assert options.sleep_params == SleepParams()
    assert options.grace_period == 25 * SECOND
    assert (options.keep_finished, options.keep_failed) == (timedelta(days=7), None)


def test_options_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PoolOptions().number_of_workers = 2  # type: ignore[misc]


@pytest.mark.parametrize("number", [1, 2, 10_000])
def test_good_numbers_of_workers(number: int) -> None:
    assert PoolOptions(number_of_workers=number).number_of_workers == number


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number_of_workers": 0}, "number_of_workers must be between 1 and 10000, not 0"),
        ({"number_of_workers": 10_001}, "not 10001"),
        ({"number_of_workers": "4"}, "not '4'"),
        ({"number_of_workers": 1.5}, "not 1.5"),
        ({"number_of_workers": True}, "not True"),
        ({"retention_mode": "keep_all"}, "retention_mode must be a RetentionMode, not 'keep_all'"),
        ({"grace_period": -SECOND}, "grace_period must be between"),
        ({"grace_period": None}, "grace_period must be a timedelta, not NoneType"),
        ({"grace_period": timedelta.max}, "grace_period must be between"),
        ({"keep_finished": -SECOND}, "keep_finished must be between"),
        ({"keep_finished": 7}, "keep_finished must be a timedelta, not int"),
        ({"keep_failed": timedelta.max}, "keep_failed must be between"),
        ({"stuck_after": None}, "stuck_after must be a timedelta, not NoneType"),
        ({"listen": "no"}, "listen must be True or False, not 'no'"),
        ({"log_tracebacks": 1}, "log_tracebacks must be True or False, not 1"),
        ({"isolate_suspects": None}, "isolate_suspects must be True or False, not None"),
        ({"max_stuck": -1}, "max_stuck must be None, or an int from 0 up, not -1"),
        ({"max_stuck": True}, "max_stuck must be None, or an int from 0 up, not True"),
    ],
)
def test_what_a_pool_cannot_use_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PoolOptions(**options)


@pytest.mark.parametrize("zero", ["grace_period", "keep_finished", "keep_failed"])
def test_zero_periods_are_good(zero: str) -> None:
    assert getattr(PoolOptions(**{zero: timedelta(0)}), zero) == timedelta(0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "params",
    [
        {"min_sleep_period": timedelta(0)},
        {"min_sleep_period": -SECOND},
        {"min_sleep_period": 6 * SECOND},
        {"max_sleep_period": SECOND / 2},
        {"max_sleep_period": timedelta.max},
        {"sleep_step": -SECOND},
    ],
)
def test_what_sleep_params_cannot_hold_is_refused(params: dict[str, timedelta]) -> None:
    with pytest.raises(UsageError, match="SleepParams"):
        SleepParams(**params)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("heavy", ("heavy",)),
        (["b", "a", "b", "c", "a"], ("b", "a", "c")),
        (("a",), ("a",)),
        ({"a": 1, "b": 2}, ("a", "b")),
    ],
)
def test_task_types(given: Any, names: tuple[str, ...]) -> None:
    assert as_task_types(given) == names


@pytest.mark.parametrize(
    "given", ["", [], [""], ["a", ""], ["a", 1], ["a", None], "a\0b", ["a", "b\0"], "\ud800", None, 1, [["a"]]]
)
def test_what_is_no_task_type_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="task_type"):
        as_task_types(given)
