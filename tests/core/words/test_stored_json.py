import json
from typing import Any

import pytest

from fang_core.words.stored_json import MOST_DEPTH, from_json


def nested(depth: int, inner: str = "") -> str:
    """Returns lists in lists, and so many objects in turn."""
    return "".join('{"a":' if n % 2 else "[" for n in range(depth)) + (inner or "1") + closing(depth)


def closing(depth: int) -> str:
    return "".join("}" if n % 2 else "]" for n in reversed(range(depth)))


@pytest.mark.parametrize("depth", [0, 1, 2, MOST_DEPTH - 1, MOST_DEPTH])
@pytest.mark.parametrize("as_sent", [str, str.encode], ids=["text", "bytes"])
def test_what_a_payload_may_be_is_read(depth: int, as_sent: Any) -> None:
    text = nested(depth)
    assert from_json(as_sent(text)) == json.loads(text)


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 700, 1_200, 3_000, 9_000, 200_000])
@pytest.mark.parametrize("as_sent", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize("inner", ["", "[]", "{}"])
def test_what_is_nested_more_deeply_is_not_on_any_version_of_python(depth: int, as_sent: Any, inner: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        from_json(as_sent(nested(depth, inner)))


@pytest.mark.parametrize(
    "text",
    [json.dumps([[]] * 1_000), json.dumps([{"a": [n]} for n in range(1_000)]), json.dumps("[" * 1_000 + "{" * 1_000)],
    ids=["lists", "objects", "a text"],
)
def test_what_is_wide_is_read(text: str) -> None:
    assert from_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "x", "[1", "9" * 5_000])
def test_what_is_none_is_an_error_of_values(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text)
