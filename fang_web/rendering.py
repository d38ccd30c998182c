"""Makes HTML of templates. All text is escaped; only what ``charts`` makes of numbers is markup."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fang_core.words.spans import span
from fang_core.words.texts import counted, cut, percent
from fang_web.static import FILES

ENVIRONMENT: Final = Environment(
    loader=PackageLoader("fang_web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
    cache_size=100,
)

NAVIGATION: Final = (
    ("Overview", ()),
    ("Kinds", ("kinds",)),
    ("Tasks", ("tasks",)),
    ("Pools", ("pools",)),
    ("Schedules", ("schedules",)),
    ("Queues", ("queues",)),
    ("Audit", ("audit",)),
)
"""The pages that every page links to: what they are called, and the segments of their addresses."""


def render(template: str, **context: Any) -> str:
    """Returns the text of a template of this package."""
    return ENVIRONMENT.get_template(template).render(context)


def _span(seconds: float | timedelta | None) -> str:
    return "–" if seconds is None else span(seconds)


def number(value: float | None) -> str:
    """Returns a count with separators, or a figure with three digits."""
    if value is None or not isfinite(value):
        return "–"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def moment(at: datetime | None, *, ahead: bool = False) -> Markup:
    """Returns how long ago a time was, or how far ahead it is, with the time itself for those who point at it."""
    if at is None:
        return Markup("–")
    try:
        utc = at.astimezone(UTC)
    except OverflowError:  # a time at the edge of all times, written in another zone
        return Markup("<time>{}</time>").format(clock(at))
    seconds = (datetime.now(UTC) - utc).total_seconds()
    said = f"in {span(-seconds)}" if ahead or seconds < -1 else f"{span(max(0.0, round(seconds)))} ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(utc.isoformat(timespec="seconds"), clock(at), said)


def clock(at: datetime | None) -> str:
    """Returns a time with its date and zone, to the second."""
    return "–" if at is None else at.strftime("%Y-%m-%d %H:%M:%S %Z")


def said(details: object) -> list[tuple[str, Any]]:
    """Returns the details of an entry of the audit that say something. Anybody may have written its row."""
    if not isinstance(details, Mapping):
        return [] if details is None else [("details", details)]
    return [(str(name), value) for name, value in details.items() if value not in ("", None)]


ENVIRONMENT.filters.update(
    span=_span, number=number, percent=percent, moment=moment, clock=clock, cut=cut, said=said, counted=counted
)
ENVIRONMENT.globals.update(NAVIGATION=NAVIGATION, FILES=FILES)
