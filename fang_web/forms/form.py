"""Joins the parts of forms: the fields of a class, a payload in them, and the task of what was typed."""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import ValidationError

from fang_core.errors import PayloadError
from fang_core.masking.masks import Masks
from fang_core.masking.secret_names import secret_names
from fang_core.tasks.payloads import codec
from fang_core.tasks.payloads.reading import reader_of
from fang_core.tasks.runnable import BaseRunnable
from fang_web.forms import controls as c
from fang_web.forms.fields import Field, fields
from fang_web.forms.filling import fill, fill_defaults
from fang_web.forms.reading import Path, Read, read
from fang_web.forms.shapes import MISSING, schema_of, shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The input of a form.

    Attributes:
        task: the task; None if what was typed makes none.
        errors: what is wrong, by the names of the fields; those of the whole payload under the name of the form.
    """

    task: BaseRunnable | None = None
    errors: dict[str, list[str]] = field(default_factory=dict)


class PayloadForm:
    """The form of one task class.

    Args:
        cls: the class.
        words: fields whose names contain one of these are never shown, nor are secrets of pydantic's.
    """

    def __init__(self, cls: type[BaseRunnable], words: frozenset[str] = frozenset()) -> None:
        self._cls = cls
        self._masks = Masks(words, secret_names(cls))
        self._shape = shape_of(schema_of(cls), self._masks)

    def of_new(self) -> dict[str, str]:
        """Returns the texts of the controls for a new task, which show the defaults of the class."""
        return fill_defaults(self._shape, self._masks)

    def of_stored(self, payload: Any) -> dict[str, str]:
        """Returns the texts of the controls that show a stored payload, which is the metadata without its type."""
        return fill(self._shape, payload, self._masks)

    def fields(self, controls: c.Controls, errors: dict[str, list[str]] | None = None) -> Field:
        """Returns the fields as a page shows them, with an empty row more in each list."""
        return fields(self._shape, controls, errors)

    def filled(self, controls: c.Controls, stored: Any = MISSING) -> Filled:
        """Makes a task of the input. Secrets that were left alone come from the ``stored`` payload.

        The validators of the class run here, and what a worker could not read back is refused, as an insert does.
        """
        found = read(self._shape, controls, stored)
        if found.errors:
            return Filled(errors=found.errors)
        return task_of(self._cls, found)


def task_of(cls: type[BaseRunnable], found: Read) -> Filled:
    """Makes a task of this class of what a form holds, unless a worker could not read it back."""
    try:
        reader = reader_of(cls)
        text = json.dumps(found.value)
        task = reader.validate_json(text, by_alias=reader.by_alias, by_name=reader.by_name)
        codec.encode(task)
    except ValidationError as error:
        return Filled(errors=_by_field(error, found))
    except PayloadError as error:
        return Filled(errors=_refused(error, found))
    except Exception as error:  # noqa: BLE001 - a validator may raise anything, and its text may hold the payload
        return Filled(errors={c.ROOT: [f"a validator of the class raised {type(error).__name__}"]})
    return Filled(task=task)


def _by_field(error: ValidationError, found: Read) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:100]:
        name, rest = _place(each["loc"], found)
        # A validator's own text may quote a secret that the reader of the page never saw.
        message = f"refused by a validator ({each['type']})" if found.kept and not codec.is_shown(each) else each["msg"]
        message = _why_unreadable(message) if each["type"] == "json_invalid" else message
        message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")[:500]
        errors.setdefault(name, []).append(f"{rest}: {message}" if rest else message)
    return errors


def _why_unreadable(message: str) -> str:
    """Returns what is wrong with a text that json.dumps has written: its columns, which are named, mean nothing."""
    if "hex escape" in message:  # the first half of a pair has none behind it, or the second none before it
        return "half of a surrogate pair stands alone in a text, which UTF-8 cannot hold"
    return "is nested too deeply"


def _refused(error: PayloadError, found: Read) -> dict[str, list[str]]:
    names = {
        "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in path): name
        for path, name in found.names.items()
    }
    why = str(error).removeprefix(f"{error.kind}{error.path}: ")
    if error.path in names:
        return {names[error.path]: [why]}
    return {c.ROOT: [f"{error.path}: {why}" if error.path else why]}


def _place(loc: Path, found: Read) -> tuple[str, str]:
    """Returns the name of the field that an error is about, and what is left of its path inside of that."""
    for length in range(len(loc), -1, -1):
        name = found.names.get(tuple(loc[:length]))
        if name is not None:
            return name, ".".join(str(part)[:50] for part in loc[length:])[:200]
    return c.ROOT, ""
