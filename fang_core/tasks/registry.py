"""Maps kinds to the task classes that this process knows."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from fang_core.errors import DefinitionError, DuplicateKind
from fang_core.logs import SafeLogger
from fang_core.words.naming import first_line

if TYPE_CHECKING:
    from fang_core.tasks.runnable import BaseRunnable

logger = SafeLogger("fang_core")

Mode = Literal["threaded", "async"]


class Registry:
    """Holds the task classes by kind. Classes register themselves when they are defined.

    The same definition may run again (a reload, a notebook's cell, ``python app.py`` and then ``import app``) and
    replaces the earlier class; another definition of a taken kind is an error that names both places.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[BaseRunnable]] = {}
        self.version = 0
        """Increases with every change, so that a pool can see that it has to read the registry again."""

    def add(self, kinds: Sequence[str], cls: "type[BaseRunnable]") -> None:
        """Adds a class under its kinds, the present one first, then the former ones. Raises ``DuplicateKind``."""
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
        """Returns the class of a kind, or None if this process does not know it."""
        return self._classes.get(kind)

    def classes(self) -> "list[type[BaseRunnable]]":
        """Returns all classes, of both modes; forward references may be open."""
        return list(self._classes.copy().values())

    def runnable_kinds(self, mode: Mode) -> "Mapping[str, type[BaseRunnable]]":
        """Returns the classes that a pool of this mode can run, with their forward references resolved.

        Raises ``DefinitionError`` if one names a type that cannot be found.
        """
        found = self.kinds(mode)
        for kind, cls in found.items():
            _complete(kind, cls)
        return MappingProxyType(found)

    def kinds(self, mode: Mode) -> "dict[str, type[BaseRunnable]]":
        """Returns the classes of this mode, under their former kinds too; forward references may be open."""
        return {kind: cls for kind, cls in self._classes.copy().items() if cls.__fang_mode__ == mode}


REGISTRY = Registry()
"""The registry that task classes register with."""


LOOK_AGAIN: Final = 1.0
"""Seconds until classes that name a missing type are tried again: the registry does not hear when it is defined."""


class Kinds:
    """Holds the classes that a pool runs, as it last read the registry.

    Raises ``DefinitionError`` when it is made if a class cannot be completed. A class that is defined later is left
    out, and logged once, until it can be completed: the type that it names may be defined after it.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode: Mode = mode
        self._version = REGISTRY.version  # taken before reading: a class that is added meanwhile is read the next time
        self.classes: Mapping[str, type[BaseRunnable]] = REGISTRY.runnable_kinds(mode)
        """The classes by kind."""
        self._left_out: dict[str, type[BaseRunnable]] = {}
        self._look_again_at = 0.0

    @property
    def is_behind(self) -> bool:
        """Returns whether ``learn`` may find other classes; any thread may ask."""
        return self._version != REGISTRY.version or bool(self._left_out)

    def learn(self, mono: float) -> bool:
        """Reads the registry again if it has changed or a left-out class may be complete.

        Returns whether the classes changed. ``mono`` is in seconds of one monotonic clock.
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
                    classes[kind] = former[kind]  # tasks of this kind may be running
                if former_left_out.get(kind) is not cls:
                    logger.warning("%s; it is left out until it can be", error)
        self._look_again_at = mono + LOOK_AGAIN
        self.classes = MappingProxyType(classes)
        return self.classes != former

    def class_of(self, kind: str) -> "type[BaseRunnable]":
        """Returns the class of a kind. Raises ``KeyError`` if there is none."""
        return self.classes[kind]

    def _may_be_complete(self, mono: float) -> bool:
        """Returns whether to try the left-out classes again; using such a class may have completed it meanwhile."""
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
    """Resolves the class's forward references. Raises ``DefinitionError``."""
    try:
        cls.model_rebuild()
    except Exception as error:
        reason = first_line(error)
        raise DefinitionError(f"kind {kind} ({_place(cls)}) cannot be completed: {reason}") from error


def _module_of(cls: type) -> str:
    """Returns the name by which other code imports the class's module, even if it runs as ``python -m``."""
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
