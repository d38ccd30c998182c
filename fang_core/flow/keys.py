"""Makes the key of a task, by which limits and fairness count: a text, from fields of the task or by a function."""

import hashlib
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any, Final

from fang_core.errors import PayloadError, UsageError

By = str | tuple[str, ...] | Callable[[Any], Any]
"""What makes the key of a task: one of its fields, several fields, or a function that is called with the task."""

MOST_BYTES: Final = 500
"""A longer key is replaced by its hash: two indexes hold the key next to the task type."""

NO_KEY: Final = ""
"""The lane of tasks whose type is managed, and whose class has no key."""


def checked_by(by: By) -> By:
    """Returns what makes a key; several names as a tuple. Raises ``UsageError``."""
    if isinstance(by, str):
        names: Sequence[Any] = (by,)
    elif isinstance(by, Sequence):
        names = by = tuple(by)
    elif callable(by):
        if iscoroutinefunction(by) or iscoroutinefunction(type(by).__call__):
            raise UsageError("by takes no async function, since both modes call it")
        return by
    else:
        names = ()
    if not names or not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise UsageError("by must be the name of a field, several names, or a function that is called with the task")
    if len(set(names)) < len(names):
        raise UsageError("by names a field twice: remove one")
    return by


def fields_of(by: By) -> tuple[str, ...]:
    """Returns the names of the fields that make the key; none if a function makes it."""
    if isinstance(by, str):
        return (by,)
    return by if isinstance(by, tuple) else ()


def by_name(by: By) -> str | tuple[str, ...]:
    """Returns what makes a key as it can be written down: a function becomes its name, like ``app.tasks.key_of()``."""
    if isinstance(by, str | tuple):
        return by
    of = by if hasattr(by, "__qualname__") else type(by)  # a partial, or an object that can be called
    return f"{of.__module__}.{of.__qualname__}()"


def key_of(task: object, by: By, kind: str) -> str:
    """Returns the key of a task. Raises ``PayloadError`` if it cannot be written as a text."""
    if isinstance(by, str):
        return _text(getattr(task, by), kind, f".{by}")
    if isinstance(by, tuple):
        return _text([getattr(task, name) for name in by], kind, "")
    try:
        value = by(task)
    except Exception as error:
        raise PayloadError(kind, "", f"{by_name(by)}, which makes its key, raised {type(error).__name__}") from error
    return _text(value, kind, "")


def no_key(task: object) -> str:
    """Returns the lane of any task of a class without a key."""
    return NO_KEY


def key_text(value: Any) -> str:
    """Returns a value as a key: a ``str`` as it is, any other value as JSON in its canonical form.

    Raises ``UsageError`` if it cannot be.
    """
    # Of pydantic, which takes time: who only reads limits makes no key.
    from pydantic_core import to_jsonable_python

    from fang_core.words.canonical import HiddenSet, canonical, settled

    if not isinstance(value, str):
        _refuse_secrets(value if isinstance(value, list | tuple) else (value,))
    try:
        plain = settled(value, to_jsonable_python(value), "")
        text = plain if isinstance(plain, str) else canonical(plain)
    except HiddenSet:
        why = "its key holds a set that is not written as an array of its items, so that equal keys may differ"
        raise UsageError(why) from None
    except ValueError:  # also of what refers to itself, is nested too deeply, or has too many digits
        raise UsageError(f"its key is a {type(value).__name__}, which cannot be written as a text") from None
    if "\0" in text:
        raise UsageError("its key must not have NUL characters, which Postgres does not hold")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise UsageError("its key must not have lone surrogates, which no database holds") from None
    return text if len(encoded) <= MOST_BYTES else f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def _refuse_secrets(parts: Sequence[Any]) -> None:
    from pydantic import Secret, SecretBytes, SecretStr

    for part in parts:
        if isinstance(part, Secret | SecretStr | SecretBytes):
            raise UsageError(
                f"its key is a {type(part).__name__}, which is written as asterisks, so that all keys would be equal: "
                "make it by a function that returns a hash of get_secret_value()"
            )


def _text(value: Any, kind: str, path: str) -> str:
    try:
        return key_text(value)
    except UsageError as error:
        raise PayloadError(kind, path, str(error)) from None
