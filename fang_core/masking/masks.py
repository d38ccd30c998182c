"""Hides values of payloads by the names of their fields: secrets of the classes, and names that mean a secret."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from fang_core.tasks.registry import REGISTRY

if TYPE_CHECKING:
    from fang_core.tasks.runnable import BaseRunnable

HIDDEN: Final = "**********"
"""Stands in place of what is hidden, as pydantic writes a secret."""

DEFAULT_MASKED: Final = ("password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "credential")
"""Fields whose names contain one of these are never shown, unless the page is configured otherwise."""

MOST_DEPTH: Final = 200
"""How deeply a payload is looked into: ours are nested less deeply, and those of others may end Python's stack."""

_BETWEEN_WORDS: Final = str.maketrans("", "", "_-. ")


class Masks:
    """Says which fields are hidden.

    Args:
        words: a field whose name contains one of these is hidden, in any case, and however its words are joined:
            ``api_key`` hides ``X-Api-Key`` and ``apiKey`` too.
        names: the names of further fields that are hidden; None hides all fields, since it is unknown which are
            secrets.
    """

    def __init__(self, words: frozenset[str] = frozenset(), names: frozenset[str] | None = frozenset()) -> None:
        self._words = frozenset(_joined(word) for word in words)
        self._names = names

    def __contains__(self, name: object) -> bool:
        """Returns whether the field of this name is hidden."""
        if self._names is None:
            return True
        if name in self._names:
            return True
        if not isinstance(name, str):
            return False
        spelled, joined = name.lower(), _joined(name)
        return any(word in joined or word in spelled for word in self._words)

    def touch(self, value: Any, *, depth: int = 0) -> bool:
        """Returns whether a value has hidden fields, at any depth; True if it is nested too deeply."""
        if not isinstance(value, Mapping | list | tuple):
            return False
        if depth > MOST_DEPTH:
            return True
        if isinstance(value, Mapping):
            return any(key in self or self.touch(each, depth=depth + 1) for key, each in value.items())
        return any(self.touch(each, depth=depth + 1) for each in value)

    def masked(self, value: Any, *, depth: int = 0) -> Any:
        """Returns a copy of a value of JSON without what is hidden, and what is nested too deeply."""
        if not isinstance(value, Mapping | list | tuple):
            return value
        if depth > MOST_DEPTH:
            return HIDDEN
        if isinstance(value, Mapping):
            return {key: HIDDEN if key in self else self.masked(each, depth=depth + 1) for key, each in value.items()}
        return [self.masked(each, depth=depth + 1) for each in value]

    def beginning(self, value: Any, most: int) -> Any:
        """Returns what ``masked`` does, but only as much as the first ``most`` characters of its JSON hold.

        A page that shows a line of a payload of 1 MB pays for the line.
        """
        return _Beginning(self, most).of(value)


class _Beginning:
    """Copies a value until its JSON has some number of characters at least; what comes after that is left out."""

    def __init__(self, masks: Masks, most: int) -> None:
        self._masks = masks
        self._left = most
        self._depth = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, str):
            text = value[: max(0, self._left)]
            self._left -= len(text) + 1  # JSON may take more, never less: so too much is copied, never too little
            return text
        self._left -= 1
        if not isinstance(value, Mapping | list | tuple):
            return value
        if self._depth > MOST_DEPTH:
            return HIDDEN
        self._depth += 1
        copied = dict(self._items(value)) if isinstance(value, Mapping) else list(self._each(value))
        self._depth -= 1
        return copied

    def _items(self, value: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
        for key, each in value.items():
            if self._left <= 0:
                return
            self._left -= len(str(key))
            yield key, self.of(HIDDEN if key in self._masks else each)

    def _each(self, value: Iterable[Any]) -> Iterator[Any]:
        for each in value:
            if self._left <= 0:
                return
            yield self.of(each)


def _joined(name: str) -> str:
    """Returns a name without case, and without what stands between its words; a word of nothing else stays."""
    return name.lower().translate(_BETWEEN_WORDS) or name.lower()


def masks_of(kind: str, words: frozenset[str], *, hides_unknown: bool = False) -> Masks:
    """Returns the masks for payloads of a kind: those words, and the secrets of its class, if that is known here.

    If it is not, ``hides_unknown`` hides every field, since nothing says which are secret.
    """
    cls = REGISTRY.get(kind)
    if cls is None:
        return Masks(words, None if hides_unknown else frozenset())
    return Masks(words, _secrets_of(cls))


def masks_of_all(words: frozenset[str]) -> Masks:
    """Returns the masks for payloads of any kind: those words, and the secrets of all classes that are known here.

    They hide everything if it is not known of some class which fields are secret.
    """
    names: set[str] = set()
    for cls in REGISTRY.classes():
        its_names = _secrets_of(cls)
        if its_names is None:
            return Masks(words, None)
        names |= its_names
    return Masks(words, frozenset(names))


def _secrets_of(cls: "type[BaseRunnable]") -> frozenset[str] | None:
    # Of pydantic, which takes time: a command that knows no class does not need it.
    from fang_core.masking.secret_names import secret_names

    return secret_names(cls)
