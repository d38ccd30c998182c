"""Rows that an older release of the application wrote are read by its present classes: by names, and by aliases."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    FutureDatetime,
    PastDatetime,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from fang_core import Queueable, Runnable, TaskConfig
from fang_core.errors import UnreadablePayload
from fang_core.tasks.payloads.codec import decode, encode
from tests.core.tasks.encoding import there_and_back


class Step(Runnable):
    task_config = TaskConfig(kind="reading.Step")

    def run(self, queue: Queueable) -> None: ...


class Address(BaseModel):
    town: str | None = Field(default=None, validation_alias=AliasChoices("town", "city"))


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    zip_code: int = 0


@dataclass
class Mark:
    label: Annotated[str, Field(validation_alias="name")] = ""


class Row(TypedDict, total=False):
    size: Annotated[int, Field(validation_alias="length")]


class Cat(BaseModel):
    sort: Literal["cat"] = Field(default="cat", alias="kind")


class Dog(BaseModel):
    sort: Literal["dog"] = Field(default="dog", alias="kind")


class Renamed(Step):
    task_config = TaskConfig(kind="reading.Renamed")
    user_id: int | None = Field(default=None, validation_alias=AliasChoices("user_id", "uid"))
    plain: int = Field(default=0, alias="plainOne")
    first: int = Field(default=0, validation_alias=AliasPath("pair", 0))
    deep: int = Field(default=0, validation_alias=AliasChoices("former", AliasPath("inner", "deep")))
    address: Address = Address()
    addresses: list[Address] = []
    camel: Camel | None = None
    mark: Mark = Mark()
    row: Row = {}
    pet: Annotated[Cat | Dog, Field(discriminator="sort")] = Cat()


OLD_ROWS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"uid": 7}, {"user_id": 7}),
    ({"user_id": 7}, {"user_id": 7}),
    ({"user_id": 7, "uid": 8}, {"user_id": 7}),
    ({"plainOne": 7}, {"plain": 7}),
    ({"plain": 7}, {"plain": 7}),
    ({"plainOne": 8, "plain": 7}, {"plain": 7}),
    ({"pair": [7, 8]}, {"first": 7}),
    ({"first": 7, "pair": [8]}, {"first": 7}),
    ({"inner": {"deep": 7}}, {"deep": 7}),
    ({"former": 7}, {"deep": 7}),
    ({"address": {"city": "Brno"}}, {"address": Address(town="Brno")}),
    ({"addresses": [{}, {"city": "Brno"}, {"town": "Brno"}]}, {"addresses": [Address(), *2 * [Address(town="Brno")]]}),
    ({"camel": {"zipCode": 7}}, {"camel": Camel(zipCode=7)}),
    ({"camel": {"zip_code": 7}}, {"camel": Camel(zipCode=7)}),
    ({"mark": {"name": "a"}}, {"mark": Mark("a")}),
    ({"mark": {"label": "a"}}, {"mark": Mark("a")}),
    ({"row": {"length": 7}}, {"row": {"size": 7}}),
    ({"row": {"size": 7}}, {"row": {"size": 7}}),
    ({"pet": {"kind": "dog"}}, {"pet": Dog()}),
    ({"pet": {"sort": "dog"}}, {"pet": Dog()}),
]
CONFIGS = [{}, {"populate_by_name": True}, {"validate_by_name": True, "validate_by_alias": False}, {"strict": True}]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(("row", "read"), OLD_ROWS, ids=str)
def test_names_are_read_first_and_aliases_as_well(
    row: dict[str, Any], read: dict[str, Any], config: dict[str, Any]
) -> None:
    class Configured(Renamed):
        task_config = TaskConfig(kind="reading.Configured")
        model_config = ConfigDict(**config)

    task = decode(Configured, json.dumps(row))

    assert {name: getattr(task, name) for name in read} == read
    assert there_and_back(task) == task


def test_rows_are_written_by_name() -> None:
    task = Renamed(uid=7, plainOne=8, camel=Camel(zipCode=9))  # type: ignore[call-arg]

    written = json.loads(encode(task))
    assert {"user_id": 7, "plain": 8, "camel": {"zip_code": 9}}.items() <= written.items()
    assert not {"uid", "plainOne"} & written.keys()


def test_a_key_that_is_the_name_of_a_field_belongs_to_that_field() -> None:
    class Swapped(Step):
        task_config = TaskConfig(kind="reading.Swapped")
        a: int = Field(default=0, alias="b")
        b: int = Field(default=0, alias="a")

    def read(text: str) -> dict[str, Any]:
        return decode(Swapped, text).model_dump()

    assert read('{"a": 1, "b": 2}') == {"a": 1, "b": 2}
    assert read('{"b": 2}') == {"a": 0, "b": 2}
    assert there_and_back(Swapped(b=1, a=2)) == Swapped(b=1, a=2)  # by aliases, as pydantic has it


def test_a_subclass_reads_its_own_fields() -> None:
    class More(Renamed):
        task_config = TaskConfig(kind="reading.More")
        total: int = Field(default=0, alias="sum")

    decode(Renamed, "{}")  # which has a reader now

    task = decode(More, '{"uid": 7, "sum": 8}')
    assert isinstance(task, More)
    assert (task.user_id, task.total) == (7, 8)


def test_a_class_that_is_rebuilt_is_read_as_it_is_then() -> None:
    class Growing(Step):
        task_config = TaskConfig(kind="reading.Growing")
        n: int = 0

    assert decode(Growing, '{"m": 7}').model_dump() == {"n": 0}
    Growing.model_fields["n"].validation_alias = "m"
    Growing.model_rebuild(force=True)
    assert decode(Growing, '{"m": 7}').model_dump() == {"n": 7}


def test_an_alias_is_no_extra_field() -> None:
    class Exact(Step):
        task_config = TaskConfig(kind="reading.Exact")
        model_config = ConfigDict(extra="forbid")
        user_id: int = Field(validation_alias=AliasChoices("user_id", "uid"))

    class Open(Exact):
        task_config = TaskConfig(kind="reading.Open")
        model_config = ConfigDict(extra="allow")

    assert decode(Exact, '{"uid": 7}').model_dump() == {"user_id": 7}
    assert decode(Open, '{"uid": 7, "more": 8}').model_dump() == {"user_id": 7, "more": 8}
    with pytest.raises(UnreadablePayload, match=r"Exact\.uid: Extra inputs"):
        decode(Exact, '{"user_id": 7, "uid": 8}')


def test_a_missing_field_goes_by_its_name() -> None:
    class Needy(Step):
        task_config = TaskConfig(kind="reading.Needy")
        user_id: int = Field(validation_alias=AliasChoices("uid", "id"))

    with pytest.raises(UnreadablePayload, match=r"Needy\.user_id: Field required$") as caught:
        decode(Needy, "{}")
    assert (caught.value.path, caught.value.reason) == (".user_id", "missing")


# True at the insert, and no longer when the task runs -----------------------------------------------------------------


@pydantic_dataclass
class Slot:
    at: FutureDatetime


class Remind(Step):
    task_config = TaskConfig(kind="reading.Remind")
    at: FutureDatetime | None = None
    day: FutureDate | None = None
    slots: list[Slot] = []
    past: PastDatetime | None = None


def test_what_had_to_lie_in_the_future_at_the_insert_may_have_come_when_it_is_read() -> None:
    past = "2000-01-01T00:00:00Z"
    task = decode(Remind, json.dumps({"at": past, "day": "2000-01-01", "slots": [{"at": past}], "past": past}))

    assert isinstance(task, Remind)
    assert task.at == task.slots[0].at == datetime(2000, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError, match="should be in the future"):
        Remind(at=datetime(2000, 1, 1, tzinfo=UTC))
    with pytest.raises(ValidationError, match="should be in the future"):
        TypeAdapter(Slot).validate_python({"at": past})
    with pytest.raises(UnreadablePayload, match=r"\.past: Input should be in the past$"):
        decode(Remind, json.dumps({"past": (datetime.now(UTC) + timedelta(days=1)).isoformat()}))
