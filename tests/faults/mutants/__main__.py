"""``make mutants``: shows that the faults can fail. Each mutant is the product with one defect, in a copy of its own.

The fault, or the test, that is named must then fail, and say why in the words that are expected: a mutant that merely
cannot start shows nothing, and neither does a trial that fails without a defect. Arguments choose among the mutants by
how their defect begins (``"fence dropped"``), and leave the page alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults.mutants import MUTANTS
from tests.faults.mutants.mutant import ROOT, Edit, InTest, InTests, Mutant, Trial
from tests.faults.report import write_mutants

COPIED: Final = (
    "fang_core",
    "fang_isolation",
    "fang_postgres",
    "fang_threaded",
    "fang_async",
    "fang_sqlite",
    "fang_redis",
    "fang_embedded",
    "fang_web",
    "fang_cli",
    "alembic",
)


WITHIN: Final = 300.0
"""Seconds within which a trial must end, with a defect or without."""


def main() -> int:
    words = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not words or any(mutant.defect.startswith(word) for word in words)]
    if not mutants:
        print(f"no defect begins with {' or '.join(words)}; there are:")
        print(*(mutant.defect for mutant in MUTANTS), sep="\n")
        return 2
    holding = _holding(list(dict.fromkeys(mutant.trial for mutant in mutants)))
    caught = [mutant for mutant in mutants if mutant.trial in holding and _is_caught(mutant)]
    print(f"{len(caught)} of {len(mutants)} were caught")
    if not words and caught == mutants:
        write_mutants([(mutant.defect, str(mutant.trial)) for mutant in mutants])
    return 0 if caught == mutants else 1


def _holding(trials: Sequence[Trial]) -> set[Trial]:
    """Those that hold without a defect: the others show nothing with one."""
    tests = [trial for trial in trials if isinstance(trial, InTest)]
    are_holding = len(tests) > 1 and _holds(InTests([test.node for test in tests]))
    holding: set[Trial] = set(tests) if are_holding else set()
    return holding | {trial for trial in trials if trial not in holding and _holds(trial)}


def _holds(trial: Trial | InTests) -> bool:
    """Whether all holds without a defect."""
    code, said = _try(trial, [])
    print(f"{'holds' if code == 0 else 'FAILS'} without a defect: {trial}", flush=True)
    if code != 0:
        print(said)
    return code == 0


def _is_caught(mutant: Mutant) -> bool:
    code, said = _try(mutant.trial, mutant.edits)
    is_caught = code == 1 and re.search(mutant.says, said) is not None
    print(f"{'caught' if is_caught else 'SURVIVED'} by {mutant.trial}: {mutant.defect}", flush=True)
    if not is_caught:
        print(said)
    return is_caught


def _try(trial: Trial | InTests, edits: Sequence[Edit]) -> tuple[int | None, str]:
    """The exit code of the trial on a copy of the product, and all that it said; None if it did not end in time."""
    with tempfile.TemporaryDirectory() as copy:
        for name in COPIED:
            shutil.copytree(ROOT / name, Path(copy, name))  # with what is compiled: an edit makes its file newer
        for edit in edits:
            _apply(edit, Path(copy))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([copy, str(ROOT)])}
        if any(edit.file.startswith("fang_postgres/sql/") for edit in edits):
            subprocess.run([sys.executable, "-P", "-m", "tests.postgres.filed"], cwd=ROOT, env=env, check=True)
        with subprocess.Popen(
            [sys.executable, "-P", "-m", *trial.command],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()  # and all that it started ends with it
                said, _ = process.communicate()
                return None, f"{said}\nit did not end within {WITHIN:.0f} s"
    return process.returncode, said


def _apply(edit: Edit, copy: Path) -> None:
    path = copy / edit.file
    source = path.read_text()
    assert source.count(edit.text) == 1, f"{edit.file} has {source.count(edit.text)} times: {edit.text}"
    path.write_text(source.replace(edit.text, edit.instead))


if __name__ == "__main__":
    sys.exit(main())
