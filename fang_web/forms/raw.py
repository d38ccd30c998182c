"""Makes the form of a kind whose class is not imported here: its fields as JSON, checked only by JSON's own rules.

What is masked has fields of its own, as in the form of a class: it is never shown, and stays unless another is typed.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fang_core.masking.masks import Masks
from fang_core.tasks.runnable import BaseRunnable
from fang_web.forms import controls as c
from fang_web.forms.fields import Field, fields
from fang_web.forms.filling import fill
from fang_web.forms.form import Filled, task_of
from fang_web.forms.reading import read
from fang_web.forms.shapes import MAX_FIELDS, MISSING, Shape, Sort

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
"""Names that can be part of a control's name."""


class RawForm:
    """The form of a kind without a class.

    Args:
        cls: what stands in for the class, and takes any fields.
        words: fields whose names contain one of these are never shown.
        stored: the payload that is edited.
    """

    def __init__(self, cls: type[BaseRunnable], words: frozenset[str], stored: Any = MISSING) -> None:
        self._cls = cls
        self._masks = Masks(words)
        self._shape = Shape(sort=Sort.GROUP, others=True, members=_hidden_fields(self._masks, stored))

    def of_new(self) -> dict[str, str]:
        """Returns the texts of the controls for a new task."""
        return {c.ROOT + c.OTHERS: "{}"}

    def of_stored(self, payload: Any) -> dict[str, str]:
        """Returns the texts of the controls that show a stored payload, which is the metadata without its type."""
        return fill(self._shape, payload, self._masks)

    def fields(self, controls: c.Controls, errors: dict[str, list[str]] | None = None) -> Field:
        """Returns the fields as a page shows them."""
        root = fields(self._shape, controls, errors)
        if root.control != "group":  # the payload has a key that no group of controls holds: it is JSON as a whole
            return root
        *hidden, rest = root.fields
        return replace(root, fields=(replace(rest, label="fields" if not hidden else rest.label), *hidden))

    def filled(self, controls: c.Controls, stored: Any = MISSING) -> Filled:
        """Makes a task of the input. Masked values that were left alone come from the ``stored`` payload."""
        found = read(self._shape, controls, stored)
        if found.errors:
            return Filled(errors=found.errors)
        return task_of(self._cls, found)


def _hidden_fields(masks: Masks, stored: Any) -> tuple[Shape, ...]:
    """Returns a field for each part of a payload that is masked, or contains something masked. If one has a name that
    no control can have, or there are very many, all fields stay hidden as a whole.
    """
    if not isinstance(stored, Mapping):
        return ()
    names = [name for name, value in stored.items() if name in masks or masks.touch(value)]
    if len(names) > MAX_FIELDS or not all(_NAME.fullmatch(name) for name in names):
        return ()
    return tuple(Shape(name=name, label=name, hint="JSON", secret=True, required=False) for name in names)
