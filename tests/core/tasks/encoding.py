"""Helps tests of the codec: tasks go there and back, or are refused."""

import json
from typing import Any

import pytest

from fang_core import PayloadError, Queueable, Runnable
from fang_core.tasks.payloads.codec import decode, encode
from fang_core.tasks.runnable import BaseRunnable

SECRET = "s3cr3t"


def payload(metadata: str) -> str:
    """The metadata without its type, as a claim returns it."""
    fields = json.loads(metadata)
    del fields["type"]
    return json.dumps(fields)


def there_and_back(task: BaseRunnable) -> BaseRunnable:
    return decode(type(task), payload(encode(task)))


def refused(task: Any, path: str, message: str, **options: Any) -> None:
    """The task is refused: this path, this text, one line, and not a word of its values."""
    with pytest.raises(PayloadError) as caught:
        encode(task, **options)
    error = caught.value
    assert error.path == path
    assert message in str(error)
    assert str(error) == f"{error.kind}{error.path}: {str(error).removeprefix(error.kind + error.path + ': ')}"
    assert "\n" not in str(error)
    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


class Step(Runnable):
    """What the tasks of this file share: there is nothing to run."""

    def run(self, queue: Queueable) -> None: ...
