"""Says which values of a task's payload the page hides."""

from fang_core.tasks.registry import REGISTRY
from fang_web.forms.masks import Masks
from fang_web.forms.shapes import schema_of, secret_names


def masks_of(kind: str, words: frozenset[str]) -> Masks:
    """Returns the masks for payloads of a kind: those words, and the secrets of its class, if that is known here."""
    cls = REGISTRY.get(kind)
    return Masks(words, frozenset() if cls is None else secret_names(schema_of(cls)))
