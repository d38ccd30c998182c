"""Makes the names and one-line texts of error messages: for classes, options, wrong arguments and other errors."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from functools import wraps
from typing import Any, TypeVar

from fang_core.errors import WrongArguments

T = TypeVar("T")


def class_and_library(of: object) -> str:
    """Returns the name of an object's class with its library's name, as several libraries have a ``Connection``."""
    library = type(of).__module__.partition(".")[0]
    return type(of).__name__ if library == "builtins" else f"{library}.{type(of).__name__}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, or the name of its class if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def no_option(name: str, options: Iterable[str]) -> str:
    """Returns a text that says that there is no such option, which one was probably meant, and which exist."""
    known = sorted(options)
    return f"there is no option {name!r}{meant(name, known)}; options are {', '.join(known)}"


def meant(name: str, known: Sequence[str]) -> str:
    """Returns a text that says which of the known names was probably meant; an empty one if none is like it."""
    near = difflib.get_close_matches(name, known, n=1) or [each for each in known if name in each]
    return f" (did you mean {near[0]!r}?)" if near else ""


def names_arguments(cls: type[T]) -> type[T]:
    """Decorates a class: a call with wrong arguments raises ``WrongArguments``, which lists the right ones."""
    init = cls.__init__
    signature = inspect.signature(init)
    names = list(signature.parameters)[1:]

    @wraps(init)
    def checked(self: T, *args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in names), None)
            suggestion = "" if unknown is None else meant(unknown, names)
            raise WrongArguments(f"{cls.__name__}: {error}{suggestion}; its arguments are {', '.join(names)}") from None
        init(self, *args, **kwargs)

    setattr(cls, "__init__", checked)  # noqa: B010 - mypy sees no attribute in an assignment to it
    return cls
