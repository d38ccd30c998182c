"""What a process does with a caller's connection while another of its threads imports the library of another kind."""

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import fang_async.caller_connection
import fang_sqlite.aio.callers
import fang_sqlite.connections.callers
import fang_threaded.caller_connection
from fang_core.errors import UsageError
from fang_core.interpreter.imported import is_of
from fang_threaded import Queue

MODULES = ("sqlalchemy.orm", "sqlalchemy.ext.asyncio", "psycopg2.extensions", "aiosqlite")


@pytest.fixture(autouse=True)
def _half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first statement of each module finds it."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.mark.parametrize(
    "adapt",
    [
        fang_threaded.caller_connection.adapt,
        fang_async.caller_connection.adapt,
        fang_sqlite.connections.callers.is_in_transaction,
        lambda connection: asyncio.run(fang_sqlite.aio.callers.is_in_transaction(connection)),
    ],
)
def test_an_object_is_refused_as_what_it_is(adapt: Callable[[Any], object]) -> None:
    with pytest.raises(UsageError, match=r"^connection= takes .*, not "):
        adapt(object())


def test_a_queue_opens_by_its_url() -> None:
    Queue("postgresql://localhost/app").close()


def test_an_object_is_of_a_class_once_the_module_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_of(3, "sqlalchemy.orm", "Session")
    monkeypatch.setattr(sys.modules["sqlalchemy.orm"], "Session", int, raising=False)
    assert is_of(3, "sqlalchemy.orm", "Session")
    assert not is_of("3", "sqlalchemy.orm", "Session")
    assert not is_of(3, "fang_test_no_module", "Session")
