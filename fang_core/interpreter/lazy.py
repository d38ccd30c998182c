"""Imports the public names of a package when they are first used: their modules take time, or need a driver."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

PUBLIC: Final = "fang_core.public"
"""The module of the names that the core and the modes offer."""


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package: it imports a name from its module, given by name, and keeps it.

    ``dir`` of the package lists all names, for completion. An error of the import is raised at the first use of the
    name. Let type checkers see an import instead: with a ``__getattr__`` they would accept any name.
    """
    return _getattr(package, modules.get, lambda: modules)


def offering(package: str, own: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package that offers what ``fang_core.public`` does, after names of its own.

    It is as ``lazily`` says. ``__all__`` of the package comes from it, too.
    """

    def names() -> tuple[str, ...]:
        return (*own, *import_module(PUBLIC).__all__)

    def module_of(name: str) -> str | None:
        return own.get(name) or (PUBLIC if name in names() else None)

    get = _getattr(package, module_of, names)
    return lambda name: names() if name == "__all__" else get(name)


def _getattr(package: str, module_of: Callable[[str], str | None], names: Callable[[], Any]) -> Callable[[str], Any]:
    itself = sys.modules[package]

    def get(name: str) -> Any:
        module = module_of(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=itself)
        value = getattr(import_module(module), name)
        setattr(itself, name, value)
        return value

    itself.__dir__ = lambda: sorted({*vars(itself), *names()})  # type: ignore[method-assign]
    return get
