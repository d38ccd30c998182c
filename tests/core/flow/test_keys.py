"""The key of a task."""

import functools
import os
import re
import subprocess
import sys
from datetime import date
from enum import Enum, StrEnum
from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, field_serializer

from fang_core import PayloadError, Queueable, Runnable, TaskConfig, UsageError
from fang_core.flow.keys import MOST_BYTES, by_name, key_of, key_text


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = 3


class Export(Runnable):
    task_config = TaskConfig(kind="keys.Export")
    tenant: str | None = "acme"
    region: int = 7

    def run(self, queue: Queueable) -> None: ...


class Joined(BaseModel):
    tags: set[str]

    @field_serializer("tags")
    def join(self, tags: set[str]) -> str:
        return ",".join(tags)


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


class ByLength:
    def __call__(self, task: Export) -> int:
        return len(task.tenant or "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("acme", "acme"),
        ("", ""),
        (None, "null"),
        (7, "7"),
        (True, "true"),
        (Colour.RED, "red"),
        (Size.LARGE, "3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (["ä", 1], '["ä",1]'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"b", "a"}, '["a","b"]'),
        (1.5, "1.5"),
        (float("nan"), "NaN"),
        ("x" * MOST_BYTES, "x" * MOST_BYTES),
    ],
)
def test_any_value_makes_a_key(value: Any, text: str) -> None:
    assert key_text(value) == text


OF_A_SET: Final = ("[each]", "(each, 1)", "{'tags': each}", "Tagged(tags=each)", "Data(each)")


@pytest.fixture(scope="module")
def keys_of_a_set() -> list[list[str]]:
    """What each of three processes makes of them."""
    code = "\n".join(
        (
            "from dataclasses import make_dataclass",
            "from pydantic import create_model",
            "from fang_core.flow.keys import key_text",
            "Tagged, Data = create_model('Tagged', tags=(set[str], ...)), make_dataclass('Data', ['tags'])",
            "each = {str(n) for n in range(50)}",
            *(f"print(key_text({make}))" for make in OF_A_SET),
        )
    )
    return [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2", "3")
    ]


@pytest.mark.parametrize("make", OF_A_SET)
def test_every_process_makes_the_same_key_of_a_set(keys_of_a_set: list[list[str]], make: str) -> None:
    """Python iterates over a set in an order of each process: two keys of one tenant would be two limits."""
    keys = [dict(zip(OF_A_SET, lines, strict=True))[make] for lines in keys_of_a_set]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("long", ["x" * (MOST_BYTES + 1), "ä" * (MOST_BYTES // 2 + 1)])
def test_a_long_key_is_hashed(long: str) -> None:
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", key_text(long))
    assert key_text(long) != key_text(long + "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a\0", r"^its key must not have NUL characters, which Postgres does not hold$"),
        ("\ud800", r"^its key must not have lone surrogates, which no database holds$"),
        (["\ud800"], r"^its key must not have lone surrogates"),
        (object(), r"^its key is a object, which cannot be written as a text$"),
        (b"\xff", r"^its key is a bytes, which cannot be written as a text$"),
        (ITSELF, r"^its key is a list, which cannot be written as a text$"),
        pytest.param(10**5_000, r"^its key is a int, which cannot be written as a text$", id="digits"),
        (functools.reduce(lambda deep, _: [deep], range(1_000), []), r"^its key is a list, which cannot be written"),
        (SecretStr("a"), r"^its key is a SecretStr, which is written as asterisks, so that all keys would be equal"),
        (("acme", SecretBytes(b"a")), r"^its key is a SecretBytes, which is written as asterisks"),
        ([Secret[int](5)], r"^its key is a Secret, which is written as asterisks"),
        (Joined(tags={"a"}), r"^its key holds a set that is not written as an array of its items"),
    ],
)
def test_what_cannot_be_a_key_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        key_text(value)


def test_a_key_is_made_of_a_field_several_or_by_a_function() -> None:
    task = Export()
    assert key_of(task, "tenant", "Export") == "acme"
    assert key_of(task, ("tenant", "region"), "Export") == '["acme",7]'
    assert key_of(task, lambda each: each.region % 4, "Export") == "3"
    assert key_of(task, ByLength(), "Export") == "4"
    assert key_of(Export(tenant=None), "tenant", "Export") == "null"


def test_a_key_that_cannot_be_made_names_its_task() -> None:
    with pytest.raises(PayloadError, match=r"^Export\.tenant: its key must not have NUL"):
        key_of(Export(tenant="\0"), "tenant", "Export")
    with pytest.raises(PayloadError, match=r"^Export: .*<lambda>\(\), which makes its key, raised AttributeError$"):
        key_of(Export(), lambda task: task.customer, "Export")
    with pytest.raises(PayloadError, match=r"^Export: its key is a bytes, which cannot be written as a text$"):
        key_of(Export(), lambda task: b"\xff", "Export")


def test_what_makes_a_key_has_a_name() -> None:
    assert by_name("tenant") == "tenant"
    assert by_name(("a", "b")) == ("a", "b")
    assert by_name(key_text) == "fang_core.flow.keys.key_text()"
    assert by_name(ByLength()) == f"{__name__}.ByLength()"
