"""Makes the fields that a page shows, with their texts, what is wrong with them, and an empty row for each list."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fang_web.errors import TooLarge
from fang_web.forms import controls as c
from fang_web.forms.shapes import Shape, Sort

Errors = Mapping[str, Sequence[str]]
"""What is wrong, by the names of the fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One entry of a field from which one chooses: the text that is sent, and the one that is read."""

    text: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field as a page shows it.

    Attributes:
        name: that of its control.
        label, help, hint: its title, its description, and what pydantic expects of it.
        control: ``line``, ``area``, ``json``, ``secret``, ``choice``, ``group`` or ``rows``.
        text: what stands in it.
        errors: what is wrong with it.
        required: whether it must be filled in.
        choices: those of a ``choice``.
        empty: whether 'empty text' is ticked; None if the field has no such box.
        given: the entries of 'is it there', and which is chosen; empty if the group or list has no such choice.
        chosen: the entry of ``given`` that is chosen.
        hidden: names and texts of hidden controls.
        fields: those of a group, or the rows of a list.
        removable: whether it is a row that can be removed.
        removed: whether that is ticked.
        kept: whether a secret has a value, which stays unless another is typed.
    """

    name: str
    label: str = ""
    help: str = ""
    hint: str = ""
    control: str
    text: str = ""
    errors: tuple[str, ...] = ()
    required: bool = False
    choices: tuple[Choice, ...] = ()
    empty: bool | None = None
    given: tuple[Choice, ...] = ()
    chosen: str = ""
    hidden: tuple[tuple[str, str], ...] = ()
    fields: "tuple[Field, ...]" = ()
    removable: bool = False
    removed: bool = False
    kept: bool = False


_GIVEN: Final = (
    Choice(text=c.IF_FILLED, label="if anything is filled in"),
    Choice(text=c.ALWAYS, label="yes, as below"),
    Choice(text=c.NEVER, label="no"),
)


MOST_SHOWN: Final = 10_000
"""Fields of a page, with those of all rows: two thousand rows of a wide class held the page for a minute."""


def fields(shape: Shape, controls: c.Controls, errors: Errors | None = None) -> Field:
    """Returns the whole form, as a group without a title. Raises ``TooLarge`` if its rows have too many fields."""
    return _Fields(controls, errors or {}).field(shape, c.ROOT)


class _Fields:
    def __init__(self, controls: c.Controls, errors: Errors) -> None:
        self._controls = controls
        self._errors = errors
        self._left = MOST_SHOWN

    def field(self, shape: Shape, name: str) -> Field:
        self._left -= 1
        if self._left < 0:
            raise TooLarge(f"the rows of this form have more than {MOST_SHOWN:,} fields: there are too many to show")
        field = Field(
            name=name,
            label=shape.label,
            help=shape.help,
            hint=shape.hint,
            control="json",
            text=self._controls.get(name, ""),
            errors=tuple(self._errors.get(name, ())),
            required=shape.required and not shape.nullable,
        )
        kept = name + c.KEPT in self._controls
        if shape.secret or kept:
            return self._secret(shape, field, kept)
        if name + c.JSON in self._controls:
            return replace(field, hint="JSON", hidden=((name + c.JSON, "1"),))
        match shape.sort:
            case Sort.GROUP:
                return self._group(shape, field)
            case Sort.ROWS:
                return self._rows(shape, field)
            case Sort.BOOL:
                return self._choice(shape, field, (True, False))
            case Sort.CHOICE:
                return self._choice(shape, field, shape.choices)
            case Sort.TEXT:
                one_line = shape.one_line and "\n" not in field.text
                ticked = name + c.EMPTY in self._controls
                empty = ticked if shape.empty or ticked else None
                return replace(field, control="line" if one_line else "area", empty=empty)
            case Sort.WHOLE | Sort.NUMBER:
                return replace(field, control="line")
        return field

    def _secret(self, shape: Shape, field: Field, kept: bool) -> Field:
        """Returns a field that never shows its text, not even the one that was typed just now."""
        hidden = [(field.name + c.KEPT, "1")] if kept else []
        is_json = shape.sort not in (Sort.TEXT, Sort.WHOLE, Sort.NUMBER)
        if field.name + c.JSON in self._controls:
            is_json = True
            hidden.append((field.name + c.JSON, "1"))
        control = "json" if is_json else "secret"
        required = field.required and not kept
        return replace(field, control=control, text="", kept=kept, hidden=tuple(hidden), required=required)

    def _choice(self, shape: Shape, field: Field, values: Sequence[Any]) -> Field:
        choices = [Choice(text=json.dumps(each), label=_label(each)) for each in values]
        if not field.required or len(choices) > 1:
            choices.insert(0, Choice(text="", label=""))
        return replace(field, control="choice", choices=tuple(choices))

    def _group(self, shape: Shape, field: Field) -> Field:
        inside = [self.field(member, c.inner(field.name, member.name)) for member in shape.members]
        others = field.name + c.OTHERS
        if shape.others or others in self._controls or others + c.KEPT in self._controls:
            free = Shape(label="other fields", required=False, hint="a JSON object")
            inside.append(self.field(free, others))
        return self._with_given(shape, replace(field, control="group", fields=tuple(inside), text=""))

    def _rows(self, shape: Shape, field: Field) -> Field:
        assert shape.item is not None
        numbers = c.rows(field.name, self._controls)
        rows = [self._row(shape.item, c.inner(field.name, number)) for number in numbers]
        if len(numbers) < c.MAX_ROWS:
            unused = max(numbers, default=-1) + 1
            rows.append(self._row(shape.item, c.inner(field.name, unused)))
        return self._with_given(shape, replace(field, control="rows", fields=tuple(rows), text=""))

    def _row(self, item: Shape, name: str) -> Field:
        was_there = name + c.ROW in self._controls
        row = self.field(replace(item, required=was_there), name)
        if not was_there:
            return replace(row, required=False, given=())
        hidden = (*row.hidden, (name + c.ROW, "1"))
        return replace(row, hidden=hidden, removable=True, removed=name + c.REMOVE in self._controls)

    def _with_given(self, shape: Shape, field: Field) -> Field:
        chosen = self._controls.get(field.name + c.GIVEN, c.IF_FILLED)
        if shape.nullable or not shape.required:
            return replace(field, given=_GIVEN, chosen=chosen)
        if chosen == c.ALWAYS:
            return replace(field, hidden=(*field.hidden, (field.name + c.GIVEN, chosen)))
        return field


def _label(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else json.dumps(value, ensure_ascii=False)
