"""Has a package import some of its public names when they are first used: their modules take time, or need a driver."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package: it imports a name from its module, given by name, and keeps it.

    ``dir`` of the package tells all of the names, for those who type them.
    What the import raises is raised where the name is used. Type checkers are to see an import instead: a
    ``__getattr__`` would have them believe in any name.
    """

    def get(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    own = sys.modules[package]
    own.__dir__ = lambda: sorted({*vars(own), *modules})  # type: ignore[method-assign]
    return get
