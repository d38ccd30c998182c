"""What was inserted can be looked at on every backend, in the caller's open transaction too."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fang_core import UsageError
from fang_core.conformance import Backend
from fang_core.testing import (
    assert_inserted,
    assert_inserted_async,
    inserted,
    inserted_async,
    refute_inserted,
    refute_inserted_async,
)


def functions(backend: Backend) -> list[Callable[..., Any]]:
    """``inserted``, ``assert_inserted`` and ``refute_inserted`` of the backend's mode, with its queue."""

    def with_queue(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **fields: backend.call(function, backend.queue, *args, **fields)

    sync, asynchronous = (
        (inserted, assert_inserted, refute_inserted),
        (inserted_async, assert_inserted_async, refute_inserted_async),
    )
    return [with_queue(function) for function in (sync if backend.mode == "threaded" else asynchronous)]


def test_they_are_found_in_the_order_of_their_insertion(backend: Backend) -> None:
    find, first, refute = functions(backend)
    rows = backend.insert_many([backend.note(text=text) for text in "cab"])
    backend.insert(backend.foreign_note(text="a"))
    found = find(backend.note)
    assert [task.text for task, _ in found] == ["c", "a", "b"]
    assert [row for _, row in found] == rows
    assert first(backend.note, text="a") == (backend.note(text="a"), rows[1])
    refute(backend.note, text="d")
    refute(backend.unique_note)


def test_what_was_inserted_under_a_former_kind_is_found(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    find, first, refute = functions(backend)
    options = backend.note.__fang_options__
    with monkeypatch.context() as release:
        release.setattr(options, "kind", options.former_kinds[0])
        former = backend.insert(backend.note(text="a"))
    latter = backend.insert(backend.note(text="b"))
    assert [row for _, row in find(backend.note)] == [former, latter]
    assert first(backend.note, text="a").row == former
    with pytest.raises(AssertionError, match="but these were inserted:"):
        refute(backend.note, text="a")


def test_what_is_missed_is_told_with_what_is_there(backend: Backend) -> None:
    _, first, refute = functions(backend)
    with pytest.raises(AssertionError, match=r"the queue holds nothing$"):
        first(backend.note)
    backend.insert(backend.note(text="a"))
    with pytest.raises(AssertionError, match=r"nearest first:\n  text='a'$"):
        first(backend.note, text="b")
    with pytest.raises(AssertionError, match="but these were inserted:"):
        refute(backend.note, text="a")
    kind = backend.note.__fang_options__.kind
    with pytest.raises(AssertionError, match=f"the queue holds 1 {kind}$"):
        first(backend.unique_note)
    with pytest.raises(UsageError, match="has no field txt"):
        refute(backend.note, txt="a")


def test_an_open_transaction_is_looked_into(backend: Backend) -> None:
    backend.needs("transactions")
    _, first, refute = functions(backend)
    with backend.rolled_back() as connection:
        task = backend.insert(backend.note(text="a"), connection=connection)
        assert first(backend.note, text="a", connection=connection).row == task
        refute(backend.note)
        with pytest.raises(AssertionError, match="the queue holds 1 "):
            first(backend.unique_note, connection=connection)
    refute(backend.note)


def test_the_wrong_colour_says_which_one_is_right(backend: Backend) -> None:
    if backend.mode == "threaded":
        with pytest.raises(UsageError, match=r"is threaded: call inserted\("):
            asyncio.run(inserted_async(backend.queue, backend.note))
    elif backend.capabilities.outlives_processes:  # what lies in this process can be read without waiting
        with pytest.raises(UsageError, match="is asyncio: await inserted_async"):
            inserted(backend.queue, backend.note)
