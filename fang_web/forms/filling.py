"""Makes the texts of a form's controls from a payload. ``reading`` makes the same payload of them again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fang_core.masking.masks import Masks
from fang_web.forms import controls as c
from fang_web.forms.shapes import MISSING, Shape, Sort

_UNTYPABLE: Final = frozenset(map(chr, (*range(9), *range(11, 32), 0x7F, 0xFFFE, 0xFFFF)))
"""Characters that no control of a page holds, or that a browser changes, like a carriage return."""


def fill(shape: Shape, value: Any, masks: Masks) -> dict[str, str]:
    """Returns the texts that show a payload, without secrets, and without JSON that has a masked key."""
    into: dict[str, str] = {}
    _Filling(into, masks).put(shape, value, c.ROOT)
    return into


def fill_defaults(shape: Shape, masks: Masks) -> dict[str, str]:
    """Returns the texts of a form for a new task: each field shows its default."""
    into: dict[str, str] = {}
    filling = _Filling(into, masks)
    for member in shape.members:
        _put_default(filling, member, c.inner(c.ROOT, member.name))
    return into


def _put_default(filling: "_Filling", shape: Shape, name: str) -> None:
    if shape.default is not MISSING:
        if not shape.secret:
            filling.put(shape, shape.default, name)
    elif shape.sort is Sort.GROUP and shape.required and not shape.nullable:
        for member in shape.members:
            _put_default(filling, member, c.inner(name, member.name))


class _Filling:
    def __init__(self, into: dict[str, str], masks: Masks) -> None:
        self._into = into
        self._masks = masks

    def put(self, shape: Shape, value: Any, name: str) -> None:
        if value is MISSING:
            return
        if shape.secret:
            self._into[name + c.KEPT] = "1"
        elif value is None and shape.nullable and shape.sort is not Sort.JSON:
            self._put_null(shape, name)
        elif not self._put_as_it_is(shape, value, name):
            self._put_json(shape, value, name)

    def _put_null(self, shape: Shape, name: str) -> None:
        if shape.sort is Sort.CHOICE and None in shape.choices:
            self._into[name] = "null"
        elif shape.sort in (Sort.GROUP, Sort.ROWS) and not shape.required:
            self._into[name + c.GIVEN] = c.NEVER

    def _put_json(self, shape: Shape, value: Any, name: str) -> None:
        self._put_text(value, name)
        if shape.sort is not Sort.JSON:
            self._into[name + c.JSON] = "1"

    def _put_text(self, value: Any, name: str) -> None:
        if self._masks.touch(value):
            self._into[name + c.KEPT] = "1"
        else:
            self._into[name] = as_json(value)

    def _put_as_it_is(self, shape: Shape, value: Any, name: str) -> bool:
        """Puts a value into the field's own control. Returns False if that cannot show it."""
        match shape.sort, value:
            case (Sort.TEXT, str()) if _UNTYPABLE.isdisjoint(value):
                if value == "":
                    self._into[name + c.EMPTY] = "1"
                self._into[name] = value
            case (Sort.BOOL, bool()):
                self._into[name] = "true" if value else "false"
            case (Sort.WHOLE, int()) | (Sort.NUMBER, int() | float()) if not isinstance(value, bool):
                self._into[name] = json.dumps(value)
            case (Sort.CHOICE, _) if any(_is_same(value, each) for each in shape.choices):
                self._into[name] = json.dumps(value)
            case (Sort.GROUP, Mapping()):
                return self._put_group(shape, value, name)
            case (Sort.ROWS, list() | tuple()):
                return self._put_rows(shape, value, name)
            case _:
                return False
        return True

    def _put_group(self, shape: Shape, value: Mapping[str, Any], name: str) -> bool:
        others = {key: each for key, each in value.items() if key not in {member.name for member in shape.members}}
        if any(key == "" or not isinstance(key, str) for key in others):
            return False
        self._into[name + c.GIVEN] = c.ALWAYS
        for member in shape.members:
            # A worker that reads a payload without the field gives it its default.
            self.put(member, value.get(member.name, member.default), c.inner(name, member.name))
        if others:
            self._put_text(others, name + c.OTHERS)
        return True

    def _put_rows(self, shape: Shape, value: Sequence[Any], name: str) -> bool:
        assert shape.item is not None
        if len(value) > c.MAX_ROWS:
            return False
        texts: dict[str, str] = {}
        filling = _Filling(texts, self._masks)
        for number, each in enumerate(value):
            texts[c.inner(name, number) + c.ROW] = "1"
            filling.put(shape.item, each, c.inner(name, number))
        if len(self._into) + len(texts) > c.MAX_CONTROLS:
            return False
        self._into.update(texts)
        self._into[name + c.GIVEN] = c.ALWAYS
        return True


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def as_json(value: Any) -> str:
    """Returns JSON for people; characters that a page cannot hold are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text if _UNTYPABLE.isdisjoint(text) else json.dumps(value, indent=2)
