"""Keys of limits do not tell what the masks of payloads hide."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field

from fang_core import Fair, Limit, MemoryQueue, Queueable, Runnable, Task, TaskConfig
from fang_core.backends.pools import Declaration
from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowRule, rules_as_json
from fang_core.masking.keys import shown_key, shown_type, without_key
from fang_core.masking.masks import HIDDEN, Masks, masks_of
from fang_core.monitoring.explanation import Cause, Explanation

WORDS = frozenset({"token"})


class ByToken(Runnable):
    task_config = TaskConfig(kind="maskedkeys.ByToken", task_type="maskedkeys", limits=[Limit(1, by="token")])
    token: str = "s3cret"

    def run(self, queue: Queueable) -> None: ...


class BySeveral(ByToken):
    task_config = TaskConfig(kind="maskedkeys.BySeveral", limits=[Limit(1, by=("host", "token"))])
    host: str = "example.org"


class ByFunction(ByToken):
    task_config = TaskConfig(
        kind="maskedkeys.ByFunction", limits=[Limit(1, by=lambda task: f"{task.host}/{task.token.upper()}")]
    )
    host: str = "example.org"


class ByWhatIsInside(ByToken):
    task_config = TaskConfig(kind="maskedkeys.ByWhatIsInside", limits=[Limit(1, by=lambda task: task.login["token"])])
    token: str = ""
    login: dict[str, Any] = Field({"token": 471147})


class ByHost(ByToken):
    task_config = TaskConfig(kind="maskedkeys.ByHost", limits=[Limit(1, by="host")])
    host: str = "example.org"


def inserted(task: Runnable) -> Task:
    return MemoryQueue().insert_task(task)


@pytest.mark.parametrize("cls", [ByToken, BySeveral, ByFunction, ByWhatIsInside])
def test_a_key_that_tells_a_masked_field_is_hidden(cls: Any) -> None:
    task = inserted(cls())
    assert task.lane
    assert shown_key(task, masks_of(task.kind, WORDS)) == HIDDEN
    assert shown_key(task, masks_of(task.kind, frozenset())) == task.lane  # nothing is masked


def test_any_other_key_is_shown() -> None:
    task = inserted(ByHost())
    assert shown_key(task, masks_of(task.kind, WORDS)) == "example.org"
    assert shown_key(task._replace(lane=""), Masks(WORDS, None)) == ""
    assert shown_key(task._replace(lane=None), Masks(WORDS, None)) is None


def test_a_key_of_a_class_that_is_not_known_is_hidden_by_the_values() -> None:
    task = inserted(ByToken())._replace(kind="maskedkeys.Elsewhere")
    assert shown_key(task, masks_of(task.kind, WORDS)) == HIDDEN


def test_an_explanation_does_not_tell_it() -> None:
    task = inserted(ByToken())
    told = Explanation(
        task_id=task.id,
        task=task,
        cause=Cause.KEY_LIMIT_FULL,
        text="as many of its key 's3cret' run",
        at=datetime.now(UTC),
        details={"key": "s3cret", "limit": 1},
    )
    masked = without_key(told, masks_of(task.kind, WORDS))
    assert masked.text == f"as many of its key '{HIDDEN}' run"
    assert masked.details == {"key": HIDDEN, "limit": 1}
    assert without_key(told, masks_of(task.kind, frozenset())) is told


# Weights --------------------------------------------------------------------------------------------------------------


def key_of(task: ByToken) -> str:
    return task.token


def declared(*rules: FlowRule) -> MemoryQueue:
    queue = MemoryQueue()
    queue.state.managing.declare([Declaration("maskedkeys", {"maskedkeys.ByToken": rules_as_json(rules)})])
    return queue


def only(queue: MemoryQueue) -> TypeInfo:
    (info,) = queue.limits.list()
    return info


@pytest.mark.parametrize("by", ["token", ("host", "token")])
def test_keys_that_have_weights_are_hidden_if_a_masked_field_makes_them(by: Any) -> None:
    queue = declared(Limit(9), Fair(by, weights={"s3cret": 5, "s3cret-too": 2}))
    shown = shown_type(only(queue), WORDS)
    assert "s3cret" not in repr(shown)
    assert shown.rules == (Limit(9), Fair(by, weights={HIDDEN: 5, f"{HIDDEN} (2)": 2}))
    assert shown.settings.weights == {HIDDEN: 5, f"{HIDDEN} (2)": 2}
    assert shown_type(only(queue), frozenset()) == only(queue)  # nothing is masked


def test_those_that_a_person_has_set_are_hidden_too() -> None:
    queue = declared(Limit(2, by="token"))
    queue.limits.set("maskedkeys", [Fair("token", weights={"s3cret": 5})])
    shown = shown_type(only(queue), WORDS)
    assert "s3cret" not in repr(shown)
    assert (shown.changed, shown.settings.weights) == ((Fair("token", weights={HIDDEN: 5}),), {HIDDEN: 5})


@pytest.mark.parametrize("by", ["host", key_of])
def test_keys_that_have_weights_are_shown_if_no_masked_field_is_named(by: Any) -> None:
    info = only(declared(Limit(9), Fair(by, weights={"example.org": 5})))
    assert shown_type(info, WORDS) == info
