"""Task <-> JSON text: what goes in comes out."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import enum
import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from fang_core import TaskConfig
from fang_core.tasks.payloads.codec import decode, encode
from tests.core.tasks.encoding import Step, there_and_back
from tests.examples import as_often

# Round trips ----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: float


class Address(BaseModel):
    city: str = Field(alias="City", default="")
    zip_code: str | None = None


class Row(TypedDict):
    name: str
    size: int


@dataclass
class Mark:
    label: str
    at: datetime


class Cat(BaseModel):
    sort: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    sort: Literal["dog"] = "dog"
    name: str


class Everything(Step):
    task_config = TaskConfig(kind="codec.Everything")

    whole: int = 0
    real: float = 0.0
    text: str = ""
    flag: bool = False
    blob: bytes = b""
    money: Decimal = Decimal(0)
    when: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    day: date = date(2024, 1, 1)
    clock: time = time(12)
    span: timedelta = timedelta(0)
    key: UUID = UUID(int=0)
    colour: Colour = Colour.RED
    place: Path = Path("/")
    numbers: set[int] = set()
    frozen: frozenset[str] = frozenset()
    pair: tuple[int, str] = (0, "")
    many: tuple[float, ...] = ()
    queue: deque[int] = deque()
    point: Point = Point(0, 0.0)
    either: int | str | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="sort")] = Cat(lives=9)
    address: Address = Address()
    addresses: list[Address] = []
    by_name: dict[str, list[int]] = {}
    by_number: dict[int, UUID] = {}
    row: Row = Row(name="", size=0)
    mark: Mark = Mark("", datetime(2024, 1, 1, tzinfo=UTC))
    named: int = Field(default=0, alias="aliasOfNamed")
    both: int = Field(default=0, validation_alias="in", serialization_alias="out")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.whole * 2


class Forbidding(Everything):
    model_config = ConfigDict(extra="forbid")
    task_config = TaskConfig(kind="codec.Forbidding")


class Strict(Everything):
    model_config = ConfigDict(strict=True, extra="forbid")
    task_config = TaskConfig(kind="codec.Strict")


class ByName(Everything):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True, extra="ignore")
    task_config = TaskConfig(kind="codec.ByName")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
reals = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)  # no -0.0: a known limit
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=offsets | st.just(UTC))  # noqa: DTZ001
wholes = st.integers() | st.integers(-(10**4000), 10**4000)
addresses = st.builds(lambda city, code: Address(City=city, zip_code=code), texts, st.none() | texts)
values: dict[str, st.SearchStrategy[Any]] = {
    "whole": wholes,
    "real": reals,
    "text": texts,
    "flag": st.booleans(),
    "blob": st.binary(max_size=20),
    "money": st.decimals(allow_nan=False, allow_infinity=False),
    "when": times,
    "day": st.dates(),
    "clock": st.times(),
    "span": st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
    "key": st.uuids(),
    "colour": st.sampled_from(Colour),
    "place": texts.map(Path),
    "numbers": st.sets(st.integers(), max_size=5),
    "frozen": st.frozensets(texts, max_size=5),
    "pair": st.tuples(st.integers(), texts),
    "many": st.lists(reals, max_size=5).map(tuple),
    "queue": st.lists(st.integers(), max_size=5).map(deque),
    "point": st.builds(Point, st.integers(), reals),
    "either": st.none() | st.integers() | texts,
    "pet": st.builds(Cat, lives=st.integers()) | st.builds(Dog, name=texts),
    "address": addresses,
    "addresses": st.lists(addresses, max_size=3),
    "by_name": st.dictionaries(texts, st.lists(st.integers(), max_size=3), max_size=3),
    "by_number": st.dictionaries(st.integers(), st.uuids(), max_size=3),
    "row": st.builds(Row, name=texts, size=st.integers()),
    "mark": st.builds(Mark, texts, times),
    "aliasOfNamed": st.integers(),
    "in": st.integers(),
}
fields = st.fixed_dictionaries({}, optional=values)


@as_often(0.8)
@pytest.mark.parametrize("cls", [Everything, Forbidding, Strict, ByName])
@given(fields)
def test_what_goes_in_comes_out(cls: type[Everything], given: dict[str, Any]) -> None:
    task = cls(**given)

    assert there_and_back(task) == task
    assert json.loads(encode(task))["type"] == cls.__fang_options__.kind


def test_extra_fields_that_are_allowed_come_out_too() -> None:
    class Open(Step):
        model_config = ConfigDict(extra="allow")
        task_config = TaskConfig(kind="codec.Open")

    task = Open(a=1, b=["x", {"y": None}])  # type: ignore[call-arg]

    assert there_and_back(task) == task


def test_the_text_of_a_row() -> None:
    class Bare(Step):
        task_config = TaskConfig(kind='codec."Bäre"')

    class Full(Step):
        task_config = TaskConfig(kind="codec.Full")
        n: int = Field(default=1, alias="number")
        s: str = "ä"

    assert encode(Bare()) == '{"type":"codec.\\"Bäre\\""}'
    assert encode(Full()) == '{"type":"codec.Full","n":1,"s":"ä"}'
    assert decode(Bare, "{}") == Bare()


def test_fields_called_type_further_down_are_free() -> None:
    class Typed(Step):
        task_config = TaskConfig(kind="codec.Typed")
        inner: dict[str, Any] = {"type": "x"}
        kind_of: str = Field(default="y", alias="type")

    assert there_and_back(Typed()) == Typed()
