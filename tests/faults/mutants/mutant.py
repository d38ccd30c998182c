"""Defines what a mutant is: a defect, the edits that build it in, and the fault or the test that must show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[3]
"""The folder from which the files of edits are named."""


@dataclass(frozen=True)
class Edit:
    """A text that stands exactly once in a file, and what takes its place."""

    file: str
    text: str
    instead: str


class InFault(NamedTuple):
    """Shown by one fault in one mode."""

    fault: str
    mode: str

    @property
    def command(self) -> Sequence[str]:
        return ("tests.faults", "--exact", self.fault, self.mode)

    def __str__(self) -> str:
        return f"{self.fault}, {self.mode}"


class InTest(NamedTuple):
    """Shown by one test."""

    node: str

    @property
    def command(self) -> Sequence[str]:
        return InTests((self.node,)).command

    def __str__(self) -> str:
        return self.node


class InTests(NamedTuple):
    """Several tests, in one process: most of what one takes is the start of pytest."""

    nodes: Sequence[str]

    @property
    def command(self) -> Sequence[str]:
        return ("pytest", "-q", "-p", "no:cacheprovider", "-x", *self.nodes)

    def __str__(self) -> str:
        return f"{len(self.nodes)} tests"


Trial = InFault | InTest
"""A command exits with 0 where all holds, and with 1 where something does not."""


@dataclass(frozen=True)
class Mutant:
    """A defect; what must show it; and what is then said, a regular expression."""

    defect: str
    edits: Sequence[Edit]
    trial: Trial
    says: str
