"""Defines by what a unique task is compared, for how long, and what becomes of an insert that meets an equal one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple, get_args

from fang_core.errors import UsageError
from fang_core.tasks.arguments import checked_span
from fang_core.words.naming import names_arguments

While = Literal["waiting", "unfinished", "always"]
OnConflict = Literal["return", "raise", "replace", "postpone"]


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Makes a task unique: while it counts, an equal one is not inserted.

    Attributes:
        by: the names of the fields that are compared; all fields unless given. With an empty list no field is compared:
            there is one task of the class. Tasks of different kinds are never equal.
        within: the task counts for this long from its insert at least, even if it has ended by then: a hundred years at
            most. No period unless given.
        while_: how long the task counts besides: ``"waiting"``, until it is first claimed; ``"unfinished"``, until it
            is finished, failed or cancelled; ``"always"``, for exactly ``within``, or without an end if that is not
            given.
        on_conflict: what an insert does that meets an equal task. ``"return"`` returns that task. ``"raise"`` raises
            ``TwinExists``; of a bulk insert nothing is written then. ``"replace"`` gives that task the new payload,
            options and due time if it waits; ``"postpone"`` gives it the new due time if it waits. Its row is returned
            with ``conflict`` true.

    Raises ``UsageError`` for values that cannot be used.
    """

    by: str | Sequence[str] | None = None
    within: timedelta | None = None
    while_: While = "unfinished"
    on_conflict: OnConflict = "return"

    def __post_init__(self) -> None:
        if self.by is not None:
            object.__setattr__(self, "by", _names(self.by))
        if self.within is not None:
            checked_span("within", self.within)
        for name, value, known in (
            ("while_", self.while_, get_args(While)),
            ("on_conflict", self.on_conflict, get_args(OnConflict)),
        ):
            if value not in known:
                raise UsageError(f"{name} is one of {', '.join(map(repr, known))}, not {value!r:.40}")

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The names of the compared fields; None if all are compared."""
        return None if self.by is None else tuple(self.by)

    @property
    def is_plain(self) -> bool:
        """Returns whether it differs from ``uniq=True`` in nothing but the compared fields."""
        return self.within is None and self.while_ == "unfinished" and self.on_conflict == "return"

    def terms(self, compared: str) -> "Terms | None":
        """Returns the terms on which a row with this hash is inserted; None if ``is_plain``."""
        if self.is_plain:
            return None
        is_for_a_time = self.within is not None or self.while_ == "always"
        return Terms(
            compared,
            compared if self.while_ == "waiting" else None,
            compared if is_for_a_time else None,
            self.within,
            self.on_conflict,
        )


ALL_FIELDS: Final = Unique()
"""What ``uniq=True`` means."""


class Terms(NamedTuple):
    """Says how a unique row is inserted, if that takes more than its ``uniq_hash``.

    Attributes:
        compared: the hash of the compared fields.
        waiting: the same if the row keeps equal ones out until it is claimed, otherwise None.
        period: the same if it keeps equal ones out for a time, otherwise None.
        within: how long that time is; None means without an end.
        on_conflict: see ``Unique``.
    """

    compared: str
    waiting: str | None
    period: str | None
    within: timedelta | None
    on_conflict: OnConflict


def checked_uniq(value: bool | Unique) -> bool | Unique:
    """Returns what ``uniq=`` may be. Raises ``UsageError``."""
    if not isinstance(value, bool | Unique):
        raise UsageError(f"uniq is True, False or Unique(...), not {type(value).__name__}")
    return value


def _names(by: str | Sequence[str]) -> tuple[str, ...]:
    names = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, Sequence) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise UsageError("by= takes names of fields: 'url', or ['tenant', 'day']")
    return names
