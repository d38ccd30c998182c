"""Names that errors tell: of a class, and of the arguments that one takes when it is called with others."""

import inspect
from functools import wraps
from typing import Any, TypeVar

from fang_core.errors import WrongArguments

T = TypeVar("T")


def class_and_library(of: object) -> str:
    """Returns the name of an object's class after that of its library, as several have a class ``Connection``."""
    library = type(of).__module__.partition(".")[0]
    return type(of).__name__ if library == "builtins" else f"{library}.{type(of).__name__}"


def names_arguments(cls: type[T]) -> type[T]:
    """Decorates a class: a call with wrong arguments raises ``WrongArguments``, which lists the right ones."""
    init = cls.__init__
    signature = inspect.signature(init)
    names = ", ".join(list(signature.parameters)[1:])

    @wraps(init)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise WrongArguments(f"{cls.__name__}: {error}; its arguments are {names}") from None
        init(self, *args, **kwargs)

    setattr(cls, "__init__", checked)  # noqa: B010 - mypy sees no attribute in an assignment to it
    return cls
