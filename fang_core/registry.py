"""kind -> class: which tasks this process knows."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

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

    def add(self, kinds: Sequence[str], cls: "type[BaseRunnable]") -> None:
        """Takes a class under its kind, which comes first, and under its former ones. Raises ``DuplicateKind``."""
        for kind in kinds:
            known = self._classes.get(kind)
            if known is not None and known is not cls and not _same_definition(known, cls):
                raise DuplicateKind(_taken(kind, known, cls))
        if kinds[0] not in self._classes and _is_interactive(cls):
            logger.info("kind %s is defined in an interactive session: other processes cannot run it", kinds[0])
        replaced = self._classes.get(kinds[0])
        if replaced is not None:
            for kind in replaced.__fang_options__.former_kinds:
                self._classes.pop(kind, None)
        for kind in kinds:
            self._classes[kind] = cls
        self.version += 1

    def get(self, kind: str) -> "type[BaseRunnable] | None":
        """The class of a kind, or None where this process does not know it."""
        return self._classes.get(kind)

    def runnable_kinds(self, mode: Mode) -> "Mapping[str, type[BaseRunnable]]":
        """The classes that a pool of this mode can run, with their forward references resolved.

        Raises ``DefinitionError`` where one names a type that cannot be found.
        """
        found = self.kinds(mode)
        for kind, cls in found.items():
            _complete(kind, cls)
        return MappingProxyType(found)

    def kinds(self, mode: Mode) -> "dict[str, type[BaseRunnable]]":
        """The classes of this mode, as they are, under their former kinds too."""
        return {kind: cls for kind, cls in self._classes.copy().items() if cls.__fang_mode__ == mode}


REGISTRY = Registry()
"""The one that task classes register with."""


LOOK_AGAIN: Final = 1.0
"""Seconds until classes that name a type that was not there are looked at again: the registry does not hear of it."""


class Kinds:
    """What a pool of some mode runs, as it last read the registry.

    Raises ``DefinitionError`` where it is made and a class cannot be completed. One that comes later is left out, and
    logged once, until it can be: the type that it names may be defined after it.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode: Mode = mode
        self._version = REGISTRY.version  # before it is read: what comes meanwhile is read the next time
        self.classes: Mapping[str, type[BaseRunnable]] = REGISTRY.runnable_kinds(mode)
        """By kind."""
        self._left_out: dict[str, type[BaseRunnable]] = {}
        self._look_again_at = 0.0

    def learn(self, mono: float) -> bool:
        """Reads the registry again where it has changed, and what was left out; whether other classes came of it.

        ``mono`` is in seconds of one monotonic clock.
        """
        if self._version == REGISTRY.version and not self._may_be_complete(mono):
            return False
        self._version = REGISTRY.version
        former, former_left_out = self.classes, self._left_out
        classes = REGISTRY.kinds(self._mode)
        self._left_out = {}
        for kind, cls in tuple(classes.items()):
            try:
                _complete(kind, cls)
            except DefinitionError as error:
                self._left_out[kind] = classes.pop(kind)
                if kind in former:
                    classes[kind] = former[kind]  # tasks of it may be running
                if former_left_out.get(kind) is not cls:
                    logger.warning("%s; it is left out until it can be", error)
        self._look_again_at = mono + LOOK_AGAIN
        self.classes = MappingProxyType(classes)
        return self.classes != former

    def module_of(self, kind: str) -> str:
        """The module of the class, as its frames name it; empty if there is no class of this kind."""
        return getattr(self.classes.get(kind), "__module__", "")

    def _may_be_complete(self, mono: float) -> bool:
        """Whether to look again at what was left out; one that was used meanwhile has completed itself."""
        if not self._left_out:
            return False
        return mono >= self._look_again_at or any(cls.__pydantic_complete__ for cls in self._left_out.values())


def _taken(kind: str, known: "type[BaseRunnable]", cls: "type[BaseRunnable]") -> str:
    if kind != cls.__fang_options__.kind:
        return (
            f"former kind {kind!r} of {_place(cls)} is taken by {_place(known)}: "
            "remove that class, or take the name from former_kinds"
        )
    if kind != known.__fang_options__.kind:
        return (
            f"kind {kind!r} of {_place(cls)} is a former kind of {_place(known)}: "
            f"give {_place(cls)} another: task_config = TaskConfig(kind='...')"
        )
    return (
        f"kind {kind!r} is already taken by {_place(known)}; "
        f"give {_place(cls)} another: task_config = TaskConfig(kind='...')"
    )


def _complete(kind: str, cls: "type[BaseRunnable]") -> None:
    """Resolves its forward references. Raises ``DefinitionError``."""
    try:
        cls.model_rebuild()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DefinitionError(f"kind {kind} ({_place(cls)}) cannot be completed: {reason}") from error


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
