"""Checks that the two modes do not repeat each other: what both need stands in the core, or in what a backend shares.

Run by ``make check``. Two modules are compared line by line once the colour is taken off: ``async`` and ``await``, the
prefix of names, the names of the modes and of their drivers. Lines count as often as they stand in both.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

MOST_SHARED: Final = 0.4
"""The share of the shorter module's lines that another one may have, too."""

SHORTEST: Final = 16
"""Lines; a module that has fewer says nothing."""

_QUEUE: Final = "the public class of a mode: its constructor and docstrings are what an editor shows to its users"

EXCEPTIONS: Final[Mapping[str, str]] = {
    "queue.py": _QUEUE,
    "pool.py": "the public class of a mode: its signatures and docstrings are what an editor shows to its users",
}
"""Modules that may share more with the other mode's module of the same name, each with the reason."""

_SHORT: Final = "implements an interface in short methods, of which the signatures and docstrings are most"


class Modes(NamedTuple):
    """Where the modes of a package stand, as paths from the root.

    Attributes:
        one: the folder of one mode.
        others: those of the other one, and of what both share.
        exceptions: see ``EXCEPTIONS``.
    """

    one: str
    others: tuple[str, ...]
    exceptions: Mapping[str, str]


ALL_MODES: Final = (
    Modes("fang_async", ("fang_threaded",), EXCEPTIONS),
    Modes(
        "fang_redis/aio",
        ("fang_redis", "fang_redis/connections", "fang_redis/pools"),
        {"queue.py": _QUEUE, "driver.py": _SHORT, "listening.py": _SHORT},
    ),
)

_COLOUR: Final = (
    (re.compile(r"\b(?:async|await) "), ""),
    (re.compile(r"\b[Aa]sync(?=[A-Z_])"), ""),
    (re.compile(r"\bfang_(?:async|threaded)\b"), "fang_mode"),
    (re.compile(r"\basyncio\b"), "threading"),
    (re.compile(r"\basyncpg\b"), "psycopg"),
    (re.compile(r"\b__a(?=enter__|exit__)"), "__"),
)


class Repetition(NamedTuple):
    """Two modules that share too much."""

    one: str
    other: str
    share: float

    def __str__(self) -> str:
        return f"{self.one} and {self.other} share {self.share:.0%} of the shorter one's lines"


def repetitions(one: Path, other: Path, exceptions: Mapping[str, str] = EXCEPTIONS) -> Iterator[Repetition]:
    """Compares each module of a package with each of another one, and yields those that share too much."""
    theirs = {path.name: colourless(path.read_text()) for path in sorted(other.glob("*.py"))}
    for path in sorted(one.glob("*.py")):
        ours = colourless(path.read_text())
        for name, lines in theirs.items():
            if path.name == name and name in exceptions:
                continue
            share = shared(ours, lines)
            if share > MOST_SHARED:
                yield Repetition(f"{one.name}/{path.name}", f"{other.name}/{name}", share)


def shared(ours: list[str], theirs: list[str]) -> float:
    """Returns the share of the shorter one's lines that stand in both; 0.0 if it is very short."""
    shorter = min(len(ours), len(theirs))
    return (Counter(ours) & Counter(theirs)).total() / shorter if shorter >= SHORTEST else 0.0


def colourless(source: str) -> list[str]:
    """Returns the lines of a module without its colour, without blank lines and comments."""
    for pattern, replacement in _COLOUR:
        source = pattern.sub(replacement, source)
    lines = (line.strip() for line in source.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    found = [
        repetition
        for one, others, exceptions in ALL_MODES
        for other in others
        for repetition in repetitions(root / one, root / other, exceptions)
    ]
    for repetition in found:
        print(f"{repetition}: write once what both need, in fang_core, or in what the backend shares")
    sys.exit(bool(found))
