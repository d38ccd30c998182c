"""Handles kinds and task types that a database cannot hold, since its encoding lacks one of their characters."""

from collections.abc import Iterable, Sequence
from typing import Final

from fang_core.errors import StatementRefused
from fang_core.logs import SafeLogger

logger = SafeLogger("fang_postgres")

LEFT_OUT: Final = "%s %s is left out: the database's encoding does not have the character U+%04X"


class Unheld:
    """Leaves such names out of statements. No row can have one, so a pool that leaves it out misses no task.

    A refusal tells which characters are missing: that depends on the server's tables alone.
    """

    def __init__(self) -> None:
        self._characters: frozenset[str] = frozenset()
        self._told: set[str] = set()

    def without(self, names: Sequence[str]) -> list[str]:
        """Returns the names that the database can hold, as far as is known."""
        if not self._characters:
            return list(names)
        return [name for name in names if self._missing(name) is None]

    def learn(self, refusal: StatementRefused, names: Iterable[str]) -> None:
        """Remembers the missing character. Raises the refusal if none of the names sent has that character."""
        character = refusal.character
        if character is None or character in self._characters or not any(character in name for name in names):
            raise refusal
        self._characters |= {character}

    def tell(self, what: str, names: Iterable[str]) -> None:
        """Logs each name that is left out, once; ``what`` is 'kind' or 'task type'."""
        for name in names:
            missing = self._missing(name)
            if missing is not None and name not in self._told:
                self._told.add(name)
                logger.warning(LEFT_OUT, what, name, ord(missing))

    def check_some_held(self, task_types: Sequence[str]) -> None:
        """Raises ``StatementRefused`` if the database can hold none of these: a pool would have nothing to do."""
        if task_types and not self.without(task_types):
            missing = self._missing(task_types[0])
            assert missing is not None
            raise StatementRefused(
                f"no task can have the type {task_types[0]}: the database's encoding does not have the character "
                f"U+{ord(missing):04X}: use one with ENCODING 'UTF8'",
                character=missing,
            )

    def _missing(self, name: str) -> str | None:
        """Returns the first of its characters that is missing, or None."""
        return next((character for character in name if character in self._characters), None)
