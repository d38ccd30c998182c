"""JSON text -> task: what cannot be read is refused in one line that quotes nothing."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from fang_core import TaskConfig
from fang_core.errors import UnreadablePayload
from fang_core.tasks.payloads.codec import decode
from tests.core.tasks.encoding import SECRET, Step
from tests.core.tasks.test_codec import Cat, Colour, Dog
from tests.core.tasks.test_codec_refusals import Inner

# Refused on the way out -----------------------------------------------------------------------------------------------


class Judged(Step):
    """Validators that quote what they were given, in every way there is."""

    task_config = TaskConfig(kind="codec.Judged")
    by_value: str = ""
    by_assertion: str = ""
    by_custom: str = ""
    by_key: str = ""
    by_system: str = ""
    whole: int = 0
    key: UUID = UUID(int=0)
    blob: bytes = b""
    pet: Annotated[Cat | Dog, Field(discriminator="sort")] = Cat(lives=9)
    either: int | UUID | Cat = 0
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    short: Annotated[str, Field(max_length=3, pattern="^x*$")] = ""
    when: datetime | None = None
    span: timedelta = timedelta(0)
    money: Decimal = Decimal(0)
    inner: Inner = Inner()
    by_number: dict[int, int] = {}

    @field_validator("by_value")
    @classmethod
    def value(cls, text: str) -> str:
        if text:
            raise ValueError(f"not {text}")
        return text

    @field_validator("by_assertion")
    @classmethod
    def assertion(cls, text: str) -> str:
        assert not text, f"not {text}"
        return text

    @field_validator("by_custom")
    @classmethod
    def custom(cls, text: str) -> str:
        if text:
            raise PydanticCustomError("mine", "not {text}", {"text": text})
        return text

    @field_validator("by_key")
    @classmethod
    def lookup(cls, text: str) -> str:
        return {"": ""}[text]

    @field_validator("by_system")
    @classmethod
    def system(cls, text: str) -> str:
        if text:
            raise RuntimeError(f"not {text}")
        return text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by_value": SECRET}, "Judged.by_value: refused by a validator (value_error)"),
        ({"by_assertion": SECRET}, "Judged.by_assertion: refused by a validator (assertion_error)"),
        ({"by_custom": SECRET}, "Judged.by_custom: refused by a validator (mine)"),
        ({"by_key": SECRET}, "a validator of Judged raised KeyError"),
        ({"by_system": SECRET}, "a validator of Judged raised RuntimeError"),
        ({"whole": SECRET}, "Judged.whole: Input should be a valid integer"),
        ({"key": SECRET}, "Judged.key: "),
        ({"blob": SECRET + "!"}, "Judged.blob: "),
        ({"pet": {"sort": SECRET}}, "Judged.pet: refused by a validator (union_tag_invalid)"),
        ({"pet": {"sort": "cat", "lives": SECRET}}, "Judged.pet.cat.lives: Input should be a valid integer"),
        ({"pet": SECRET}, "Judged.pet: Input should be an object"),
        ({"either": SECRET}, "Judged.either.int: Input should be a valid integer"),
        ({"colour": SECRET}, "Judged.colour: Input should be 'red' or 2"),
        ({"word": SECRET}, "Judged.word: Input should be 'a' or 'b'"),
        ({"short": SECRET}, "Judged.short: String should have at most 3 characters"),
        ({"short": "abc"}, "Judged.short: String should match pattern '^x*$'"),
        ({"when": SECRET}, "Judged.when: Input should be a valid datetime"),
        ({"span": SECRET}, "Judged.span: Input should be a valid duration"),
        ({"money": SECRET}, "Judged.money: Input should be a valid decimal"),
        ({"inner": {"more": [{}, {"real": SECRET}]}}, "Judged.inner.more[1].real: Input should be a valid number"),
        ({"inner": SECRET}, "Judged.inner: Input should be an object"),
        ({"by_number": {"5": SECRET}}, "Judged.by_number['5']: Input should be a valid integer"),
        ([SECRET], "Judged: Input should be an object"),
        (None, "Judged: Input should be an object"),
    ],
    ids=repr,
)
def test_an_unreadable_payload_names_the_field_and_quotes_nothing(fields: Any, message: str) -> None:
    with pytest.raises(UnreadablePayload) as caught:
        decode(Judged, json.dumps(fields))

    text = str(caught.value)
    assert message in text
    assert SECRET not in text
    assert "\n" not in text
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", ["", "{", f'{{"{SECRET}', f"{SECRET}", '{"whole": 1,}', "[" * 1000, '{"whole": 1}x'])
def test_text_that_is_no_json_is_unreadable_too(text: str) -> None:
    with pytest.raises(UnreadablePayload, match="Judged: Invalid JSON") as caught:
        decode(Judged, text)

    assert SECRET not in str(caught.value)


def test_a_missing_field_and_a_forbidden_one_are_named() -> None:
    class Exact(Step):
        model_config = ConfigDict(extra="forbid")
        task_config = TaskConfig(kind="codec.Exact")
        n: int

    with pytest.raises(UnreadablePayload, match=r"Exact\.n: Field required$"):
        decode(Exact, "{}")
    with pytest.raises(UnreadablePayload, match=r"Exact\.m: Extra inputs are not permitted$"):
        decode(Exact, '{"n": 1, "m": "s3cr3t"}')


def test_a_hostile_name_of_a_field_stays_on_one_line() -> None:
    with pytest.raises(UnreadablePayload) as caught:
        decode(Judged, json.dumps({"by_number": {"a\nb" + "x" * 5000: 1}}))

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
