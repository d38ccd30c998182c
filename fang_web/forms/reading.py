"""Makes a payload of the texts of a form's controls.

What pydantic can judge is left to it: a wrong number stays a text. A text that cannot even be read, like JSON with a
comma too many, is an error here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NoReturn

from fang_web.forms import controls as c
from fang_web.forms.shapes import MISSING, Missing, Shape, Sort

_WHOLE: Final = re.compile(r"-?[0-9]{1,4000}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,4000}(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


class _Blank(Enum):
    """Says that nothing was typed."""

    BLANK = auto()


BLANK: Final = _Blank.BLANK

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Read:
    """Holds the input of a form.

    Attributes:
        value: the payload.
        names: the name of the field at each path of the payload.
        errors: what could not be read, by the names of the fields; the payload is of no use then.
        kept: whether it holds secrets that were not typed now.
    """

    value: Any = None
    names: dict[Path, str] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)
    kept: bool = False


def read(shape: Shape, controls: c.Controls, stored: Any = MISSING) -> Read:
    """Returns the payload of a form. Secrets that were left alone come from the ``stored`` payload."""
    reading = _Reading(controls)
    value = reading.field(shape, c.ROOT, (), stored)
    reading.found.value = reading.settled(shape, value)
    if reading.found.value is MISSING:
        reading.found.value = {}
    return reading.found


class _Reading:
    def __init__(self, controls: c.Controls) -> None:
        self._controls = controls
        self.found = Read()

    def settled(self, shape: Shape, value: Any) -> Any:
        """Returns what a field is that was left blank: null if it can be, and not there if it can be left out.

        A group or a list that must be there is there, but has nothing in it: pydantic says then what it lacks.
        """
        if value is not BLANK:
            return value
        if shape.nullable:
            return None
        if shape.required and shape.sort is Sort.GROUP:
            return self._settled_members(shape, dict.fromkeys((member.name for member in shape.members), BLANK))
        return [] if shape.required and shape.sort is Sort.ROWS else MISSING

    def _settled_members(self, shape: Shape, values: Mapping[str, Any]) -> dict[str, Any]:
        settled = {member.name: self.settled(member, values[member.name]) for member in shape.members}
        return {key: value for key, value in settled.items() if value is not MISSING}

    def field(self, shape: Shape, name: str, path: Path, stored: Any) -> Any:
        self.found.names[path] = name
        text = self._controls.get(name, "")
        if self._stays(name, stored):
            return stored
        if shape.secret:
            return self._typed(shape, name, text)
        if name + c.JSON in self._controls or shape.sort is Sort.JSON:
            return self._json(name, text)
        match shape.sort:
            case Sort.GROUP:
                return self._group(shape, name, path, stored)
            case Sort.ROWS:
                return self._rows(shape, name, path, stored)
        return self._typed(shape, name, text)

    def _stays(self, name: str, stored: Any) -> bool:
        """Returns whether a field stays as it is stored: its value was not shown, and no other was typed."""
        stays = name + c.KEPT in self._controls and not self._controls.get(name) and stored is not MISSING
        self.found.kept = self.found.kept or stays
        return stays

    def _typed(self, shape: Shape, name: str, text: str) -> Any:
        """Returns the value of a field that is one control."""
        if shape.sort is Sort.TEXT:
            text = text.replace("\r\n", "\n").replace("\r", "\n")  # a browser sends line ends as CRLF
            return text if text or name + c.EMPTY in self._controls else BLANK
        text = text.strip()
        if not text:
            return BLANK
        match shape.sort:
            case Sort.WHOLE:
                return int(text) if _WHOLE.fullmatch(text) else text
            case Sort.NUMBER if _NUMBER.fullmatch(text):
                return int(text) if _WHOLE.fullmatch(text) else float(text)
            case Sort.BOOL:
                return {"true": True, "false": False}.get(text, text)
            case Sort.CHOICE | Sort.JSON:
                return self._json(name, text)
        return text

    def _json(self, name: str, text: str) -> Any:
        if not text.strip():
            return BLANK
        try:
            return json.loads(text, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            why = f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        except RecursionError:
            why = "is nested too deeply"
        except ValueError:  # a number of thousands of digits, or NaN
            why = "has a number that JSON does not have, or one that is too long"
        self.found.errors.setdefault(name, []).append(why)
        return BLANK

    def _group(self, shape: Shape, name: str, path: Path, stored: Any) -> Any:
        given = self._controls.get(name + c.GIVEN, c.IF_FILLED)
        if given == c.NEVER:
            return BLANK
        below = stored if isinstance(stored, Mapping) else {}
        values = {
            member.name: self.field(
                member, c.inner(name, member.name), (*path, member.name), below.get(member.name, MISSING)
            )
            for member in shape.members
        }
        others = self._others(shape, name, stored) if shape.others or name + c.OTHERS in self._controls else {}
        if given != c.ALWAYS and not others and all(value is BLANK for value in values.values()):
            return BLANK
        return self._settled_members(shape, values) | others

    def _others(self, shape: Shape, name: str, stored: Any) -> dict[str, Any]:
        names = {member.name for member in shape.members}
        kept = {key: each for key, each in stored.items() if key not in names} if isinstance(stored, Mapping) else {}
        if self._stays(name + c.OTHERS, kept):
            return kept
        others = self._json(name + c.OTHERS, self._controls.get(name + c.OTHERS, ""))
        if others is BLANK:
            return {}
        wrong = None
        if not isinstance(others, dict):
            wrong = "must be a JSON object"
        elif taken := names & set(others):
            wrong = f"{min(taken)} has a field of its own"
        if wrong is not None:
            self.found.errors.setdefault(name + c.OTHERS, []).append(wrong)
            return {}
        return dict(others)

    def _rows(self, shape: Shape, name: str, path: Path, stored: Any) -> Any:
        assert shape.item is not None
        given = self._controls.get(name + c.GIVEN, c.IF_FILLED)
        if given == c.NEVER:
            return BLANK
        below = stored if isinstance(stored, list) else []
        values: list[Any] = []
        for number in c.rows(name, self._controls):
            row = c.inner(name, number)
            if row + c.REMOVE in self._controls:
                continue
            value = self._row(shape.item, row, (*path, len(values)), below[number] if number < len(below) else MISSING)
            if value is not MISSING:
                values.append(value)
        return values if values or given == c.ALWAYS else BLANK

    def _row(self, item: Shape, name: str, path: Path, stored: Any) -> Any | Missing:
        value = self.field(item, name, path, stored)
        # The empty row at the end of a list is no row, even if its fields are required.
        return self.settled(item, value) if name + c.ROW in self._controls or value is not BLANK else MISSING


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)
