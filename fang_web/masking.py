"""Says which values of a task's payload the page hides."""

from fang_core.tasks.registry import REGISTRY
from fang_web.forms.masks import Masks
from fang_web.forms.secrets import secret_names


def masks_of(kind: str, words: frozenset[str]) -> Masks:
    """Returns the masks for payloads of a kind: those words, and the secrets of its class, if that is known here."""
    cls = REGISTRY.get(kind)
    return Masks(words, frozenset() if cls is None else secret_names(cls))


def masks_of_all(words: frozenset[str]) -> Masks:
    """Returns the masks for payloads of any kind: those words, and the secrets of all classes that are known here."""
    names = (secret_names(cls) or frozenset() for cls in REGISTRY.classes())
    return Masks(words, frozenset[str]().union(*names))
