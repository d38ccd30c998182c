"""Keys of limits do not tell what the masks of payloads hide."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field

from fang_core import Limit, MemoryQueue, Queueable, Runnable, Task, TaskConfig
from fang_core.masking.keys import shown_key, without_key
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
