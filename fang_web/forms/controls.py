"""Names the controls of a form, and says which of their texts mean what.

Controls of a field ``address.zip`` are named ``address.zip``, and ``address.zip~json`` and so on: no field's name has a
tilde. A browser sends texts, and neither null nor 'not given', so that these need controls of their own.
"""

import re
from collections.abc import Mapping
from typing import Final

Controls = Mapping[str, str]
"""The names and texts of a form's controls, as a browser sends them."""

JSON: Final = "~json"
"""Beside a field whose text is JSON because its value is none that the field's own control can show."""
EMPTY: Final = "~empty"
"""Ticked if an empty text is meant as one, and not as 'not given'."""
GIVEN: Final = "~given"
"""Beside a group or a list: whether it is there even if all in it is empty; see ``Given``."""
KEPT: Final = "~kept"
"""Beside a secret that has a value, which stays unless another is typed."""
ROW: Final = "~row"
"""Beside each row that was there before; an empty one is dropped only if it is new."""
REMOVE: Final = "~remove"
"""Ticked to remove a row."""
OTHERS: Final = "~others"
"""The keys of a group that are no fields, as a JSON object."""

IF_FILLED: Final = ""
ALWAYS: Final = "given"
NEVER: Final = "none"

ROOT: Final = "payload"
"""The name of the whole payload."""

MAX_ROWS: Final = 50
"""Lists of more rows are edited as JSON."""
MAX_CONTROLS: Final = 1000
"""Lists that would bring a form above so many controls are edited as JSON."""

_ROW_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,5}")


def inner(name: str, key: str | int) -> str:
    """Returns the name of a field, or of a row, inside of another one."""
    return f"{name}.{key}"


def rows(name: str, controls: Controls) -> list[int]:
    """Returns the numbers of a list's rows."""
    prefix = name + "."
    firsts = {re.split(r"[.~]", each[len(prefix) :], maxsplit=1)[0] for each in controls if each.startswith(prefix)}
    return sorted(int(each) for each in firsts if _ROW_NUMBER.fullmatch(each))
