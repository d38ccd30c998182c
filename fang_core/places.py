"""The line of an application's own code that an exception came through: what a log can name of it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final, NamedTuple

_STDLIB: Final = os.path.dirname(os.__file__) + os.sep
_OURS: Final = str(Path(__file__).parents[1] / "fang_")
_INSTALLED: Final = frozenset(
    {"site-packages", "dist-packages", f"python{sys.version_info[0]}{sys.version_info[1]}.zip"}
)
_LONGEST_FILE: Final = 300


class _Frame(NamedTuple):
    file: str
    line: int | None
    module: str

    @property
    def is_of_a_library(self) -> bool:
        """Whether its file says so: installed, or no file of this machine (``<string>``, ``<frozen os>``)."""
        is_file = os.path.isabs(self.file)
        return (
            not is_file
            or self.file.startswith((_STDLIB, _OURS))
            or not _INSTALLED.isdisjoint(PurePath(self.file).parts)
        )

    def __str__(self) -> str:
        file = "".join(character if character.isprintable() else "?" for character in self.file[-_LONGEST_FILE:])
        return file if self.line is None else f"{file}:{self.line}"


def own_place(error: BaseException, module: str) -> str | None:
    """The innermost line of the application's own code, as ``file:line``; None where the exception met none of it.

    Own is what stands neither in the standard library nor among what is installed; and, since an application may be
    installed itself, bundled, or typed in, whatever belongs to the package of ``module``, one of its own. Code without
    a file (made by ``dataclass``, or by ``exec``) is named only where there is nothing better.
    """
    package = _package_of(module)
    own = [frame for frame in _innermost_first(error) if _is_in(frame.module, package) or not frame.is_of_a_library]
    found = next((frame for frame in own if not frame.file.startswith("<")), own[0] if own else None)
    return None if found is None else str(found)


def place(error: BaseException, module: str) -> str | None:
    """The innermost line of the application's own code, else of any; None where the exception was not raised."""
    return own_place(error, module) or next(map(str, _innermost_first(error)), None)


def _innermost_first(error: BaseException) -> list[_Frame]:
    return list(_frames(error))[::-1]


def _frames(error: BaseException) -> Iterator[_Frame]:
    # The attribute of the built-in class: a subclass may have put anything in its place.
    step = vars(BaseException)["__traceback__"].__get__(error)
    while step is not None:
        yield _Frame(step.tb_frame.f_code.co_filename, step.tb_lineno, str(step.tb_frame.f_globals.get("__name__")))
        step = step.tb_next


def _package_of(module: str) -> str:
    """The outermost package that has a file of its own: several applications may share a namespace above it."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return next((name for name in names if getattr(sys.modules.get(name), "__file__", None)), module)


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
