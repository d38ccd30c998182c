"""Recognises objects of libraries that this one need not import."""

import sys
from typing import Any


def is_of(found: object, module: str, name: str) -> bool:
    """Returns whether an object is an instance of this class of a module: an application that has such an object has
    imported the module.

    While another thread imports it just now, the module may be there without the class; so no object is one of it yet.
    """
    cls: Any = getattr(sys.modules.get(module), name, ())
    return isinstance(found, cls)
