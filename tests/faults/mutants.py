"""``make mutants``: shows that the faults can fail. Each mutant is the product with one defect, in a copy of its own.

The fault that is named must then fail, and say why in the words that are expected: a mutant that merely cannot start
shows nothing.
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
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("fang_core", "fang_postgres", "fang_threaded", "fang_async", "fang_cli", "alembic")


@dataclass(frozen=True)
class Edit:
    """A text that stands exactly once in a file, and what takes its place."""

    file: str
    text: str
    instead: str


@dataclass(frozen=True)
class Mutant:
    """A defect; the fault and mode that must show it; and what is then said."""

    defect: str
    edits: Sequence[Edit]
    fault: tuple[str, str]
    says: str


BOTH_MODES: Final = ("fang_threaded", "fang_async")

MUTANTS: Final = (
    Mutant(
        "fence dropped: an outcome is written whoever holds the task",
        [
            Edit(
                "fang_postgres/sql/outcomes.py",
                "func.unnest(IDS)))),\n        c.pool_id == POOL,",
                "func.unnest(IDS)))),\n        (c.pool_id == POOL) | (c.pool_id != POOL),",
            ),
            Edit(
                "fang_postgres/sql/outcomes.py",
                "Grouping(ATTEMPTS)[place] == c.attempt,",
                "Grouping(ATTEMPTS)[place] <= c.attempt,",
            ),
        ],
        ("F04", "threaded"),
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
        ("F11", "threaded"),
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
        ("F05", "threaded"),
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
        ("F37", "threaded"),
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
        ("F03", "threaded"),
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
        ("F08 beside innocents, 8", "threaded"),
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
        ("F05", "threaded"),
        r"I4 \(fenced\).* failed without a run",
    ),
    Mutant(
        "reconcile off: what a lost reply had claimed stays held",
        [
            Edit(
                f"{mode}/claimer.py",
                f"count = {wait}pool._store.reconcile(pool.id, pool._holdings.known())",
                "count = 0",
            )
            for mode, wait in (("fang_threaded", ""), ("fang_async", "await "))
        ],
        ("F20 on claim", "async"),
        r"did not come true",
    ),
    Mutant(
        "complete() outside of the caller's transaction: the pool writes it when the run has ended",
        [
            Edit(
                "fang_threaded/queue.py",
                "            run_on(connection, self._operations.complete_one(run))",
                "            pass",
            )
        ],
        ("F02 as one", "threaded"),
        r"one effect of each task",
    ),
    Mutant(
        "after a lost reply, a missing row counts as lost",
        [Edit("fang_core/completion.py", "            if doubtful:\n                continue\n", "")],
        ("F20 on completion", "async"),
        r"was taken for lost",
    ),
)


def main() -> int:
    survivors = 0
    faults = sorted({mutant.fault for mutant in MUTANTS})
    for fault in faults:
        code, said = _try(fault, [])
        if code != 0:
            print(f"{' '.join(fault)} fails without a defect, so it shows nothing:\n{said}")
            return 1
    print(f"without a defect: {', '.join(' '.join(fault) for fault in faults)} hold", flush=True)
    for mutant in MUTANTS:
        code, said = _try(mutant.fault, mutant.edits)
        is_caught = code == 1 and re.search(mutant.says, said) is not None
        print(f"{'caught' if is_caught else 'SURVIVED'} by {' '.join(mutant.fault)}: {mutant.defect}", flush=True)
        if not is_caught:
            survivors += 1
            print(said)
    return 1 if survivors else 0


def _try(fault: tuple[str, str], edits: Sequence[Edit]) -> tuple[int, str]:
    """The exit code of ``make faults`` for one fault in one mode, on a copy of the product, and all that it said."""
    with tempfile.TemporaryDirectory() as copy:
        for name in COPIED:
            shutil.copytree(ROOT / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            _apply(edit, Path(copy))
        tried = subprocess.run(
            [sys.executable, "-P", "-m", "tests.faults", *fault],
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
