"""Hides values of payloads by the names of their fields: secrets of the classes, and names that the page was given."""

from collections.abc import Mapping
from typing import Any, Final

DOTS: Final = "••••••"


class Masks:
    """Says which fields are hidden.

    Args:
        words: a field whose name contains one of these, in whatever case, is hidden.
        names: the names of further fields that are hidden; None hides all fields, since nobody knows which are secrets.
    """

    def __init__(self, words: frozenset[str] = frozenset(), names: frozenset[str] | None = frozenset()) -> None:
        self._words = frozenset(word.lower() for word in words)
        self._names = names

    def __contains__(self, name: object) -> bool:
        """Returns whether the field of this name is hidden."""
        if self._names is None:
            return True
        return name in self._names or (isinstance(name, str) and any(word in name.lower() for word in self._words))

    def touch(self, value: Any) -> bool:
        """Returns whether a value has hidden fields, at any depth."""
        if isinstance(value, Mapping):
            return any(key in self or self.touch(each) for key, each in value.items())
        return isinstance(value, list | tuple) and any(self.touch(each) for each in value)

    def masked(self, value: Any) -> Any:
        """Returns a copy of a value of JSON with dots in place of what is hidden."""
        if isinstance(value, Mapping):
            return {key: DOTS if key in self else self.masked(each) for key, each in value.items()}
        return [self.masked(each) for each in value] if isinstance(value, list | tuple) else value
