"""Task -> JSON text: what could not come out does not go in."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import math
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import pytest
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from fang_core import DefinitionError, TaskConfig, UsageError
from fang_core.tasks.payloads.codec import MAX_DEPTH, encode
from tests.core.tasks.encoding import SECRET, Step, refused, there_and_back
from tests.core.tasks.test_codec import Mark

# Refused on the way in ------------------------------------------------------------------------------------------------


class Inner(BaseModel):
    """A plain model, with pydantic's own configuration."""

    text: str = ""
    real: float = 0.0
    money: Decimal = Decimal(0)
    when: datetime | None = None
    more: list["Inner"] = []


class Holder(Step):
    task_config = TaskConfig(kind="codec.Holder")
    text: str = ""
    real: float = 0.0
    whole: int = 0
    when: datetime | None = None
    any: Any = None
    names: dict[str, Any] = {}
    inner: Inner = Inner()
    inners: list[Inner] = []
    mark: Mark = Mark("", datetime(2024, 1, 1, tzinfo=UTC))
    place: Path = Path("/")


NUL = f"{SECRET}\0"
LONE = f"{SECRET}\ud800"
NAIVE = datetime(2024, 2, 29, 12)  # noqa: DTZ001
BAD_TEXTS = [(NUL, "contains NUL"), (LONE, "lone surrogate at position 6")]


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None


@pytest.mark.parametrize(("bad", "message"), BAD_TEXTS, ids=["NUL", "lone surrogate"])
def test_text_that_cannot_be_stored(bad: str, message: str) -> None:
    assigned = Holder()
    assigned.text = bad
    nested = Holder(inners=[Inner(), Inner(more=[Inner()])])
    nested.inners[1].more[0].text = bad

    refused(Holder(text=bad), ".text", message)
    refused(assigned, ".text", message)
    refused(nested, ".inners[1].more[0].text", message)
    refused(Holder(any=bad), ".any", message)
    refused(Holder(any=["x", {"y": (bad,)}]), ".any[1]['y'][0]", message)
    refused(Holder(names={"x": {"y": bad}}), ".names['x']['y']", message)
    assigned.text = ""
    assigned.mark.label = bad
    refused(assigned, ".mark.label", message)


def test_keys_that_cannot_be_stored() -> None:
    refused(Holder(any={"a\0": 1}), r".any[key 'a\x00']", "contains NUL")
    refused(Holder(any={"a\udc80": 1}), r".any[key 'a\udc80']", "lone surrogate")
    refused(Holder(names={"a\0": 1}), r".names[key 'a\x00']", "contains NUL")


def test_text_in_types_that_nobody_looks_into() -> None:
    class Opaque:
        pass

    class Wrapping(Step):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        task_config = TaskConfig(kind="codec.Wrapping")
        item: Annotated[Any, PlainSerializer(lambda _: NUL)] = None

    refused(Holder(place=Path("a\0b")), ".place", "contains NUL")
    refused(Wrapping(item=Opaque()), ".item", "contains NUL")


def test_text_that_only_looks_like_it_is_good() -> None:
    for text in ("\\u0000", "NaN", "-Infinity", "2024-02-29T12:00:00", '"type":'):
        task = Holder(text=text, any=text, names={text: text})
        assert there_and_back(task) == task


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_in_json(bad: float) -> None:
    assigned = Holder()
    assigned.real = bad

    refused(assigned, ".real", "is not JSON")
    refused(Holder(any=[bad]), ".any[0]", "is not JSON")
    refused(Holder(inner=Inner(real=bad)), ".inner.real", "is not JSON")
    refused(Holder(inners=[Inner(more=[Inner(real=bad)])]), ".inners[0].more[0].real", "is not JSON")
    refused(Holder(any=Decimal(bad)), ".any", "is not JSON")
    with pytest.raises(ValueError, match="finite number"):
        Holder(real=bad)


def test_datetimes_without_a_zone() -> None:
    refused(Holder(when=NAIVE), ".when", "has no time zone")
    refused(Holder(when=NAIVE.replace(microsecond=5)), ".when", "has no time zone")
    refused(Holder(when=NAIVE.replace(tzinfo=NoOffset())), ".when", "has no time zone")
    refused(Holder(any={"x": [NAIVE]}), ".any['x'][0]", "has no time zone")
    refused(Holder(inners=[Inner(), Inner(when=NAIVE)]), ".inners[1].when", "has no time zone")
    refused(Holder(mark=Mark("", NAIVE)), ".mark.at", "has no time zone")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_depth() -> None:
    task = Holder(any=nested(MAX_DEPTH - 5))
    assert there_and_back(task) == task

    path = (".any" + "[0]" * 100)[:60] + "..."
    for levels in (MAX_DEPTH + 1, 250, 3_000, 100_000):
        deep = Holder()
        deep.any = nested(levels)
        refused(deep, path, f"is nested deeper than {MAX_DEPTH} levels")


def test_cycles() -> None:
    endless: list[Any] = ["x"]
    endless.append({"again": endless})
    task = Holder()
    task.any = endless
    inner = Inner()
    inner.more.append(inner)
    looped = Holder()
    looped.inner = inner

    refused(task, ".any[1]['again']", "refers to itself")
    refused(looped, ".inner.more[0]", "refers to itself")


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = [1, 2]
    task = Holder(any=[shared, shared, NUL.replace("\0", "NaN")])

    assert there_and_back(task) == task


def test_huge_integers() -> None:
    largest = Holder(whole=10**4298, any=-(10**4298))  # some versions of pydantic count the sign
    assert there_and_back(largest) == largest

    refused(Holder(any=10**5000), ".any", "more than 4300 digits")
    assigned = Holder()
    assigned.whole = -(10**5000)
    refused(assigned, ".whole", "more than 4300 digits")


@pytest.mark.parametrize("text", ["x" * 90, "ä" * 45, "語" * 30])
def test_the_size_is_counted_in_bytes(text: str) -> None:
    class Sized(Step):
        task_config = TaskConfig(kind="codec.Sized")
        t: str

    encode(Sized(t=text), max_bytes=100)
    refused(Sized(t=text + "abc"), "", "the payload is larger than 100 bytes; store it elsewhere", max_bytes=100)


def test_a_megabyte_is_the_limit_unless_told_otherwise() -> None:
    encode(Holder(any="x" * 999_000))
    refused(Holder(any="x" * 1_000_001), "", "the payload is larger than 1000000 bytes")


@pytest.mark.parametrize(
    ("name", "value"), [("whole", SECRET), ("text", 5), ("names", [SECRET]), ("place", 5), ("inner", {"text": SECRET})]
)
def test_a_wrong_type_by_assignment(name: str, value: Any) -> None:
    task = Holder()
    setattr(task, name, value)

    refused(task, f".{name}", "cannot be written as JSON")


def test_a_wrong_type_by_assignment_further_down() -> None:
    task = Holder()
    task.inner.real = SECRET  # type: ignore[assignment]
    other = Holder(names={"x": 1})
    other.inners = [SECRET]  # type: ignore[list-item]

    refused(task, ".inner.real", "cannot be written as JSON: a value is not of the declared type")
    refused(other, ".inners", "cannot be written as JSON: a value is not of the declared type")


def test_what_is_no_json() -> None:
    refused(Holder(any=[object()]), ".any", "Unable to serialize unknown type: <class 'object'>")
    refused(Holder(any={object}), ".any", "cannot be written as JSON")


def test_a_missing_field() -> None:
    class Needy(Step):
        task_config = TaskConfig(kind="codec.Needy")
        n: int

    refused(Needy.model_construct(), ".n", "cannot be read back by a worker: Field required")


def test_what_a_worker_could_not_read_back() -> None:
    class OneWay(Step):
        task_config = TaskConfig(kind="codec.OneWay")
        n: int = 5

        @field_serializer("n")
        def other(self, n: int) -> str:
            return SECRET

    refused(OneWay(), ".n", "cannot be read back by a worker: Input should be a valid integer")


@pytest.mark.parametrize("error", [KeyError(SECRET), ValueError(SECRET), ValueError(""), RuntimeError(f"{SECRET}\nx")])
def test_serializers_and_validators_that_raise(error: Exception) -> None:
    class Writing(Step):
        task_config = TaskConfig(kind="codec.Writing")
        n: int = 5

        @field_serializer("n")
        def write(self, n: int) -> int:
            raise error

    class Reading(Step):
        task_config = TaskConfig(kind="codec.Reading")
        n: int = 5

        @field_validator("n")
        @classmethod
        def read(cls, n: int) -> int:
            raise error

    refused(Writing(), ".n", f"Error calling function `write`: {type(error).__name__}")
    known = isinstance(error, ValueError)
    refused(Reading(), ".n" if known else "", "refused by a validator" if known else "a validator raised")


def test_a_model_that_is_written_as_something_else() -> None:
    class Textual(Step):
        task_config = TaskConfig(kind="codec.Textual")
        n: int = 5

        @model_serializer
        def write(self) -> str:
            return str(self.n)

        @model_validator(mode="before")
        @classmethod
        def read(cls, value: Any) -> Any:
            return {"n": int(value)} if isinstance(value, str) else value

    class Renaming(Step):
        task_config = TaskConfig(kind="codec.Renaming")
        n: int = 5

        @model_serializer
        def write(self) -> dict[str, Any]:
            return {"type": "else", "n": self.n}

    class Open(Step):
        model_config = ConfigDict(extra="allow")
        task_config = TaskConfig(kind="codec.OpenToo")

    refused(Textual(), "", "does not serialize to a JSON object")
    refused(Renaming(), ".type", "this key holds the kind")
    refused(Open(type="else"), ".type", "this key holds the kind")  # type: ignore[call-arg]


# Read back, and not what it was ---------------------------------------------------------------------------------------


class Shape(BaseModel):
    name: str = "shape"


class Circle(Shape):
    radius: int = 1


class Named(Shape):
    """Nothing more to store."""


class Login(BaseModel):
    password: SecretStr = SecretStr("")


class Keeper(Step):
    token: SecretStr = SecretStr("")
    key: SecretBytes = SecretBytes(b"")
    pin: Secret[int] | None = None
    logins: list[Login] = []
    shape: Shape = Shape()
    any_shape: SerializeAsAny[Shape] = Shape()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (".token", {"token": SECRET}),
        (".logins[1].password", {"logins": [Login(), Login(password=SecretStr(SECRET))]}),
    ],
)
def test_a_secret_that_would_become_asterisks(path: str, fields: dict[str, Any]) -> None:
    refused(Keeper(**fields), path, "a secret is written as asterisks: store a key to it")


def test_secrets_whose_asterisks_are_not_even_read_back() -> None:
    refused(Keeper(pin=Secret[int](7)), ".pin", "cannot be read back by a worker")
    refused(Keeper(key=SECRET.encode()), ".key", "cannot be read back by a worker")  # type: ignore[arg-type]


def test_an_empty_secret_and_one_with_a_serializer_are_kept() -> None:
    class Told(Step):
        token: Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
        stars: str = "**********"

    assert there_and_back(Keeper()) == Keeper()
    task = Told(token=SecretStr(SECRET))
    assert there_and_back(task) == task


def test_a_subclass_whose_fields_would_be_dropped() -> None:
    message = "holds a Circle, of which only what a Shape has is kept"
    refused(Keeper(shape=Circle()), ".shape", message)
    refused(Keeper(any_shape=Circle()), ".any_shape", message)  # written, and not read


def test_a_subclass_that_has_no_more_to_store_or_is_declared_is_kept() -> None:
    class Both(Step):
        shape: Circle | Shape

    assert there_and_back(Keeper(shape=Named(name="mine"))) == Keeper(shape=Shape(name="mine"))
    assert there_and_back(Both(shape=Circle(radius=7))) == Both(shape=Circle(radius=7))


def test_values_that_compare_in_their_own_way() -> None:
    class Incomparable:
        def __init__(self, text: str) -> None:
            self.text = text

        def __eq__(self, other: object) -> bool:
            raise TypeError("compared")

        __hash__ = None  # type: ignore[assignment]

    class Odd(Step):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        odd: Annotated[
            Incomparable,
            PlainSerializer(lambda odd: odd.text, return_type=str),
            BeforeValidator(lambda text: text if isinstance(text, Incomparable) else Incomparable(text)),
        ]
        loose: Any = None

    task = there_and_back(Odd(odd=Incomparable("x"), loose=(1, {2: 3})))
    assert isinstance(task, Odd)
    assert (task.odd.text, task.loose) == ("x", [1, {"2": 3}])


# What is no task ------------------------------------------------------------------------------------------------------

T = TypeVar("T")


class Box(Step, Generic[T]):
    item: T


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Holder, "Holder is a class: insert an instance of it"),
        (Inner(), "Inner is not a task: derive it from Runnable or AsyncRunnable"),
        (Inner, "type is not a task|ModelMetaclass is not a task"),
        ({"n": 1}, "dict is not a task: derive it from"),
        (None, "NoneType is not a task"),
    ],
    ids=repr,
)
def test_what_is_no_task_is_refused_with_what_to_do(thing: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(thing)


def test_a_generic_is_refused_with_what_to_do() -> None:
    for task in (Box(item=1), Box[int](item=1)):
        with pytest.raises(DefinitionError, match="cannot be inserted: derive a class of its own from it, with run"):
            encode(task)
