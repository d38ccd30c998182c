"""What a worker would read otherwise than it was given is refused, with the path to it; what JSON keeps is not."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import enum
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from itertools import count
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    JsonValue,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    SkipValidation,
    Tag,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from fang_core import PayloadError, Queueable, Runnable, TaskConfig
from fang_core.tasks.payloads.codec import decode, encode
from fang_core.tasks.payloads.reading import reader_of
from tests.core.tasks.encoding import payload

PRAGUE = ZoneInfo("Europe/Prague")
KEY = UUID(int=7)
VALIDATORS = "would be read back as another value: validators run again"
SERIALIZER = "would be read back as another value, as both are written in the same way: have a serializer write"


NUMBERS = count()
# Written like times by ser_json_temporal="seconds"; pydantic takes those that are far away for milliseconds.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = Annotated[
    datetime,
    PlainSerializer(lambda at: (at.replace(tzinfo=UTC) - EPOCH - at.utcoffset()).total_seconds()),
]


class Step(Runnable):
    task_config = TaskConfig(kind="changes.Step")
    model_config = ConfigDict(arbitrary_types_allowed=True)

    def run(self, queue: Queueable) -> None: ...


def holding(declared: Any, value: Any, **config: Any) -> Step:
    """A task with one field, ``x``, of this type."""
    cls = create_model("changes.Holding", __base__=Step, x=(declared, ...))
    return cls(x=value)


def read_back(task: Step) -> Any:
    return decode(type(task), payload(encode(task)))


def refused(task: Step, path: str, why: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(why)) as caught:
        encode(task)
    assert caught.value.path == path


class Colour(enum.StrEnum):
    RED = "red"


class Digit(enum.Enum):
    NUMBER = 1
    TEXT = "1"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: Any = None


class Row(TypedDict, total=False):
    size: float


class Named(BaseModel):
    name: str = ""


class Priced(Named):
    """A subclass with no field more."""


class Other(BaseModel):
    name: str = ""


class Doubling(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def double(cls, n: int) -> int:
        return 2 * n


class Written(BaseModel):
    n: int

    @field_serializer("n")
    def marked(self, n: int) -> str:
        return f"#{n}"


class Rounded(BaseModel):
    n: float
    doubled: int

    @field_serializer("n")
    def round(self, n: float) -> float:
        return round(n, 1)

    @field_validator("doubled")
    @classmethod
    def double(cls, doubled: int) -> int:
        return 2 * doubled


class SameId(BaseModel):
    """Equal by id, as entities are."""

    id: int
    note: str = Field(default="", exclude=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameId) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]


@pydantic_dataclass
class Sparse:
    size: int = Field(default=5, exclude_if=lambda size: size == 0)
    note: str = Field(default="", exclude=True)


class SparseModel(BaseModel):
    size: int = Field(default=5, exclude_if=lambda size: size == 0)


@dataclass
class Seeded:
    a: int
    by: InitVar[int] = 5

    def __post_init__(self, by: int) -> None:
        self.seed = by


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


@dataclass
class Crate(Generic[T]):
    item: T


class Pair(NamedTuple, Generic[T]):
    one: T
    two: str = ""


class Marking(BaseModel):
    item: float


def first_of(union: Any) -> Any:
    return Annotated[union, Field(union_mode="left_to_right")]


NumberByTag = Annotated[
    Annotated[float, Tag("real")] | Annotated[int, Tag("whole")],
    Discriminator(lambda value: "real" if isinstance(value, float) else "whole"),
]


class Roots(RootModel[list[Any]]):
    pass


class DoublingRoot(RootModel[Annotated[int, AfterValidator(lambda n: 2 * n)]]):
    pass


@dataclass
class Marked:
    a: int
    b: int = field(init=False, default=7)


@dataclass
class Uncompared:
    a: int
    b: Annotated[int, AfterValidator(lambda n: n + 1)] = field(compare=False, default=0)


@dataclass(eq=False)
class Identical:
    a: Annotated[int, AfterValidator(lambda n: n + 1)]


class Opaque:
    """A type of the application's that says nothing about equality."""

    def __init__(self, text: str) -> None:
        self.text = text


@pydantic_dataclass(config=ConfigDict(extra="allow"))
class Open:
    a: int

    @cached_property
    def twice(self) -> int:
        return 2 * self.a


def opened(**extras: Any) -> Open:
    value = Open(a=1, **extras)
    assert value.twice == 2
    return value


class OpenRow(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    a: int


class Texts(RootModel[list[str]]):
    pass


class Numbers(RootModel[list[int]]):
    pass


@dataclass
class Remarked(Marked):
    """A subclass with no field more."""


def marked(b: int) -> Marked:
    value = Marked(1)
    value.b = b
    return value


Declared = Annotated[
    Opaque,
    PlainSerializer(lambda value: value.text, return_type=str),
    BeforeValidator(lambda value: value if isinstance(value, Opaque) else Opaque(value)),
]
Random = Annotated[int, AfterValidator(lambda _: next(NUMBERS))]

CHANGES: list[tuple[Any, Any, str, str]] = [
    # Validators that are not idempotent, wherever they stand
    (Annotated[int, AfterValidator(lambda n: n + 1)], 1, "", VALIDATORS),
    (Annotated[str, BeforeValidator(lambda text: f"{text}!")], "a", "", VALIDATORS),
    (list[Annotated[int, AfterValidator(lambda n: n + 1)]], [1, 2], "[0]", VALIDATORS),
    (dict[str, Doubling], {"a": Doubling(n=1)}, "['a'].n", VALIDATORS),
    (dict[Annotated[str, AfterValidator(lambda key: f"{key}!")], int], {"a": 1}, "[key 'a!']", VALIDATORS),
    (Doubling | None, Doubling(n=1), ".n", VALIDATORS),
    (tuple[int, Doubling], (1, Doubling(n=1)), "[1].n", VALIDATORS),
    (Annotated[list[int], AfterValidator(lambda items: [*items, 0])], [1], "", VALIDATORS),
    (Annotated[list[int], AfterValidator(lambda items: [n + 1 for n in items])], [1], "[0]", VALIDATORS),
    (set[Annotated[int, AfterValidator(lambda n: n + 1)]], {1}, "", VALIDATORS),
    (DoublingRoot, DoublingRoot(1), "", VALIDATORS),
    (Random, 0, "", VALIDATORS),
    (Uncompared, Uncompared(1, 2), ".b", VALIDATORS),
    (Identical, Identical(1), ".a", VALIDATORS),
    (dict[Digit, int], {Digit.NUMBER: 1}, "[key <Digit.NUMBER: 1>]", SERIALIZER),
    # Not written, or not read
    (SameId, SameId(id=1, note="mine"), ".note", "is not written (exclude=True)"),
    (list[SameId], [SameId(id=1), SameId(id=2, note="mine")], "[1].note", "is not written (exclude=True)"),
    (Any, SameId(id=1, note="mine"), ".note", "is not written (exclude=True)"),
    (Sparse, Sparse(note="mine"), ".note", "is not written (exclude=True)"),
    (list[Any], [Sparse(note="mine")], "[0].note", "is not written (exclude=True)"),
    (Sparse, Sparse(size=0), ".size", "is not written (exclude_if)"),
    (dict[str, Any], {"a": SparseModel(size=0)}, "['a'].size", "is not written (exclude_if)"),
    (Marked, marked(9), ".b", "is not read back, as it is set with init=False"),
    (Iterable[int], [1, 2], "", "is an iterator, which can be read only once: declare a list"),
    # Unions whose types JSON does not tell apart
    (str | date, date(2024, 1, 1), "", "is of type date and would be read back as str: name date first"),
    (date | str, "2024-01-01", "", "is of type str and would be read back as date"),
    (UUID | str, str(KEY), "", "is of type str and would be read back as UUID"),
    (str | bytes, b"ab", "", "is of type bytes and would be read back as str"),
    (str | Path, Path("a"), "", "is of type PosixPath and would be read back as str: name PosixPath first"),
    (Path | PurePosixPath, PurePosixPath("a"), "", "is of type PurePosixPath and would be read back as PosixPath"),
    (list[PurePosixPath | Path], [Path("a")], "[0]", "is of type PosixPath and would be read back as PurePosixPath"),
    (list[Path] | list[PurePath], [PurePosixPath("a")], "[0]", "is of type PurePosixPath and would be read back as"),
    (str | Decimal, Decimal(1), "", "is of type Decimal and would be read back as str"),
    (str | Colour, Colour.RED, "", "is of type Colour and would be read back as str"),
    (list[str | Colour], ["red", Colour.RED], "[1]", "is of type Colour and would be read back as str"),
    (int | float, 1e16, "", "is of type float and would be read back as int"),
    (dict[str, int | float], {"2e16": -1.5e300}, "['2e16']", "is of type float and would be read back as int"),
    (int | Level, Level.LOW, "", "is of type Level and would be read back as int"),
    (dict[str, int | Level | None], {"a": Level.LOW}, "['a']", "is of type Level and would be read back as int"),
    (dict[str | int, int], {1: 1}, "[key 1]", "is of type int and would be read back as str"),
    (list[int] | tuple[int, ...], (1, 2), "", "is of type tuple and would be read back as list"),
    (list[int] | set[int], {1, 2}, "", "is of type set and would be read back as list"),
    (set[int] | frozenset[int], frozenset({1}), "", "is of type frozenset and would be read back as set"),
    (list[frozenset[int] | set[int]], [{1}], "[0]", "is of type set and would be read back as frozenset"),
    (Named | Other, Other(name="a"), "", "Other and would be read back as Named: give the models of the union a field"),
    (Named | Priced, Priced(name="a"), "", "is of type Priced and would be read back as Named"),
    (list[Marked | Remarked | None], [Remarked(1)], "[0]", "is of type Remarked and would be read back as Marked"),
    (list[Texts | Numbers], [Numbers([])], "[0]", "is of type Numbers and would be read back as Texts: name Numbers"),
    (set[UUID | str], {KEY, str(UUID(int=2))}, "", "is of type str and would be read back as UUID"),
    (set[Decimal | Level], {Level.LOW}, "", "is of type Level and would be read back as Decimal"),
    (list[frozenset[str | Colour]], [frozenset({"a", Colour.RED})], "[0]", "is of type Colour and would be read back"),
    # Unions of containers and generic types whose parts are equal, but of other types
    (dict[str, float] | dict[str, int], {"a": 1}, "['a']", "is of type int and would be read back as float: name int"),
    (dict[float, int] | dict[int, int], {1: 1}, "[key 1]", "is of type int and would be read back as float"),
    (list[dict[str, float | None]] | list[dict[str, int]], [{"a": 1}], "[0]['a']", "is of type int and would be read"),
    (frozenset[Decimal] | frozenset[int], frozenset({1}), "", "is of type int and would be read back as Decimal"),
    (Mapping[str, float] | dict[str, int], {"a": 1}, "['a']", "is of type int and would be read back as float"),
    (tuple[str, set[float]] | tuple[str, set[int]], ("a", {1}), "[1]", "is of type int and would be read back"),
    (defaultdict[str, int] | dict[str, int], {"a": 1}, "", "is of type dict and would be read back as defaultdict"),
    (list[Named] | list[Priced], [Priced(name="a")], "[0]", "is of type Priced and would be read back as Named"),
    (Box[float] | Box[int], Box[int](item=1), "", "is of type Box[int] and would be read back as Box[float]"),
    (Box[Any] | Box[int], Box[int](item=1), "", "is of type Box[int] and would be read back as Box[Any]"),
    (Crate[Decimal] | Crate[int], Crate(1), ".item", "is of type int and would be read back as Decimal"),
    (Pair[float] | Pair[int], Pair(1), "[0]", "is of type int and would be read back as float"),
    (first_of(set[int] | tuple[float, float]), (1e300, 1.0), "", "is of type tuple and would be read back as set"),
    (first_of(Box[int] | Marking), Marking(item=1e16), "", "is of type Marking and would be read back as Box[int]"),
    (NumberByTag, 1e16, "", "is of type float and would be read back as int"),
    # Unions of a type and an untyped one
    (Any | Decimal, Decimal(1), "", "is of type Decimal and would be read back as str: name Decimal first"),
    (dict[str, JsonValue | datetime], {"a": datetime(2024, 1, 1, tzinfo=UTC)}, "['a']", "is of type datetime and"),
    (list[Any] | list[UUID], [KEY], "[0]", "is of type UUID and would be read back as str: name UUID first"),
    (UUID | Any, str(KEY), "", "is of type str and would be read back as UUID: declare one of them"),
    (Named | JsonValue, {"name": "a"}, "", "is of type dict and would be read back as Named: declare one of them"),
    # What equality does not look at
    (Seeded, Seeded(1, 6), ".seed", "would be read back as another value, as an InitVar is not written"),
    (Open, opened(b=2), ".b", "is an extra field of a dataclass, which pydantic does not write"),
    (list[Open | None], [opened(), opened(b=2)], "[1].b", "is an extra field of a dataclass"),
    (dict[str, Any], {"a": opened(b=2)}, "['a'].b", "is an extra field of a dataclass"),
    (OpenRow, {"a": 1, "b": SecretStr("a")}, "['b']", "a secret is written as asterisks"),
    (deque[int], deque([1], maxlen=2), "", "is a deque with a maxlen, which is not written"),
    (dict[str, list[deque[int]]], {"a": [deque([1], maxlen=2)]}, "['a'][0]", "is a deque with a maxlen"),
    (defaultdict[str, int], defaultdict(lambda: 5, a=1), "", "is a defaultdict whose default_factory is not written"),
    (list[defaultdict[str, int]], [defaultdict(None, a=1)], "[0]", "is a defaultdict whose default_factory is not"),
    (defaultdict[str, int], defaultdict(lambda: 1 // 0), "", "is a defaultdict whose default_factory is not written"),
    # What text cannot say
    (time, time(12, 4, tzinfo=PRAGUE), "", "is a time whose zone is not written"),
    (time | None, time(12, 4, tzinfo=PRAGUE), "", "is a time whose zone is not written"),
    (list[time], [time(1), time(12, 4, tzinfo=PRAGUE)], "[1]", "is a time whose zone is not written"),
    (re.Pattern[str], re.compile("a", re.IGNORECASE), "", "is a pattern whose flags are not written"),
    (datetime, datetime(1800, 1, 1, tzinfo=PRAGUE), "", "is a datetime whose offset from UTC has seconds"),
    (time, time(12, tzinfo=timezone(timedelta(seconds=30))), "", "is a time whose offset from UTC has seconds"),
    (OrderedDict[str, int], OrderedDict(b=1, a=2), "", "Postgres keeps no order of keys"),
    (Annotated[float, Field(allow_inf_nan=True)], float("nan"), "", "nan is not JSON"),
    # Lost, though no type is declared
    (Any, {1: "a", "1": "b"}, "[key 1]", "is written like another key"),
    (dict[Any, int], {1: 1, "1": 2}, "[key 1]", "is written like another key"),
    (list[Any], [{"a": {True: 1, "true": 2}}], "[0]['a'][True]", "is not read back"),
    (Any, SecretStr("a"), "", "a secret is written as asterisks"),
    (dict[str, Any], {"a": [SecretStr("a")]}, "['a'][0]", "a secret is written as asterisks"),
    (Any, [time(1, tzinfo=PRAGUE)], "[0]", "is a time whose zone is not written"),
    (Any, datetime(1800, 1, 1, tzinfo=PRAGUE), "", "is a datetime whose offset from UTC has seconds"),
    (dict[str, Any], {"a": re.compile("a", re.IGNORECASE)}, "['a']", "is a pattern whose flags are not written"),
    # Changed by a validator once more, though no type is declared
    (Annotated[Any, AfterValidator(lambda n: 2 * n)], 1, "", VALIDATORS),
    (Annotated[Any, AfterValidator(lambda items: items[1:])], [1, 2, 3], "", VALIDATORS),
    (Annotated[Any, AfterValidator(lambda items: (items,))], 1, "[0]", VALIDATORS),
    (Annotated[Any, AfterValidator(lambda n: Decimal(n) + 1)], 1, "", VALIDATORS),
    (Annotated[Any, AfterValidator(lambda given: Named(name=f"{given}"))], "a", ".name", VALIDATORS),
    (Annotated[object, BeforeValidator(lambda given: {"given": given})], 1, "['given']", VALIDATORS),
    (
        Annotated[dict[str, Any], AfterValidator(lambda row: {key: row[key] * 2 for key in row})],
        {"a": 1},
        "['a']",
        VALIDATORS,
    ),
    (
        Annotated[dict[Any, Any], AfterValidator(lambda row: {f"x{key}": row[key] for key in row})],
        {"a": 1},
        "[key 'xa']",
        VALIDATORS,
    ),
    (Annotated[Any, PlainSerializer(str)], 1, "", SERIALIZER),
    (Annotated[float, PlainSerializer(round)], 1.5, "", SERIALIZER),
    (list[Annotated[float, PlainSerializer(round)]], [1.0, 1.5], "[1]", SERIALIZER),
    (Annotated[list[int], PlainSerializer(lambda items: items[:1])], [1, 2], "", SERIALIZER),
    (Rounded, Rounded(n=1.25, doubled=1), ".n", SERIALIZER),
    (dict[str, Rounded], {"a": Rounded(n=1, doubled=1)}, "['a'].doubled", VALIDATORS),
    # Of a declared type, though not checked
    (SkipValidation[date], date(2024, 1, 1), "", "is of type date and would be read back as str"),
    (list[SkipValidation[Named]], [Named()], "[0]", "is of type Named and would be read back as dict"),
    # Outside of all times that can be compared in UTC
    (SECONDS, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), "", VALIDATORS),
]


def named(value: object) -> str:
    """Its repr without addresses, and with the items of a set in order: xdist's processes must give a test one name."""
    text = re.sub(r" at 0x[0-9a-f]+", "", f"{value!a}")
    return re.sub(r"{([^{}]*)}", lambda items: f"{{{', '.join(sorted(items[1].split(', ')))}}}", text)[:50]


@pytest.mark.parametrize(("declared", "value", "path", "why"), CHANGES, ids=named)
def test_what_would_come_back_as_something_else_is_refused(declared: Any, value: Any, path: str, why: str) -> None:
    task = holding(declared, value)

    refused(task, f".x{path}", why)


KEPT: list[tuple[Any, Any]] = [
    (int | str, 1),
    (int | str, "1"),
    (int | float, 1),
    (int | float, 1.0),
    (int | float, 1.5e-300),
    (str | Colour | int | float, 'a 1e16 \\" 2E5, '),
    (float | time, 1e300),
    (bool | int, 1),
    (str | UUID, KEY),
    (date | str, date(2024, 1, 1)),
    (bool | int, True),
    (float | None, 1.5),
    (Colour | None, Colour.RED),
    (Colour | int, Colour.RED),
    (UUID | int, KEY),
    (UUID | date | None, KEY),
    (Path | None, Path("a")),
    (Path | PurePosixPath | PureWindowsPath, Path("a")),
    (PurePath, PurePosixPath("a")),
    (Literal[1, "a"], "a"),
    (datetime, datetime(2024, 10, 27, 2, 30, tzinfo=PRAGUE, fold=1)),
    (datetime, datetime(2024, 3, 31, 2, 30, tzinfo=PRAGUE)),
    (datetime, datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone(timedelta(minutes=-330)))),
    (time, time(12, 4)),
    (time, time(12, 4, 5, 6, tzinfo=UTC)),
    (time, time(12, 4, tzinfo=timezone(timedelta(hours=2)))),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (timedelta, timedelta(days=400_000, microseconds=999_999)),
    (Decimal, Decimal("1.10")),
    (float, 1e300),
    (float, 5e-324),
    (bytes, bytes(range(256))),
    (frozenset[Colour], frozenset({Colour.RED})),
    (set[int | float], {1.5, 2}),
    (dict[Digit, Digit], {Digit.TEXT: Digit.NUMBER}),
    (Point, Point(1, "a")),
    (tuple[int, ...], (1, 2)),
    (deque[int], deque([1, 2])),
    (defaultdict[str, list[int]], defaultdict(list, a=[1])),
    (defaultdict[str, int], defaultdict(lambda: 0, a=1)),
    (defaultdict[str, Annotated[int, Field(default_factory=lambda: 5)]], defaultdict(lambda: 5, a=1)),
    (Annotated[deque[int], AfterValidator(lambda items: deque(items, maxlen=2))], deque([1])),
    (Annotated[Colour | str, Field(union_mode="left_to_right")], Colour.RED),
    (Named | Priced, Named(name="a")),
    (Mapping[str, int], {"a": 1}),
    (OrderedDict[str, int], OrderedDict(a=1, bb=2)),
    (dict[int, int], {1: 2}),
    (dict[UUID, Point], {KEY: Point(1)}),
    (Row, {"size": 1.0}),
    (re.Pattern[str], re.compile("a")),
    (Json[list[int]], "[1, 2]"),
    (Roots, Roots([1, {"a": None}])),
    (Marked, Marked(1)),
    (Open, opened()),
    (list[Texts | Numbers], [Texts([]), Numbers([1])]),
    (dict[str, float] | dict[str, str], {"a": 1.0}),
    (list[int] | list[float], [1.0]),
    (list[Any] | list[int], [1]),
    (Box[int] | Box[float], Box[float](item=1.5)),
    (dict[str, str] | Row, {"size": 1.0}),
    (NumberByTag, 1.5),
    (first_of(Box[int] | Marking), Marking(item=1.5)),
    (int | Any, "1"),
    (Seeded, Seeded(1)),
    (Uncompared | None, None),
    (SameId, SameId(id=1)),
    (Sparse, Sparse(size=3)),
    (Named | Doubling, Named(name="a")),
    (Annotated[Named | int, Field(union_mode="left_to_right")], 1),
    (Annotated[str, AfterValidator(str.strip)], "a"),
    (Annotated[str, AfterValidator(str.lower), Field(max_length=3)], "abc"),
    (Annotated[Any, AfterValidator(lambda given: Decimal(given) / 1)], "1.5"),
    (Annotated[Any, AfterValidator(tuple)], [1, "a"]),
    (Annotated[Any, AfterValidator(lambda row: dict(sorted(row.items(), reverse=True)))], {"a": 1, "b": [2]}),
    (SkipValidation[list[int]], [1]),
]


@pytest.mark.parametrize(("declared", "value"), KEPT, ids=named)
def test_what_comes_back_as_it_was_is_kept(declared: Any, value: Any) -> None:
    task = holding(declared, value)

    came: Any = read_back(task).x
    given: Any = task.x  # type: ignore[attr-defined]
    if isinstance(given, datetime):
        given, came = given.astimezone(UTC), came.astimezone(UTC)
    assert came == given
    assert type(came) is type(given)


UNTYPED = [
    (SameId(id=1), {"id": 1}),
    (SparseModel(), {"size": 5}),
    ((1, 2), [1, 2]),
    ({3}, [3]),
    (b"ab", "YWI="),
    (KEY, str(KEY)),
    (Decimal("1.10"), "1.10"),
    (Path("a"), "a"),
    (Colour.RED, "red"),
    (Level.LOW, 1),
    (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
    (date(2024, 1, 1), "2024-01-01"),
    (timedelta(minutes=1), "PT1M"),
    ({1: 2}, {"1": 2}),
    (Named(name="a"), {"name": "a"}),
    (Marked(1), {"a": 1, "b": 7}),
    (Point(1, (2,)), [1, [2]]),
    ([True, 1, 1.0, None, "a"], [True, 1, 1.0, None, "a"]),
    (Roots([(1,)]), [[1]]),
    (Written(n=1), {"n": "#1"}),
    ([date(2024, 1, 1), {1: {UUID(int=7)}}], ["2024-01-01", {"1": [str(KEY)]}]),
]


@pytest.mark.parametrize(("value", "came"), UNTYPED, ids=named)
def test_untyped_fields_come_back_as_json(value: Any, came: Any) -> None:
    open_to_all = create_model("changes.Open", __base__=Step, __config__=None)
    open_to_all.model_config["extra"] = "allow"
    open_to_all.model_rebuild(force=True)

    assert repr(read_back(holding(Any, value)).x) == repr(came)
    assert repr(read_back(holding(dict[str, Any], {"a": value})).x) == repr({"a": came})
    assert repr(read_back(holding(object, value)).x) == repr(came)
    assert repr(read_back(open_to_all(x=value)).x) == repr(came)


def test_more_than_a_typed_dict_declares_comes_back_as_json() -> None:
    assert read_back(holding(OpenRow, {"a": 1, "b": (date(2024, 1, 1),)})).x == {"a": 1, "b": ["2024-01-01"]}


class Whole(Step):
    """Values of near types, as defaults often are: no validator sees those."""

    task_config = TaskConfig(kind="changes.Whole")
    real: float = 30
    whole: int = True
    text: str = Colour.RED
    named: Named = Priced(name="a")
    pair: tuple[int, Any] = Point(1, 2)
    items: Sequence[int] = ()
    money: Decimal | None = Decimal(1)
    counted: Counter[str] = Counter(a=1)


def test_numbers_of_many_digits() -> None:
    number = 10**4000
    task = holding(list[int | float], [number, 0.5] * 20 + [1e16])

    refused(task, ".x[40]", "is of type float and would be read back as int")
    assert read_back(holding(list[int | float | str], [number] * 100 + ["1e5"])).x[0] == number


def test_values_of_near_types_are_kept() -> None:
    read = read_back(Whole())

    assert repr(read) == (
        "Whole(real=30.0, whole=1, text='red', named=Named(name='a'), pair=(1, 2), items=[], money=Decimal('1'), "
        "counted=Counter({'a': 1}))"
    )
    assert read_back(Whole(items=(1, 2))).items == [1, 2]


def test_values_of_other_types_are_refused() -> None:
    task = Whole()
    task.named = Other(name="a")  # type: ignore[assignment]
    refused(task, ".named", "is of type Other and would be read back as Named: give it as Named")
    place = holding(Path, Path("a"))
    place.x = "a"  # type: ignore[attr-defined]
    refused(place, ".x", "is of type str and would be read back as PosixPath: give it as PosixPath")


def test_a_type_that_says_nothing_about_equality_is_taken_at_its_serializers_word() -> None:
    assert read_back(holding(Declared, Opaque("a"))).x.text == "a"
    assert read_back(holding(Declared | None, None)).x is None


def test_what_a_validator_changes_in_extra_fields_is_seen() -> None:
    class Noted(Step):
        task_config = TaskConfig(kind="changes.Noted")
        model_config = ConfigDict(extra="allow")

        @model_validator(mode="after")
        def add(self) -> "Noted":
            self.__pydantic_extra__ = {name: f"{text}!" for name, text in (self.__pydantic_extra__ or {}).items()}
            return self

    refused(Noted(note="a"), ".note", VALIDATORS)  # type: ignore[call-arg]


def test_what_a_validator_of_the_whole_adds_is_seen() -> None:
    class Period(Step):
        task_config = TaskConfig(kind="changes.Period")
        days: int
        total: int = 0

        @model_validator(mode="after")
        def add(self) -> "Period":
            self.__dict__["total"] = self.total + self.days
            return self

    class Initialised(Step):
        task_config = TaskConfig(kind="changes.Initialised")
        n: int

        def __init__(self, **fields: Any) -> None:
            super().__init__(n=2 * fields["n"])

    class After(Step):
        task_config = TaskConfig(kind="changes.After")
        n: int

        def model_post_init(self, context: Any, /) -> None:
            self.__dict__["n"] += 1

    refused(Period(days=3), ".total", VALIDATORS)
    refused(Initialised(n=1), ".n", VALIDATORS)
    refused(After(n=1), ".n", VALIDATORS)


def test_private_attributes_and_what_is_cached_are_not_kept() -> None:
    class Working(Step):
        task_config = TaskConfig(kind="changes.Working")
        n: int = 1
        inner: SerializeAsAny[Named] = Named()
        made: list[int] = Field(default_factory=lambda: [next(NUMBERS)])
        _seen: int = PrivateAttr(0)

        @cached_property
        def twice(self) -> int:
            return 2 * self.n

    task = Working()
    task._seen = 5
    assert task.twice == 2
    read = read_back(task)

    assert (read._seen, read.made, read.__dict__.get("twice")) == (0, task.made, None)


class Tree(BaseModel):
    value: str | Colour = ""
    time_of_day: time | None = None
    children: list["Tree"] = []


def test_what_is_declared_is_found_in_generic_and_recursive_models() -> None:
    refused(holding(Box[str | bytes], Box[str | bytes](item=b"a")), ".x.item", "is of type bytes")
    refused(holding(Tree, Tree(children=[Tree(), Tree(value=Colour.RED)])), ".x.children[1].value", "is of type Colour")
    assert read_back(holding(Box[Any], Box[Any](item=(1,)))).x == Box[Any](item=[1])
    assert read_back(holding(Tree, Tree(children=[Tree(value="b")]))).x.children[0].value == "b"


def test_only_classes_that_can_hide_a_change_are_looked_through_at_every_insert() -> None:
    def hides(declared: Any) -> bool:
        cls = create_model("changes.Asked", __base__=Step, x=(declared, ...))
        return reader_of(cls).hints.hides_changes

    plain = [int, str | None, Path, list[UUID], dict[str, Any], Named, int | str, str | UUID, Box[datetime], Row, Point]
    assert not any(map(hides, plain))
    hiding: list[Any] = [time, int | float, str | Colour, list[SameId], Uncompared, Tree, Literal[1, True]]
    hiding += [OrderedDict[str, int], deque[int], defaultdict[str, int], set[int] | frozenset[int]]
    hiding += [Path | PurePosixPath, list[int] | list[str], Box[int] | Box[float], NumberByTag, Seeded]
    assert all(map(hides, hiding))
