"""What a pool can be told, and how that crosses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import PoolMessage, Resize, SetLogLevel, Stop, UsageError
from fang_core.messages import LEVELS, Delivery, body_of, checked_message

MESSAGES = st.one_of(
    st.just(Stop()), st.builds(Resize, st.integers(1, 10_000)), st.builds(SetLogLevel, st.sampled_from(LEVELS))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(MESSAGES)
def test_a_message_arrives_as_it_was_sent(message: PoolMessage) -> None:
    assert Delivery(1, message.kind, body_of(checked_message(message)), "someone").message == message


@given(
    st.sampled_from([*(cls.kind for cls in (Stop, Resize, SetLogLevel)), "", "other"]),
    st.dictionaries(st.text(), JSON) | JSON,
)
def test_whatever_arrives_is_a_message_or_nothing(kind: str, body: Any) -> None:
    message = Delivery(1, kind, body, "someone").message
    assert message is None or message.kind == kind


@pytest.mark.parametrize(
    "make", [lambda: Resize(0), lambda: Resize(10_001), lambda: Resize(True), lambda: SetLogLevel("debug")]
)
def test_bad_values_are_refused_when_it_is_made(make: Any) -> None:
    with pytest.raises(UsageError, match="must be"):
        make()
