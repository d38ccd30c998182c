"""How tests are divided between `make test` and `make faults`."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests.by_turns import PLACES, mark_long


class Item:
    """A test as pytest collects it."""

    def __init__(self, nodeid: str, *marks: str) -> None:
        self.nodeid = nodeid
        self.marks = set(marks)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.add(mark.name)


def long(*items: Item) -> list[str]:
    mark_long(cast(list[Any], items))
    return [item.nodeid for item in items if "long" in item.marks]


def in_both_modes(count: int, place: str = "tests/isolation/test_x.py", *marks: str) -> list[Item]:
    return [Item(f"{place}::test[{mode}-{n}]", *marks) for mode in ("threaded", "async") for n in range(count)]


def test_each_test_is_long_in_one_mode_and_each_mode_has_its_share() -> None:
    found = long(*in_both_modes(100))
    assert len(found) == len({name.partition("-")[2] for name in found}) == 100
    assert 30 < sum("threaded" in name for name in found) < 70


def test_what_else_is_collected_changes_nothing() -> None:
    found = long(*in_both_modes(100))
    assert [name for name in found if "-7]" in name] == long(*in_both_modes(8)[7::8])


def test_one_that_is_collected_in_one_mode_stays() -> None:
    assert long(*(item for item in in_both_modes(100) if "async" in item.nodeid)) == []


@pytest.mark.parametrize(
    "items",
    [in_both_modes(9, marks) for marks in ("tests/core/test_x.py", "tests/threaded/test_worker.py")]
    + [in_both_modes(9, "tests/isolation/test_x.py", "both_modes")]
    + [[Item(f"tests/conformance/test_pools.py::test[memory-{mode}]") for mode in ("threaded", "async")]],
    ids=["the core", "one mode", "marked", "in memory"],
)
def test_the_rest_stays_in_both_modes(items: list[Item]) -> None:
    assert long(*items) == []


def test_each_place_is_there() -> None:
    assert [place for place in PLACES if not (Path(__file__).parents[1] / place.partition("::")[0]).exists()] == []
