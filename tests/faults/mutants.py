"""``make mutants``: shows that the faults can fail. Each mutant is the product with one defect, in a copy of its own.

The fault, or the test, that is named must then fail, and say why in the words that are expected: a mutant that merely
cannot start shows nothing. Arguments choose among the mutants by how their defect begins (``"fence dropped"``), and
leave the page alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.report import write_mutants

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("fang_core", "fang_postgres", "fang_threaded", "fang_async", "fang_embedded", "fang_cli", "alembic")


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
        return ("tests.faults", self.fault, self.mode)

    def __str__(self) -> str:
        return f"{self.fault}, {self.mode}"


class InTest(NamedTuple):
    """Shown by one test."""

    node: str

    @property
    def command(self) -> Sequence[str]:
        return ("pytest", "-q", "-p", "no:cacheprovider", self.node)

    def __str__(self) -> str:
        return self.node


Trial = InFault | InTest
"""A command exits with 0 where all holds, and with 1 where something does not."""


@dataclass(frozen=True)
class Mutant:
    """A defect; what must show it; and what is then said, a regular expression."""

    defect: str
    edits: Sequence[Edit]
    trial: Trial
    says: str


BOTH_MODES: Final = ("fang_threaded", "fang_async")

MUTANTS: Final = (
    Mutant(
        "fence dropped: an outcome is written whoever holds the task",
        [
            Edit(
                "fang_postgres/sql/outcomes.py",
                "is None else ids)),\n        c.pool_id == POOL,",
                "is None else ids)),\n        (c.pool_id == POOL) | (c.pool_id != POOL),",
            ),
            Edit(
                "fang_postgres/sql/outcomes.py",
                "Grouping(ATTEMPTS)[place] == c.attempt,",
                "Grouping(ATTEMPTS)[place] <= c.attempt,",
            ),
        ],
        InFault("F04", "threaded"),
        r"I4 \(fenced\): .* while its run went on",
    ),
    Mutant(
        "rescue by age: a run of three seconds is taken away",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "all_(array_of(select(t.pools.c.id)))",
                "all_(array_of(select(t.pools.c.id)"
                """.where(t.pools.c.started_at > func.now() - cast(literal_column("'3 s'"), Interval))))""",
            ),
            *(Edit(f"{mode}/heartbeat.py", "SWEEP_EVERY: Final = 15", "SWEEP_EVERY: Final = 1") for mode in BOTH_MODES),
        ],
        InFault("F11", "threaded"),
        r"I5 \(counted\): .* charged with a crash of a live pool",
    ),
    Mutant(
        "flush dropped: what waits to be written at a stop is forgotten",
        [
            Edit(
                "fang_threaded/completer.py",
                "        self._outcomes.put(flushed)\n        flushed.wait(within)",
                "        self._outcomes = SimpleQueue()",
            )
        ],
        InFault("F05", "threaded"),
        r"left tasks held",
    ),
    Mutant(
        "claim in two statements: rows are chosen without a lock, and marked later",
        [
            Edit(
                "fang_postgres/sql/fragments.py",
                """        .with_for_update(
            key_share=True, skip_locked=True, of=task
        )""",
                "        ",
            )
        ],
        InFault("F37", "threaded"),
        r"I4 \(fenced\): .* was claimed while it was in_progress",
    ),
    Mutant(
        "crash not counted",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "crashes=case((is_charged, crashes), else_=c.crashes),",
                "crashes=c.crashes,",
            )
        ],
        InFault("F03", "threaded"),
        r"I5 \(counted\)",
    ),
    Mutant(
        "a suspect runs beside others, and is charged with them",
        [
            Edit("fang_core/lifecycle.py", "    return task.crashes >= SUSPECT_AFTER", "    return False"),
            Edit(
                "fang_postgres/sql/liveness.py",
                "or_(c.crashes < suspect_from, is_alone)",
                "or_(c.crashes >= literal_column('0'), is_alone)",
            ),
        ],
        InFault("F08 beside innocents, 8", "threaded"),
        r"an innocent was not finished",
    ),
    Mutant(
        "give-back charged",
        [
            Edit(
                "fang_core/lifecycle.py",
                "        case NotRun():\n            return Outcome(task.id, task.attempt, _waiting_state(task))",
                "        case NotRun():\n            return Outcome(task.id, task.attempt, TaskState.RETRIED, None, 1)",
            )
        ],
        InFault("F05", "threaded"),
        r"I4 \(fenced\).* failed without a run",
    ),
    Mutant(
        "reconcile off: what a lost reply had claimed stays held",
        [
            Edit(
                f"{mode}/claimer.py",
                f"count = {wait}shift.store.reconcile(shift.id, shift.holdings.known())",
                "count = 0",
            )
            for mode, wait in (("fang_threaded", ""), ("fang_async", "await "))
        ],
        InFault("F20 on claim", "async"),
        r"did not come true",
    ),
    Mutant(
        "complete() outside of the caller's transaction: the pool writes it when the run has ended",
        [
            Edit(
                "fang_threaded/queue.py",
                "            callers.run(self._operations.complete_one(run))",
                "            pass",
            )
        ],
        InFault("F02 as one", "threaded"),
        r"one effect of each task",
    ),
    Mutant(
        "after a lost reply, a missing row counts as lost",
        [Edit("fang_core/completion.py", "            if doubtful:\n                continue\n", "")],
        InFault("F20 on completion", "async"),
        r"was taken for lost",
    ),
    Mutant(
        "cursor without the xid rule: what commits late is behind it",
        [Edit("fang_core/cursor.py", "            self._lower(self._before(min(ended)))", "            pass")],
        InTest("tests/core/test_cursor.py::test_a_row_is_found_by_the_second_claim_after_its_commit"),
        r"assert table\.claimed\[row\.number\] <= after\[1\]",
    ),
    Mutant(
        "cursor without look-backs: a due time that was set by hand is behind it",
        [Edit("fang_core/cursor.py", "(_Step(10.0, None), _Step(1.0, 10.0), _Step(0.1, 1.0))", "()")],
        InTest("tests/core/test_cursor.py::test_the_ladder_finds_times_that_were_set_by_hand"),
        r"KeyError: 1000",
    ),
    Mutant(
        "a free lock is believed after all were let go, without having been seen held since",
        [
            Edit(
                "fang_core/liveness.py",
                "self._undoubted(beat) >= pulse.lease or held.get(pulse.pool_id, -inf) > started",
                "True",
            )
        ],
        InTest("tests/core/test_liveness.py::test_when_all_locks_were_let_go_each_may_be_away_for_its_own_lease"),
        r"assert not \{UUID",
    ),
    Mutant(
        "prefetch never given back: what was claimed ahead waits for long runs",
        [Edit("fang_core/stock.py", "now - batch.at < PATIENCE", "now - batch.at < 3600 * PATIENCE")],
        InTest("tests/waking/test_patience.py::test_what_waits_behind_long_runs_is_run_by_another_pool"),
        r"only 0 of 20 tasks ran in time",
    ),
    Mutant(
        "a free worker is believed: a pool whose loop computes claims on what it cannot start, and gives it back",
        [Edit("fang_core/demand.py", "if target > most:", "if target > 1_000 * most:")],
        InTest("tests/core/test_sharing.py::test_pools_that_come_later_run_what_waits_in_others"),
        r"assert sum\(table\.claims\) <= len\(computes\)",
    ),
    Mutant(
        "plan guard off: slow claims are noticed, and plans stay as they are",
        [Edit("fang_core/guard.py", "self._until = now + GUARDED_FOR", "self._until = now")],
        InTest("tests/postgres/test_guard.py::TestInTheTrap::test_claims_come_out_of_the_trap"),
        r"ValueError: .* is not in list",
    ),
)


def main() -> int:
    words = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not words or any(mutant.defect.startswith(word) for word in words)]
    if not mutants:
        print(f"no defect begins with {' or '.join(words)}; there are:")
        print(*(mutant.defect for mutant in MUTANTS), sep="\n")
        return 2
    for trial in dict.fromkeys(mutant.trial for mutant in mutants):
        code, said = _try(trial, [])
        if code != 0:
            print(f"{trial} fails without a defect, so it shows nothing:\n{said}")
            return 1
        print(f"holds without a defect: {trial}", flush=True)
    caught = [_is_caught(mutant) for mutant in mutants]
    if not words and all(caught):
        write_mutants([(mutant.defect, str(mutant.trial)) for mutant in mutants])
    return 0 if all(caught) else 1


def _is_caught(mutant: Mutant) -> bool:
    code, said = _try(mutant.trial, mutant.edits)
    is_caught = code == 1 and re.search(mutant.says, said) is not None
    print(f"{'caught' if is_caught else 'SURVIVED'} by {mutant.trial}: {mutant.defect}", flush=True)
    if not is_caught:
        print(said)
    return is_caught


def _try(trial: Trial, edits: Sequence[Edit]) -> tuple[int, str]:
    """The exit code of the trial on a copy of the product, and all that it said."""
    with tempfile.TemporaryDirectory() as copy:
        for name in COPIED:
            shutil.copytree(ROOT / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            _apply(edit, Path(copy))
        tried = subprocess.run(
            [sys.executable, "-P", "-m", *trial.command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([copy, str(ROOT)])},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    return tried.returncode, tried.stdout + tried.stderr


def _apply(edit: Edit, copy: Path) -> None:
    path = copy / edit.file
    source = path.read_text()
    assert source.count(edit.text) == 1, f"{edit.file} has {source.count(edit.text)} times: {edit.text}"
    path.write_text(source.replace(edit.text, edit.instead))


if __name__ == "__main__":
    sys.exit(main())
