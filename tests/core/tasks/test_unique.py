"""When two tasks are the same: their hash is, whatever the order of keys and sets."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import hashlib
import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, RootModel, model_serializer
from typing_extensions import TypedDict

from fang_core import PayloadError, Queueable, Runnable, Unique, UsageError
from fang_core.tasks.payloads.codec import encode
from fang_core.tasks.runnable import BaseRunnable
from fang_core.tasks.unique import uniq_hash
from fang_core.words.canonical import canonical


class Comparable(Runnable):
    """What the tasks of this file share: there is nothing to run."""

    def run(self, queue: Queueable) -> None: ...


def hash_of(task: BaseRunnable) -> str:
    return uniq_hash(task, encode(task))


class Nested(BaseModel):
    rate: Decimal = 1  # type: ignore[assignment]


class Defaults(Comparable):
    """Defaults of similar types, which no validator sees."""

    model_config = ConfigDict(extra="forbid")
    price: Decimal = 0  # type: ignore[assignment]
    is_urgent: bool = 0  # type: ignore[assignment]
    count: int = 1.0  # type: ignore[assignment]
    real: float = 30
    nested: Nested = Nested()
    items: set[int] = {3, 1, 2}


def test_a_default_equals_the_value_that_it_is_read_as() -> None:
    given = Defaults(price=Decimal(0), is_urgent=False, count=1, real=30.0, nested=Nested(rate=Decimal(1)))

    assert hash_of(Defaults()) == hash_of(given)
    for name in ("price", "is_urgent", "count", "nested"):
        assert uniq_hash(Defaults(), encode(Defaults()), [name]) == uniq_hash(given, encode(given), [name])
    assert hash_of(Defaults(price=Decimal("0.0"))) != hash_of(given)
    assert hash_of(given) == hashlib.sha256(canonical(json.loads(encode(given))).encode()).hexdigest()


# Keys and blanks ------------------------------------------------------------------------------------------------------


class Free(Comparable):
    data: Any = None


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
reals = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)  # no -0.0: a known limit
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | reals | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


def reversed_keys(value: Any) -> Any:
    match value:
        case dict():
            return {key: reversed_keys(item) for key, item in reversed(value.items())}
        case list():
            return [reversed_keys(item) for item in value]
    return value


@given(st.dictionaries(texts, json_values, max_size=5))
def test_the_canonical_form_does_not_depend_on_the_order_of_keys_nor_on_blanks(value: dict[str, Any]) -> None:
    task = Free(data=value)
    loose = json.dumps(json.loads(encode(task)), indent=3)

    assert canonical(value) == canonical(reversed_keys(value))
    assert json.loads(canonical(value)) == value
    assert uniq_hash(task, loose) == hash_of(task)
    assert hash_of(Free(data=value)) == hash_of(Free(data=reversed_keys(value)))


def test_the_canonical_form() -> None:
    value = {"type": "A", "b": [1, 2.5, {"z": None, "ä": "ä\n"}], "a": True}

    assert canonical(value) == '{"a":true,"b":[1,2.5,{"z":null,"ä":"ä\\n"}],"type":"A"}'


def test_the_hash_is_that_of_the_canonical_form() -> None:
    task = Free(data={"z": [2, 1], "a": None})

    assert hash_of(task) == hashlib.sha256(b'{"data":{"a":null,"z":[2,1]},"type":"Free"}').hexdigest()


class One(Comparable):
    a: int = 1
    b: int = 2


class Two(Comparable):
    b: int = 2
    a: int = 1


def test_fields_and_kind_decide() -> None:
    one, two = encode(One()), encode(Two())

    assert uniq_hash(One(), one) == uniq_hash(Two(), two.replace('"Two"', '"One"'))
    assert len({hash_of(One()), hash_of(Two()), hash_of(One(b=3))}) == 3


# Chosen fields --------------------------------------------------------------------------------------------------------


class Three(Comparable):
    a: Any = None
    b: Any = None
    c: Any = None


names = st.lists(st.sampled_from("abc"), unique=True)


@given(
    names,
    st.fixed_dictionaries(dict.fromkeys("abc", json_values)),
    st.dictionaries(st.sampled_from("abc"), json_values),
)
def test_only_chosen_fields_decide(chosen: list[str], values: dict[str, Any], others: dict[str, Any]) -> None:
    """Whatever the others are, and in whatever order the fields are named; the other ones alone never matter."""
    one, two = Three(**values), Three(**(values | others))
    hashes = [uniq_hash(task, encode(task), fields) for task in (one, two) for fields in (chosen, chosen[::-1])]
    is_same = all(canonical(values[name]) == canonical((values | others)[name]) for name in chosen)
    assert (len(set(hashes)) == 1) == is_same
    if len(chosen) == 3:
        assert hashes[0] == hash_of(one)


def test_the_kind_decides_too_if_no_field_is_chosen() -> None:
    assert uniq_hash(One(), encode(One()), ()) != uniq_hash(Two(), encode(Two()), ())
    assert uniq_hash(One(), encode(One()), ()) == hashlib.sha256(b'{"type":"One"}').hexdigest()


def test_fields_that_do_not_exist_or_are_not_stored_cannot_be_compared() -> None:
    class Partial(Comparable):
        n: int = 0
        hidden: int = Field(default=0, exclude=True)

    with pytest.raises(UsageError, match=r"^Partial has no field 'x', by which its unique tasks are compared$"):
        uniq_hash(Partial(), encode(Partial()), ["n", "x"])
    with pytest.raises(PayloadError, match="the field is not part of the payload") as caught:
        uniq_hash(Partial(), encode(Partial()), ["hidden"])
    assert caught.value.path == ".hidden"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": 1}, r"by= takes names of fields: 'url', or \['tenant', 'day'\]"),
        ({"by": [1]}, "by= takes names of fields"),
        ({"within": 5}, "within must be a timedelta, not int"),
        ({"within": timedelta(0)}, "within must be more than zero"),
        ({"while_": "running"}, "while_ is one of 'waiting', 'unfinished', 'always', not 'running'"),
        ({"on_conflict": None}, "on_conflict is one of 'return', 'raise', 'replace', 'postpone', not None"),
        ({"fields": []}, "Unique: .*; its arguments are by, within, while_, on_conflict"),
    ],
    ids=repr,
)
def test_what_a_unique_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        Unique(**arguments)


def test_a_unique_is_a_value() -> None:
    assert Unique(by="a") == Unique(by=["a"]) == Unique(by=("a",))
    assert Unique(by="a").fields == ("a",)
    assert len({Unique(), Unique(by=[]), Unique(by="a"), Unique(by=["a"])}) == 3


# Sets -----------------------------------------------------------------------------------------------------------------

Ints = set[int]


class Leaf(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    tags: frozenset[int] = frozenset()


class Root(RootModel[Ints]):
    pass


class Pair(NamedTuple):
    left: Ints
    right: int


class Row(TypedDict):
    size: int
    ids: Ints


@dataclass
class Mark:
    ids: Ints


class Sets(Comparable):
    model_config = ConfigDict(extra="allow")
    plain: Ints = set()
    frozen: frozenset[int] = frozenset()
    of_sets: set[frozenset[int]] = set()
    of_models: set[Leaf] = set()
    listed: list[Ints] = []
    many: tuple[Ints, ...] = ()
    queued: deque[Ints] = deque()
    by_key: dict[int, Ints] = {}
    leaf: Leaf | None = None
    root: Root | None = None
    pair: Pair | None = None
    row: Row | None = None
    mark: Mark | None = None
    free: Any = None
    sorted_by_hand: Annotated[Ints, PlainSerializer(sorted)] = set()
    aliased: Ints = Field(default=set(), alias="Aliased")


def both_orders(numbers: list[int]) -> tuple[Ints, Ints]:
    """Two equal sets, filled from either end: colliding numbers, like 0 and 8, make them differ in their order."""
    one: Ints = set()
    two: Ints = set()
    for number in numbers:
        one.add(number)
    for number in reversed(numbers):
        two.add(number)
    return one, two


SHAPES: dict[str, Any] = {
    "plain": lambda ids: ids,
    "frozen": frozenset,
    "of_sets": lambda ids: {frozenset(ids), frozenset({1})},
    "of_models": lambda ids: {Leaf(tags=frozenset(ids)), Leaf()},
    "listed": lambda ids: [ids, {3}],
    "many": lambda ids: (ids, ids),
    "queued": lambda ids: deque([ids]),
    "by_key": lambda ids: {1: ids, 0: {5}},
    "leaf": lambda ids: Leaf(tags=frozenset(ids), more=ids),
    "root": Root,
    "pair": lambda ids: Pair(ids, 1),
    "row": lambda ids: Row(size=1, ids=ids),
    "mark": Mark,
    "free": lambda ids: [{"deep": [ids]}],
    "sorted_by_hand": lambda ids: ids,
    "Aliased": lambda ids: ids,
    "extra": lambda ids: ids,
}


@pytest.mark.parametrize("name", SHAPES)
def test_equal_sets_have_one_hash_wherever_they_stand(name: str) -> None:
    one, two = both_orders([0, 8])
    assert list(one) != list(two)

    first, second = (Sets(**{name: SHAPES[name](ids)}) for ids in (one, two))

    assert hash_of(first) == hash_of(second)
    assert hash_of(first) != hash_of(Sets(**{name: SHAPES[name]({0, 8, 9})}))


@given(st.lists(st.integers(min_value=0, max_value=64), unique=True), st.sampled_from(sorted(SHAPES)))
def test_the_order_of_a_set_does_not_matter(numbers: list[int], name: str) -> None:
    one, two = (Sets(**{name: SHAPES[name](ids)}) for ids in both_orders(numbers))

    assert hash_of(one) == hash_of(two)


def test_the_order_of_a_list_matters() -> None:
    assert hash_of(Free(data=[0, 8])) != hash_of(Free(data=[8, 0]))
    assert hash_of(Free(data=[{1}, {2}])) != hash_of(Free(data=[{2}, {1}]))


def test_every_process_computes_the_same_hash() -> None:
    code = "\n".join(
        (
            "from fang_core import Runnable",
            "from fang_core.tasks.payloads.codec import encode",
            "from fang_core.tasks.unique import uniq_hash",
            "class Tagged(Runnable):",
            "    tags: set[str]",
            "    def run(self, queue): ...",
            "task = Tagged(tags={str(n) for n in range(50)})",
            "print(uniq_hash(task, encode(task)))",
        )
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


class Renamed(BaseModel):
    tags: Ints = set()
    parent: Any = None

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"labels": list(self.tags)}


class Family(Comparable):
    members: list[Any] = []


def test_a_chosen_set_is_compared_as_one_and_others_are_not_looked_at() -> None:
    one, two = both_orders([0, 8])
    hidden = [Renamed(tags={1})]

    assert uniq_hash(Sets(plain=one), encode(Sets(plain=one)), ["plain"]) == uniq_hash(
        Sets(plain=two, leaf=Leaf()), encode(Sets(plain=two, leaf=Leaf())), ["plain"]
    )
    assert uniq_hash(Family(members=hidden), encode(Family(members=hidden)), [])
    with pytest.raises(PayloadError, match="not written as an array of its items"):
        uniq_hash(Family(members=hidden), encode(Family(members=hidden)), ["members"])


def test_a_set_that_is_written_in_another_form_is_refused() -> None:
    with pytest.raises(PayloadError, match="not written as an array of its items") as caught:
        hash_of(Family(members=[1, Renamed(tags={1})]))

    assert caught.value.path == ".members[1].tags"
    assert "\n" not in str(caught.value)


def test_what_is_not_written_may_refer_to_itself() -> None:
    ring: list[Any] = []
    ring.append(ring)

    assert hash_of(Family(members=[Renamed.model_construct(parent=ring, tags=[])])) == hash_of(
        Family(members=[Renamed.model_construct(tags=[])])
    )
