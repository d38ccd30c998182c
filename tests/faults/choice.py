"""What the arguments of ``python -m tests.faults`` choose: which faults are tried, and in which modes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.registry import ALL_MODES, TRIALS, Fault
from tests.faults.trial import Mix

_EPILOG: Final = """\
Without arguments all faults of all backends are tried, and with --backend alone all of that one: docs/faults.md then
gets the tables. SEED=7 in the environment repeats the schedule of a run that printed it. There are:
"""


class Choice(NamedTuple):
    """The trials; ``is_whole`` where nothing of a backend is left out, so that its table can be written; ``kept`` is
    where the logs and the ledger of a trial go that did not hold."""

    trials: list[tuple[Fault, Mix]]
    is_whole: bool
    kept: Path | None


def choose(matrix: Sequence[Fault], arguments: Sequence[str]) -> Choice:
    """Reads the arguments; ends the process, with 2, if they name a fault that there is not, or none at all."""
    parser = _parser(matrix)
    given = parser.parse_args(arguments)
    modes = [word for word in given.words if word in ALL_MODES]
    ids = [word for word in given.words if word not in ALL_MODES]
    of_backend = [fault for fault in matrix if given.backend in {None, fault.backend}]
    for id in ids:
        if not any(_is_named(fault, id, given.exact) for fault in of_backend):
            parser.error(
                f"there is no fault {id!r}{f' of {given.backend}' if given.backend else ''}; --help lists them"
            )
    named = [fault for fault in of_backend if not ids or any(_is_named(fault, id, given.exact) for id in ids)]
    trials = [(fault, mix) for fault in named for mix in fault.modes if not modes or mix in modes]
    if not trials:
        parser.error(f"{', '.join(fault.id for fault in named)} is not tried in {' or '.join(modes)}")
    return Choice(trials, is_whole=not given.words, kept=given.keep)


def _is_named(fault: Fault, id: str, exact: bool) -> bool:
    return id == fault.id or (not exact and id == fault.id.split()[0])


def _parser(matrix: Sequence[Fault]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.faults",
        description="Tries faults, and exits with 1 if an invariant was violated or a trial failed.",
        epilog=_EPILOG + "\n".join(f"  {fault.id}: {fault.what}" for fault in matrix),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="FAULT|MODE", help="F04, 'F04 by default', async; all by default")
    parser.add_argument("--backend", choices=sorted(TRIALS), help="only faults of this backend")
    parser.add_argument("--exact", action="store_true", help="F04 is F04 alone, not also 'F04 by default'")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where to keep what a trial wrote that did not hold"
    )
    return parser
