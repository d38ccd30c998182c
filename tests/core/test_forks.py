"""What a fork means for what is registered, and for what is under way; no process is forked here."""

import gc
from typing import Any

import pytest

from fang_core.interpreter import forks
from fang_core.interpreter.forks import ForkWatch, in_child


class Equal:
    """Equals every other one, and has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this process is severed."""
    monkeypatch.setattr(forks, "_OWNERS", {})
    monkeypatch.setattr(forks, "_COUNTS", {"begun": 0, "ended": 0})


def test_owners_are_told_apart_by_identity() -> None:
    told: list[int] = []
    owners = [Equal(), Equal()]
    for owner in owners:
        in_child(owner, lambda owner: told.append(id(owner)))
    forks._forked()
    assert told == [id(owner) for owner in owners]


def test_an_owner_that_is_gone_is_forgotten() -> None:
    told: list[Any] = []
    owner = Equal()
    in_child(owner, told.append)
    del owner
    gc.collect()
    forks._forked()
    assert (told, forks._OWNERS) == ([], {})


def test_one_that_fails_does_not_keep_the_others_from_their_turn() -> None:
    def fail(_: Any) -> None:
        raise RuntimeError

    told: list[Any] = []
    owners = [Equal(), Equal()]
    in_child(owners[0], fail)
    in_child(owners[1], told.append)
    forks._forked()
    assert told == [owners[1]]


def test_a_fork_is_seen_whose_beginning_or_end_lies_in_between() -> None:
    quiet = ForkWatch()
    assert not quiet.has_forked()
    forks._count("begun")
    assert quiet.has_forked()
    within = ForkWatch()  # made while other Python code runs, between the two
    forks._count("ended")
    assert within.has_forked()
    assert not ForkWatch().has_forked()


def test_a_child_does_not_wait_for_the_end_of_its_parents_forks() -> None:
    forks._count("begun")
    forks._forked()
    assert not ForkWatch().has_forked()
