"""What can be imported without knowing where it is defined."""

import inspect
from types import ModuleType
from typing import get_args

import pytest

import fang_async
import fang_core
import fang_threaded
from fang_core import errors
from fang_core.lifecycle import Result

OWN = {fang_core: set(), fang_threaded: {"Queue", "WorkerPool"}, fang_async: {"AsyncQueue", "AsyncWorkerPool"}}
MODULES = pytest.mark.parametrize("module", OWN, ids=lambda module: module.__name__)


@MODULES
def test_a_mode_offers_the_core_and_its_own(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) == set(fang_core.__all__) | OWN[module]
    assert all(getattr(module, name) is getattr(fang_core, name) for name in fang_core.__all__)


@MODULES
def test_every_error_that_a_caller_can_meet_and_every_result_of_a_run_is_there(module: ModuleType) -> None:
    told = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert told - {"MissingExtra"} <= set(module.__all__)  # which is met where the module itself cannot be imported
    assert {result.__name__ for result in get_args(Result)} <= set(module.__all__)
