"""Finds the line of an application's own code that an exception came through, for logs to name."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from types import FrameType, TracebackType
from typing import Final, NamedTuple

_STDLIB: Final = os.path.dirname(os.__file__) + os.sep
_OURS: Final = str(Path(__file__).parents[2] / "fang_")  # next to fang_core
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
        """Returns whether the frame's file is installed, or is no real file (``<string>``, ``<frozen os>``)."""
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
    """Returns the innermost line of the application's own code, as ``file:line``; None if the traceback has none.

    Own code is neither in the standard library nor installed. An application may itself be installed, bundled, or typed
    in, so code in the package of ``module``, one of the application's, is its own too. Code without a file (made by
    ``dataclass``, or by ``exec``) is named only if there is nothing better.
    """
    return _own(_innermost_first(error), module)


def _own(frames: Iterable[_Frame], module: str) -> str | None:
    package = _package_of(module)
    own = [frame for frame in frames if _is_in(frame.module, package) or not frame.is_of_a_library]
    found = next((frame for frame in own if not frame.file.startswith("<")), own[0] if own else None)
    return None if found is None else str(found)


def place(error: BaseException, module: str) -> str | None:
    """Returns the innermost line of the application's own code, or of any code; None if the error was not raised."""
    return own_place(error, module) or next(map(str, _innermost_first(error)), None)


def place_in(frames: Iterable[FrameType], module: str) -> str | None:
    """Returns the place where code stands that has not ended, as ``place`` does; ``frames`` are innermost first."""
    known = [_Frame(frame.f_code.co_filename, frame.f_lineno, _module_of(frame)) for frame in frames]
    return _own(known, module) or next(map(str, known), None)


def own_traceback(error: BaseException, module: str) -> TracebackType | None:
    """Returns the traceback of an error without the frames at its beginning that lead from Fang to the own code.

    The whole traceback if other code comes first, or no own code at all: Fang or a library has raised it then.
    """
    package = _package_of(module)
    whole: TracebackType | None = vars(BaseException)["__traceback__"].__get__(error)
    begins = step = whole
    while step is not None:
        frame = _Frame(step.tb_frame.f_code.co_filename, step.tb_lineno, _module_of(step.tb_frame))
        if frame.file.startswith(_OURS):
            begins = step.tb_next
        elif _is_in(frame.module, package) or not frame.is_of_a_library:
            return begins
        elif not frame.file.startswith(_STDLIB):
            return whole
        step = step.tb_next
    return whole


def _innermost_first(error: BaseException) -> list[_Frame]:
    return list(_frames(error))[::-1]


def _frames(error: BaseException) -> Iterator[_Frame]:
    # Read through the built-in class, since a subclass may have replaced the attribute.
    step = vars(BaseException)["__traceback__"].__get__(error)
    while step is not None:
        yield _Frame(step.tb_frame.f_code.co_filename, step.tb_lineno, _module_of(step.tb_frame))
        step = step.tb_next


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _package_of(module: str) -> str:
    """Returns the outermost package that has a file: several applications may share a namespace above it."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return next((name for name in names if getattr(sys.modules.get(name), "__file__", None)), module)


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
