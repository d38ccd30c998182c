"""Forms of task classes: which fields they have, and that what is typed becomes the payload that was meant."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict

from fang_core.masking.masks import HIDDEN, Masks
from fang_core.masking.secret_names import secret_names
from fang_core.tasks.payloads import codec
from fang_core.tasks.runnable import BaseRunnable, Runnable, TaskConfig
from fang_web.errors import TooLarge
from fang_web.forms import Field as Shown
from fang_web.forms import PayloadForm


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    street: str
    zip: int = Field(5, ge=1)
    note: str | None = None


class Person(BaseModel):
    name: str = "nobody"
    home: Address
    spare: Address | None = None


class Tree(BaseModel):
    value: int
    children: "list[Tree]" = []


@dataclass
class Point:
    x: float
    y: float | None = None


class Wide(Runnable):
    """Everything that a form has a control for."""

    task_config = TaskConfig(kind="form-wide")

    text: str
    empty: str | None = None
    code: Annotated[str, StringConstraints(max_length=8)] = "abc"
    count: int = 1
    ratio: float = 0.5
    maybe: float | None = 1.5
    flag: bool = False
    perhaps: bool | None = None
    word: Literal["x", "y", ""] = "x"
    level: Level = Level.LOW
    day: date | None = None
    at: datetime = datetime(2026, 11, 29, tzinfo=UTC)
    span: timedelta = timedelta(seconds=90)
    price: Decimal = Decimal("1.50")
    ident: UUID = UUID(int=7)
    data: bytes = b"\x00\xff"
    home: Address
    spare: Address | None = None
    people: list[Person] = Field([])
    tags: list[str] = Field(["a"])
    maybes: list[int | None] = Field([])
    numbers: set[int] = Field(set())
    pair: tuple[int, str] = (1, "a")
    union: int | str | list[int] = 1
    table: dict[str, int] = Field({})
    anything: Any = None
    tree: Tree | None = None
    point: Point = Point(1.0)

    def run(self, queue: object) -> None: ...


def payload_of(task: BaseRunnable) -> dict[str, Any]:
    return {key: value for key, value in json.loads(codec.encode(task)).items() if key != "type"}


def sent(controls: dict[str, str], shown: Shown) -> dict[str, str]:
    """Returns what a browser sends of a page that shows these fields: only what the page has controls for."""
    out: dict[str, str] = {}

    def walk(field: Shown) -> None:
        out.update(field.hidden)
        if field.empty:
            out[field.name + "~empty"] = "1"
        if field.given:
            out[field.name + "~given"] = field.chosen
        if field.removed:
            out[field.name + "~remove"] = "1"
        if field.control in ("line", "area", "json", "secret", "choice"):
            assert field.control != "choice" or field.text in {choice.text for choice in field.choices}
            assert field.control not in ("line", "secret", "choice") or "\n" not in field.text
            out[field.name] = field.text.replace("\n", "\r\n")
        for each in field.fields:
            walk(each)

    walk(shown)
    return out


def through_a_browser(cls: type[BaseRunnable], payload: dict[str, Any]) -> BaseRunnable:
    form = PayloadForm(cls)
    controls = form.of_stored(payload)
    filled = form.filled(sent(controls, form.fields(controls)), payload)
    assert filled.errors == {}
    assert filled.task is not None
    return filled.task


def field(shown: Shown, name: str) -> Shown:
    """Returns the field of this name."""
    return next(found for found in fields_of(shown) if found.name == name)


def fields_of(shown: Shown) -> list[Shown]:
    return [shown, *(inner for each in shown.fields for inner in fields_of(each))]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["", " ", "\n", "\nx", "a\r\nb", "null", "true", "1", '"', "~json", "\x0b", "\ufeff"]
)
finite = st.floats(allow_nan=False, allow_infinity=False)
addresses = st.builds(Address, street=texts, zip=st.integers(min_value=1), note=st.none() | texts)
people = st.builds(Person, name=texts, home=addresses, spare=st.none() | addresses)
trees = st.recursive(
    st.builds(Tree, value=st.integers()),
    lambda inner: st.builds(Tree, value=st.integers(), children=st.lists(inner, max_size=2)),
    max_leaves=4,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
wide = st.builds(
    Wide,
    text=texts,
    empty=st.none() | texts,
    code=texts.filter(lambda text: len(text) <= 8),
    count=st.integers(-(10**30), 10**30),
    ratio=finite,
    maybe=st.none() | finite,
    flag=st.booleans(),
    perhaps=st.none() | st.booleans(),
    word=st.sampled_from(["x", "y", ""]),
    level=st.sampled_from(Level),
    day=st.none() | st.dates(),
    at=st.datetimes(timezones=st.just(UTC)),
    span=st.timedeltas(timedelta(days=-9), timedelta(days=9)),
    price=st.decimals(-1000, 1000, places=3),
    ident=st.uuids(),
    data=st.binary(max_size=8),
    home=addresses,
    spare=st.none() | addresses,
    people=st.lists(people, max_size=3),
    tags=st.lists(texts, max_size=3),
    maybes=st.lists(st.none() | st.integers(), max_size=3),
    numbers=st.sets(st.integers(), max_size=3),
    pair=st.tuples(st.integers(), texts),
    union=st.integers() | texts | st.lists(st.integers(), max_size=2),
    table=st.dictionaries(texts, st.integers(), max_size=2),
    anything=json_values,
    tree=st.none() | trees,
    point=st.builds(Point, x=finite, y=st.none() | finite),
)


@given(wide)
def test_a_payload_that_is_shown_and_sent_again_is_the_same(task: Wide) -> None:
    again = payload_of(through_a_browser(Wide, payload_of(task)))
    assert again | {"numbers": sorted(again["numbers"])} == payload_of(task) | {"numbers": sorted(task.numbers)}


@given(st.dictionaries(st.sampled_from(list(Wide.model_fields)), json_values))
def test_a_payload_that_does_not_fit_its_class_is_shown_as_it_is(payload: dict[str, Any]) -> None:
    """It was inserted by other code; its fields are JSON then, and pydantic says what is wrong with them."""
    form = PayloadForm(Wide)
    controls = form.of_stored(payload)
    filled = form.filled(sent(controls, form.fields(controls)), payload)
    if filled.task is not None:
        assert payload_of(filled.task) == payload_of(Wide.model_validate_json(json.dumps(payload)))
    else:
        names = {each.name for each in fields_of(form.fields(controls))}
        assert set(filled.errors) <= names


@given(st.dictionaries(st.text("payload.people01~jsongivenrowremovekeptemptyothers ", max_size=30), texts, max_size=20))
def test_whatever_is_sent_is_read(controls: dict[str, str]) -> None:
    form = PayloadForm(Wide)
    filled = form.filled(controls)
    form.fields(controls, filled.errors)
    assert (filled.task is None) != (filled.errors == {})


def test_a_new_task_shows_the_defaults() -> None:
    form = PayloadForm(Wide)
    controls = form.of_new()
    assert controls["payload.code"] == "abc"
    typed = sent(controls, form.fields(controls)) | {"payload.text": "t", "payload.home.street": "s"}
    assert form.filled(typed).task == Wide(text="t", home=Address(street="s"))


def test_errors_stand_beside_their_fields() -> None:
    form = PayloadForm(Wide)
    typed = {
        "payload.text": "",
        "payload.count": "many",
        "payload.level": "3",
        "payload.day": "yesterday",
        "payload.home.street": "s",
        "payload.home.zip": "0",
        "payload.people.0~remove": "1",
        "payload.people.0.name": "gone",
        "payload.people.7.name": "x",
        "payload.table": "{,}",
    }
    assert set(form.filled(typed).errors) == {"payload.table"}  # what cannot be read comes first
    del typed["payload.table"]
    errors = form.filled(typed).errors
    assert set(errors) == {
        "payload.text",
        "payload.count",
        "payload.level",
        "payload.day",
        "payload.home.zip",
        "payload.people.7.home.street",
    }
    shown = form.fields(typed, errors)
    assert field(shown, "payload.count").text == "many"
    assert "integer" in field(shown, "payload.count").errors[0]


class Strict(Runnable):
    model_config = ConfigDict(strict=True, extra="allow")
    task_config = TaskConfig(kind="form-strict")

    count: int
    on: bool
    day: date
    level: Level
    price: Decimal
    tags: set[str] = Field(set())

    def run(self, queue: object) -> None: ...


def test_a_strict_model_takes_what_is_typed_and_keeps_its_other_keys() -> None:
    typed = {
        "payload.count": " 5 ",
        "payload.on": "true",
        "payload.day": "2026-11-29",
        "payload.level": "2",
        "payload.price": "1.5",
        "payload.tags.0": "a",
        "payload~others": '{"more": [1]}',
    }
    task = PayloadForm(Strict).filled(typed).task
    assert isinstance(task, Strict)
    assert (task.count, task.level, task.price, task.tags) == (5, Level.HIGH, Decimal("1.5"), {"a"})
    assert payload_of(through_a_browser(Strict, payload_of(task)))["more"] == [1]
    taken = PayloadForm(Strict).filled(typed | {"payload~others": '{"count": 1}'})
    assert taken.errors == {"payload~others": ["count has a field of its own"]}


class Account(BaseModel):
    user: str
    token: SecretStr | None = None

    @field_serializer("token")
    def written(self, value: SecretStr | None) -> str | None:
        return None if value is None else value.get_secret_value()


class Secretive(Runnable):
    task_config = TaskConfig(kind="form-secretive")

    pin: str = ""
    main: Account
    accounts: list[Account] = Field([])
    deep: "Vault | None" = None
    free: dict[str, Any] = Field({})

    @field_validator("main")
    @classmethod
    def checked(cls, value: Account) -> Account:
        if value.user == "bad":
            raise ValueError(f"the token is {value.token.get_secret_value() if value.token else None}")
        return value

    def run(self, queue: object) -> None: ...


class Vault(BaseModel):
    account: Account
    inner: "Vault | None" = None


STORED: dict[str, Any] = {
    "pin": "s3cret-1",
    "main": {"user": "a", "token": "s3cret-2"},
    "accounts": [{"user": "b", "token": "s3cret-3"}, {"user": "c", "token": "s3cret-4"}],
    "deep": {
        "account": {"user": "d", "token": "s3cret-5"},
        "inner": {"account": {"user": "e", "token": "s3cret-6"}, "inner": None},
    },
    "free": {"x": {"token": "s3cret-7"}, "y": 1},
}


def test_secrets_are_never_shown_and_stay_unless_another_is_typed() -> None:
    form = PayloadForm(Secretive, frozenset({"pin"}))
    controls = form.of_stored(STORED)
    shown = form.fields(controls)
    assert "s3cret" not in repr((controls, shown))
    typed = sent(controls, shown)
    unchanged = form.filled(typed, STORED)
    assert unchanged.task is not None
    assert payload_of(unchanged.task) == STORED
    changed = typed | {"payload.main.token": "s3cret-8", "payload.accounts.0~remove": "1"}
    task = form.filled(changed, STORED).task
    assert task is not None
    assert payload_of(task) == STORED | {
        "main": {"user": "a", "token": "s3cret-8"},
        "accounts": [STORED["accounts"][1]],
    }
    assert "s3cret" not in repr(form.fields(changed, {}))


class Token(SecretStr):
    pass


class Typed(TypedDict):
    typed: SecretStr


class Named(NamedTuple):
    token: SecretStr
    number: int


class Numbers(RootModel[list[Secret[int]]]):
    pass


class First(BaseModel):
    sort: Literal["first"]
    of_first: SecretBytes


class Second(BaseModel):
    sort: Literal["second"]
    of_second: Token
    again: "Second | None" = None


class AllSecrets(Runnable):
    task_config = TaskConfig(kind="form-all-secrets")

    number: Secret[int]
    by_hand: Annotated[SecretStr, WithJsonSchema({"type": "string"})]
    renamed: SecretStr = Field(validation_alias=AliasChoices("renamed", "former"))
    typed_dict: Typed
    named: Named
    numbers: Numbers
    either: Annotated[First | Second, Field(discriminator="sort")]
    table: dict[str, tuple[int, Token]]
    text: Json[SecretStr]
    plain: str
    plain_table: dict[str, list[int]]

    def run(self, queue: object) -> None: ...


def test_secrets_of_all_sorts_are_found() -> None:
    found = secret_names(AllSecrets)
    assert found is not None
    assert found == {"number", "by_hand", "renamed", "former", "typed", "named", "numbers", "of_first", "of_second"} | {
        "table",
        "text",
    }


def test_a_class_of_which_nobody_knows_shows_nothing() -> None:
    class Open(Runnable):  # it is not registered, since it has no run
        unknown: "Undefined"  # type: ignore[name-defined]  # noqa: F821
        plain: str = ""

    assert secret_names(Open) is None
    assert Masks(frozenset(), secret_names(Open)).masked({"plain": "s3cret"}) == {"plain": HIDDEN}
    form = PayloadForm(Open)
    assert "s3cret" not in repr(form.fields(form.of_stored({"plain": "s3cret"})))


@pytest.mark.parametrize("word", ["api_key", "apikey", "API-Key", "apiKey"])
@pytest.mark.parametrize("name", ["api_key", "X-Api-Key", "apiKey", "my.api key", "APIKEYS"])
def test_a_name_is_hidden_however_its_words_are_joined(word: str, name: str) -> None:
    assert Masks(frozenset({word})).masked({name: "s3cret", "key": 1}) == {name: HIDDEN, "key": 1}


class ManyWide(Runnable):
    rows: list[Person] = Field([])

    def run(self, queue: object) -> None: ...


def test_rows_that_nobody_could_show_are_refused() -> None:
    form = PayloadForm(ManyWide)
    few = {f"payload.rows.{n}.name": "x" for n in range(50)}
    assert len(form.fields(few).fields[0].fields) == 50
    with pytest.raises(TooLarge, match="too many to show"):
        form.fields({f"payload.rows.{n}.name": "x" for n in range(10_000)})


@pytest.mark.parametrize("most", [0, 1, 2, 7, 30, 53, 80, 1_000])
def test_the_beginning_of_a_payload_is_that_of_the_whole(most: int) -> None:
    payload = {
        "": "",
        "token": "s3cret" * 20,
        "a": [1, -2.5, None, True, [], {}],
        "b": {'ü"': "\n\n\n" * 9},
        "c": "x" * 60,
        "d": 1,
    }
    masks = Masks(frozenset({"token"}))
    whole, beginning = (json.dumps(each) for each in (masks.masked(payload), masks.beginning(payload, most)))
    assert beginning[:most] == whole[:most]


def test_the_beginning_of_a_payload_does_not_grow_with_it() -> None:
    class Never(list[int]):
        def __iter__(self) -> Iterator[int]:
            yield from range(100)
            pytest.fail("a line needs no more of it")

    copied = Masks().beginning({"a": Never([0]), "b": "x" * 1_000_000}, 100)
    assert copied["a"][:3] == [0, 1, 2]
    assert len(json.dumps(copied)) < 1_000


def test_a_word_of_nothing_but_joints_hides_only_what_has_it() -> None:
    assert Masks(frozenset({"_"})).masked({"a_b": 1, "ab": 2}) == {"a_b": HIDDEN, "ab": 2}


def test_no_message_quotes_a_secret_that_was_not_typed() -> None:
    form = PayloadForm(Secretive)
    typed = sent(form.of_stored(STORED), form.fields(form.of_stored(STORED))) | {"payload.main.user": "bad"}
    assert form.filled(typed, STORED).errors == {"payload.main": ["refused by a validator (value_error)"]}


class Deep(BaseModel):
    n0: "Deep1"


class Deep1(BaseModel):
    n1: "Deep2"


class Deep2(BaseModel):
    n2: "Deep3"


class Deep3(BaseModel):
    n3: "Deep4"


class Deep4(BaseModel):
    n4: "Deep5"


class Deep5(BaseModel):
    n5: int
    trees: list[list[int]] = [[1]]


class Endless(Runnable):
    task_config = TaskConfig(kind="form-endless")

    deep: Deep
    wide: "Wide200 | None" = None

    def run(self, queue: object) -> None: ...


Wide200 = type(
    "Wide200", (BaseModel,), {"__annotations__": {f"f{n}": int for n in range(300)}, **{f"f{n}": n for n in range(300)}}
)
Endless.model_rebuild()


def test_forms_end() -> None:
    form = PayloadForm(Endless)
    payload = {
        "deep": {"n0": {"n1": {"n2": {"n3": {"n4": {"n5": 1, "trees": [[1]]}}}}}},
        "wide": {f"f{n}": n for n in range(300)},
    }
    shown = fields_of(form.fields(form.of_stored(payload)))
    assert field(shown[0], "payload.deep.n0.n1.n2.n3.n4").control == "json"
    assert field(shown[0], "payload.wide.f299").control == "json"
    assert payload_of(through_a_browser(Endless, payload)) == payload


def test_long_lists_are_json() -> None:
    payload = payload_of(Wide(text="", home=Address(street=""), tags=["x"] * 51))
    form = PayloadForm(Wide)
    assert field(form.fields(form.of_stored(payload)), "payload.tags").control == "json"
    assert payload_of(through_a_browser(Wide, payload)) == payload


def test_a_validator_that_raises_anything_is_told_without_its_text() -> None:
    assert PayloadForm(Raising).filled({"payload.n": "1"}).errors == {
        "payload": ["a validator of the class raised ZeroDivisionError"]
    }


class Raising(Runnable):
    task_config = TaskConfig(kind="form-raising")

    n: int

    @field_validator("n")
    @classmethod
    def checked(cls, value: int) -> int:
        return value // 0

    def run(self, queue: object) -> None: ...


class Unstorable(Runnable):
    task_config = TaskConfig(kind="form-unstorable")

    names: list[str] = Field([])

    def run(self, queue: object) -> None: ...


@pytest.mark.parametrize("text", ["[" * 20_000, '{"a": NaN}', "9" * 5_000, '["\\u0000"]'])
def test_json_that_cannot_be_stored_is_refused(text: str) -> None:
    filled = PayloadForm(Unstorable).filled({"payload.names": text, "payload.names~json": "1"})
    assert filled.task is None
    assert len(filled.errors) == 1
