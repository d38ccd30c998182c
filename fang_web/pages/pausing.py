"""Reads for how long a task type or a schedule is to be paused."""

from datetime import timedelta

from fang_web.parameters import SPANS
from fang_web.view import View


def lasts(view: View) -> tuple[str, timedelta | None]:
    """Returns for how long, in words and as a value; None until it is resumed. Raises ``BadRequest``."""
    name = view.form.choice("lasts", ("", *SPANS), default="")
    return (f"for {name}", SPANS[name]) if name else ("until resumed", None)
