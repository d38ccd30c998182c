"""How a batch of outcomes is written, without I/O: which to send next, given how the last one went.

The plan is a generator that yields what to write and is sent a reply; both modes drive it with the same few lines. It
holds three rules:

- A refused batch is halved until the culprit stands alone; that task is failed with a fixed text, the rest is written.
- An outcome that found no row is tried once more alone; then it is *lost*: another pool, or a person, has the task.
- After a reply that never came, what is missing at the repeat counts as done: the first try may have been committed.
- What a run has completed in a transaction of its own comes last, and apart: missing is as good as written.
"""

from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.lifecycle import Outcome, unstorable

MOST_IN_A_BATCH: Final = 1_000


class Written(NamedTuple):
    """The statement was committed; ``ids`` are those that found their row."""

    ids: set[UUID]


class Refused(NamedTuple):
    """The backend refused the batch, and wrote none of it."""


class Unanswered(NamedTuple):
    """Nobody knows whether the batch was written. The same will be yielded again, when the backend answers."""


Reply = Written | Refused | Unanswered


class Report(NamedTuple):
    """How a plan ended."""

    lost: list[Outcome]
    unstorable: list[Outcome]


Plan = Generator[list[Outcome], Reply, Report]


def plan(outcomes: Sequence[Outcome]) -> Plan:
    """Yields batches to write until every outcome is written, lost, or failed as unstorable; returns the ``Report``."""
    report = Report([], [])
    # One outcome for each id in a batch: that of the latest attempt, the only one that can pass the fence.
    newest = {outcome.id: outcome for outcome in sorted(outcomes, key=attrgetter("attempt"))}
    # (batch, was it tried before, may it have been written unseen)
    by_runs = [outcome for outcome in newest.values() if outcome.completed_by_run]
    by_pool = [outcome for outcome in newest.values() if not outcome.completed_by_run]
    todo: list[tuple[list[Outcome], bool, bool]] = []
    if by_runs:
        todo.append((by_runs, False, True))
    if by_pool:
        todo.append((by_pool, False, False))
    while todo:
        batch, again, doubtful = todo.pop()
        reply = yield batch
        while isinstance(reply, Unanswered):
            doubtful = True
            reply = yield batch
        if isinstance(reply, Written):
            if doubtful:
                continue
            missing = [outcome for outcome in batch if outcome.id not in reply.ids]
            if again:
                report.lost.extend(missing)
            else:
                todo += [([outcome], True, False) for outcome in missing]
        elif len(batch) > 1:
            half = len(batch) // 2
            todo += [(batch[half:], again, doubtful), (batch[:half], again, doubtful)]
        else:
            substitute = unstorable(batch[0])
            if substitute == batch[0]:
                report.lost.append(batch[0])  # even the fixed text is refused: leave the row to rescue
            else:
                report.unstorable.append(batch[0])
                todo.append(([substitute], again, doubtful))
    return report
