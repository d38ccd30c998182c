"""Plans how a batch of outcomes is written, without I/O: which outcomes to send next, given the last reply.

The plan is a generator that yields outcomes to write and is sent a reply; both modes drive it with the same few lines.
It follows these rules:

- A refused batch is halved until the culprit is alone, and the rest is written. The culprit is tried again with its
  texts in ASCII, since the database's encoding may lack a character; then that task is failed with a fixed text.
- An outcome that found no row is tried once more alone; then it is *lost*: another pool, or a person, has the task.
- After a reply that never came, outcomes that are missing at the repeat count as written: the first try may have been
  committed.
- Outcomes of tasks that runs completed in transactions of their own come last, in a batch of their own: missing is as
  good as written.
- Outcomes of rows that another session has locked hold up no other outcome: they are neither written nor missing, and
  are reported, to be tried again later.
"""

from collections.abc import Collection, Generator, Iterable, Sequence, Set
from operator import itemgetter
from typing import Final, NamedTuple
from uuid import UUID

from fang_core.errors import BackendError, BackendUnavailable, NotConnected
from fang_core.lifecycle import Outcome, spelled, unstorable

MOST_IN_A_BATCH: Final = 1_000

_ATTEMPT, _BY_RUN, _DOUBTFUL = (
    itemgetter(Outcome._fields.index(name)) for name in ("attempt", "completed_by_run", "doubtful")
)


class Written(NamedTuple):
    """The batch was committed. ``ids`` are the outcomes that found their row; ``locked`` ones were not written."""

    ids: Set[UUID]
    locked: Set[UUID] = frozenset()


class Refused(NamedTuple):
    """The backend refused the batch, and wrote none of it."""


class Unwritten(NamedTuple):
    """The batch was not written, through no fault of its own. The plan yields it again."""


class Unanswered(NamedTuple):
    """It is unknown whether the batch was written. The plan yields it again."""


Reply = Written | Refused | Unwritten | Unanswered


class Report(NamedTuple):
    """Says how a plan ended; the ``locked`` outcomes must be planned again."""

    lost: list[Outcome]
    unstorable: list[Outcome]
    locked: list[Outcome]


Plan = Generator[list[Outcome], Reply, Report]


def reply_of(error: Exception) -> Unwritten | Unanswered:
    """Returns the reply for an error other than a refusal: a backend's error is definite, unless it did not answer."""
    is_open = isinstance(error, BackendUnavailable) and not isinstance(error, NotConnected)
    return Unwritten() if isinstance(error, BackendError) and not is_open else Unanswered()


def plan(outcomes: Sequence[Outcome]) -> Plan:
    """Yields batches until every outcome is written, lost, failed as unstorable, or locked; returns the ``Report``."""
    report = Report([], [], [])
    # Each id has one outcome in a batch: that of the latest attempt, the only one that can pass the fence.
    newest = {outcome.id: outcome for outcome in sorted(outcomes, key=_ATTEMPT)}
    # (batch, whether it was tried before, whether it may have been written without a reply)
    unsure = _unsure(newest.values())
    sure = without(newest.values(), unsure)
    todo: list[tuple[list[Outcome], bool, bool]] = []
    if unsure:
        todo.append((unsure, False, True))
    if sure:
        todo.append((sure, False, False))
    while todo:
        batch, again, doubtful = todo.pop()
        reply = yield batch
        while isinstance(reply, Unanswered | Unwritten):
            doubtful = doubtful or isinstance(reply, Unanswered)
            reply = yield batch
        if isinstance(reply, Written):
            locked = [outcome for outcome in batch if outcome.id in reply.locked] if reply.locked else []
            report.locked.extend(outcome._replace(doubtful=doubtful) for outcome in locked)
            if doubtful:
                continue
            missing = _without_ids(batch, reply.ids | reply.locked if reply.locked else reply.ids)
            if again:
                report.lost.extend(missing)
            else:
                todo += [([outcome], True, False) for outcome in missing]
        elif len(batch) > 1:
            half = len(batch) // 2
            todo += [(batch[half:], again, doubtful), (batch[:half], again, doubtful)]
        else:
            todo += [([substitute], again, doubtful) for substitute in _instead_of(batch[0], report)]
    return report


def _instead_of(refused: Outcome, report: Report) -> list[Outcome]:
    """Returns the outcome to write instead of a refused one, if any; outcomes that are given up go to the report."""
    in_ascii = spelled(refused)
    if in_ascii != refused:
        return [in_ascii]
    fixed = unstorable(refused)
    if fixed != refused:
        report.unstorable.append(refused)
        return [fixed]
    report.lost.append(refused)  # even the fixed text is refused: leave the row to rescue
    return []


def _unsure(outcomes: Collection[Outcome]) -> list[Outcome]:
    """Returns the outcomes that may be written already; usually there are none, as two looks in C can tell."""
    if not (any(map(_BY_RUN, outcomes)) or any(map(_DOUBTFUL, outcomes))):
        return []
    return [outcome for outcome in outcomes if outcome.completed_by_run or outcome.doubtful]


def _without_ids(outcomes: Iterable[Outcome], ids: Set[UUID]) -> list[Outcome]:
    """Returns the outcomes except those of these tasks."""
    return [outcome for outcome in outcomes if outcome.id not in ids]


def without(outcomes: Iterable[Outcome], left_out: Sequence[Outcome]) -> list[Outcome]:
    """Returns the outcomes except those for the same claims as ``left_out``."""
    if not left_out:
        return list(outcomes)
    claims = {(outcome.id, outcome.attempt) for outcome in left_out}
    return [outcome for outcome in outcomes if (outcome.id, outcome.attempt) not in claims]
