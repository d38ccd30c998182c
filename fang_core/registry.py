"""kind -> class: which tasks this process knows."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fang_core.errors import DefinitionError, DuplicateKind
from fang_core.logs import SafeLogger

if TYPE_CHECKING:
    from fang_core.runnable import BaseRunnable

logger = SafeLogger("fang_core")

Mode = Literal["threaded", "async"]


class Registry:
    """The task classes by kind. Classes register themselves where they are defined.

    The same definition may come again (a reload, a notebook's cell, ``python app.py`` and then ``import app``) and
    replaces the former one; another definition of a taken kind is an error that names both places.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[BaseRunnable]] = {}
        self.version = 0
        """Raised by every change, so that a pool can see that it has to read again."""

    def add(self, kind: str, cls: "type[BaseRunnable]") -> None:
        """Raises ``DuplicateKind``."""
        known = self._classes.get(kind)
        if known is not None and known is not cls and not _same_definition(known, cls):
            raise DuplicateKind(
                f"kind {kind!r} is already taken by {_place(known)}; "
                f"give {_place(cls)} another: task_config = TaskConfig(kind='...')"
            )
        if known is None and _is_interactive(cls):
            logger.info("kind %s is defined in an interactive session: other processes cannot run it", kind)
        self._classes[kind] = cls
        self.version += 1

    def get(self, kind: str) -> "type[BaseRunnable] | None":
        """The class of a kind, or None where this process does not know it."""
        return self._classes.get(kind)

    def runnable_kinds(self, mode: Mode) -> "Mapping[str, type[BaseRunnable]]":
        """The classes that a pool of this mode can run, with their forward references resolved.

        Raises ``DefinitionError`` where one names a type that cannot be found.
        """
        found = {kind: cls for kind, cls in self._classes.copy().items() if cls.__fang_mode__ == mode}
        for kind, cls in found.items():
            try:
                cls.model_rebuild()
            except Exception as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise DefinitionError(f"kind {kind} ({_place(cls)}) cannot be completed: {reason}") from error
        return MappingProxyType(found)


REGISTRY = Registry()
"""The one that task classes register with."""


class Kinds:
    """What a pool of some mode runs, as it last read the registry."""

    def __init__(self, mode: Mode) -> None:
        self._mode: Mode = mode
        self._version = -1
        self.classes: Mapping[str, type[BaseRunnable]] = {}
        """By kind."""
        self.learn()

    def learn(self) -> bool:
        """Reads the registry again where it has changed; whether it has. Raises ``DefinitionError``."""
        if self._version == REGISTRY.version:
            return False
        self._version = REGISTRY.version
        self.classes = REGISTRY.runnable_kinds(self._mode)
        return True


def _module_of(cls: type) -> str:
    """The module's name as an importer would say it, also where it runs as ``python -m``."""
    if cls.__module__ == "__main__":
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is not None:
            return str(spec.name).removesuffix(".__main__")
    return cls.__module__


def _file_of(cls: type) -> str | None:
    return getattr(sys.modules.get(cls.__module__), "__file__", None)


def _place(cls: type) -> str:
    return f"{_module_of(cls)}.{cls.__qualname__}"


def _same_definition(one: type, other: type) -> bool:
    if one.__qualname__ != other.__qualname__:
        return False
    file = _file_of(one)
    return _module_of(one) == _module_of(other) or (file is not None and file == _file_of(other))


def _is_interactive(cls: type) -> bool:
    return cls.__module__ == "__main__" and _file_of(cls) is None
