"""Decides what a pool's claimer does next: how many tasks it claims, from where, and when it looks again.

A claimer asks ``next_step``, does that, and reports back. ``ClaimPolicy`` answers, from these objects:

- how many: the prefetch, which knows how fast workers take tasks, and how many wait for them; and ``Overlap``, which
  knows if runs end while a claim is under way;
- from where: ``Claims``, with the cursor, and with the task types that have tasks; ``Lanes`` from managed types;
- when again: ``Idle``, and the prefetch again, if a claimed task waits too long for a worker;
- which suspects: ``InFlight`` knows its group, and when its suspects may begin; ``Quarantine`` how long they wait.

It is pure: times are seconds of one monotonic clock.
"""

from collections.abc import Collection, Mapping
from enum import Enum, auto
from functools import partial
from math import inf
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from fang_core.backends.claims import Claim, ClaimRequest, LaneClaim, LaneRequest
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims.claiming import Claims
from fang_core.claims.dispatch import Overdue
from fang_core.claims.idle import LONGEST_SLEEP, Idle, Poll
from fang_core.claims.inflight import InFlight
from fang_core.claims.lanes import EMPTY_FOR, SHARE
from fang_core.claims.overlap import Overlap
from fang_core.config import PoolOptions
from fang_core.liveness import EVERY

LONGEST_WAIT: Final = 1.0
"""The longest, in seconds, that a pool without room for tasks waits before it checks again."""

RECONCILE_EVERY: Final = 30.0
"""Seconds between two looks for tasks that the pool holds in the database and does not know."""


class Do(Enum):
    """Names the steps that have no arguments."""

    RECONCILE = auto()
    """Give back the tasks that the pool holds in the database and does not know; then call ``reconciled``."""
    BEGIN_SUSPECTS = auto()
    """Start the suspects that wait, which may begin now; then call ``suspects_began``."""
    GIVE_UP_SUSPECTS = auto()
    """Give back the suspects that have waited too long; then call ``suspects_went_back``."""
    ANNOUNCE = auto()
    """Tell the backend that the pool waits to be woken; then call ``announced``."""
    RENOUNCE = auto()
    """Tell the backend that the pool does not wait to be woken, since no new task could start; then ``announced``."""


class ClaimUpTo(NamedTuple):
    """Claim ``limit`` tasks at most: see ``ClaimPolicy.request`` and ``claimed``."""

    limit: int


class ClaimLanes(NamedTuple):
    """Claim ``limit`` tasks of this managed type at most: see ``ClaimPolicy.lane_request`` and ``claimed_lanes``."""

    task_type: str
    limit: int


class TellTypes(NamedTuple):
    """Tell all pools of these types that tasks may start: runs of this pool have ended, and it can start no other."""

    task_types: tuple[str, ...]


class WaitForCapacity(NamedTuple):
    """Wait for ``seconds`` at most, or until workers have left ``low`` tasks or fewer, or outcomes were written."""

    seconds: float
    low: int


class Sleep(NamedTuple):
    """Wait for ``seconds`` at most, or until the pool is woken, or the first task of these types becomes due."""

    seconds: float
    task_types: tuple[str, ...] = ()


Step: TypeAlias = Overdue | ClaimUpTo | ClaimLanes | TellTypes | WaitForCapacity | Sleep | Do
"""For ``Overdue`` the claimer asks whether another pool would take these tasks, and gives them back if so."""


class LaneReport(NamedTuple):
    """What a claim from a managed type means: whether the pool is busy, so that inserts need not wake it; whether no
    task was left that may start; and whether the next claim may be sent before the tasks of this one have run."""

    is_busy: bool
    is_over: bool
    overlaps: bool = False


class Prefetch(Protocol):
    """Answers the policy's questions about the tasks that wait for a worker; see ``Dispatch``."""

    def wanted(self, now: float, ending: int = 0, /) -> int:
        """Returns how many tasks to claim now, if ``ending`` of those that the pool holds end before the answer."""

    def idle_workers(self) -> int:
        """Returns how many workers are free and have no task that waits for them."""

    def unwritten(self) -> int:
        """Returns how many outcomes are not written yet."""

    def run_seconds(self) -> float:
        """Returns how long runs take at present; a long one counts at once."""

    def low_mark(self) -> int:
        """Returns how many waiting tasks are few enough to claim again."""

    def patience(self, now: float, /) -> float:
        """Returns the seconds until a waiting task may be overdue; infinite if none waits."""

    def overdue(self, now: float, /) -> Overdue:
        """Returns the tasks that have waited too long, at most once in a while."""


class ClaimPolicy:
    """Decides for the claimer of one life of a pool, which calls all methods; any thread may call ``tell``."""

    def __init__(self, options: PoolOptions, in_flight: InFlight, prefetch: Prefetch, now: float) -> None:
        self._in_flight = in_flight
        self._prefetch = prefetch
        longest = LONGEST_SLEEP if options.listen else inf
        make_poll = partial(Poll, options.sleep_params, longest=longest)
        self._claims = Claims(options.task_types, now, make_poll, retries_first=options.retries_first)
        self._lanes = self._claims.lanes
        self._idle = Idle(options.sleep_params, listens=options.listen)
        self._listens = options.listen
        self._is_announced: bool | None = False  # None if the reply was lost, or the announcement is out of date
        self._empty: frozenset[int] | None = None  # what ran at an empty claim, until the next step is decided
        self._reconcile_at = now + RECONCILE_EVERY
        self._is_deaf = False
        # The following is for pools with managed types, which may rest from plain claims while other claims go on.
        self._is_woken = False
        self._plain_at = -inf  # when to make the next plain claim
        self._rests_until = -inf
        self._had_turn = False  # whether the last claim was from a managed type
        self._overlap = Overlap()

    # What to do next --------------------------------------------------------------------------------------------------

    def next_step(self, now: float, *, is_cut_off: bool) -> Step:
        """Returns the claimer's next step.

        ``is_cut_off`` says that other pools may have taken this one for dead, so that no claim would be safe.
        """
        if self._lanes:
            self._catch_up(now)
        elif self._empty is not None:
            rest = self._rest(self._empty, now)
            if rest is not None:
                return rest
        overdue = self._prefetch.overdue(now)
        if overdue.tasks:
            return overdue
        if is_cut_off:
            return Sleep(EVERY)
        if now >= self._reconcile_at:
            return Do.RECONCILE
        if self._in_flight.suspects_may_begin:
            return Do.BEGIN_SUSPECTS
        if self._claims.quarantine.is_over(now):
            return Do.GIVE_UP_SUSPECTS
        if self._in_flight.has_lone_suspect:
            return self._wait(now)
        if self._lanes:
            return self._turn(now)
        wanted = self._prefetch.wanted(now)
        return ClaimUpTo(wanted) if wanted else self._wait(now)

    def _rest(self, running: frozenset[int], now: float) -> Step | None:
        """Returns the step after an empty claim; None to claim again at once."""
        if self.announces(True):
            return Do.ANNOUNCE
        self._empty = None
        if self._claims.again_at_once():
            return None
        quarantine = self._claims.quarantine
        seconds = min(self._idle.sleep(running, now), quarantine.until_allowed(now), quarantine.until_over(now))
        # A pool that settles looks again so soon that no due time matters.
        return Sleep(seconds) if self._idle.is_settling else Sleep(seconds, self._claims.serving.waiting)

    def _catch_up(self, now: float) -> None:
        """Takes in what has happened to managed types, and ends a rest that is over."""
        self._lanes.hear()
        if self._is_woken:
            self._lanes.begin_rounds()
        if self._is_woken or -inf < self._rests_until <= now:
            self._look_again()

    def _look_again(self) -> None:
        """Ends a rest: the next claims look at all types in which a new task could start."""
        self._is_woken = False
        self._plain_at = self._rests_until = -inf
        self._claims.look_again()

    def _turn(self, now: float) -> Step:
        """Returns the step of a pool with managed types, which claims from plain types and from those by turns."""
        idle_workers = self._prefetch.idle_workers()
        ending = self._overlap.ending(idle_workers, now)
        wanted = self._prefetch.wanted(now, ending)
        idle_workers += ending
        task_type = self._lanes.next(now, idle_workers, self._prefetch.unwritten()) if wanted else None
        is_plain = wanted and now >= self._plain_at and self._claims.serving.has_types
        if wanted and not (task_type or is_plain) and self._lanes.waits_for_outcomes is not None:
            plain_at = self._plain_at if self._claims.serving.has_types else inf
            return Sleep(min(min(plain_at, self._lanes.waits_for_outcomes) - now, self._lanes.until_next(now)))
        if idle_workers <= 0 or not (task_type or is_plain):
            unused = self._lanes.unused(now)
            if unused:
                return TellTypes(unused)
        if is_plain and (task_type is None or self._had_turn):
            self._had_turn = False
            return ClaimUpTo(wanted)
        if task_type is not None:
            self._had_turn = True
            return ClaimLanes(task_type, self._lanes.limit(task_type, wanted, idle_workers))
        until_telling = self._lanes.until_telling(now)
        if wanted and not (self._lanes.waits_for_workers and not self._claims.serving.has_types):
            step: Step = self._rest_among_lanes(wanted, now)
            return step._replace(seconds=min(step.seconds, until_telling)) if isinstance(step, Sleep) else step
        seconds, low = self._wait(now)
        return WaitForCapacity(min(seconds, until_telling), 0 if wanted else low)

    def told_others(self, *, began: float, ended: float) -> None:
        """Notes that ``TellTypes`` was done."""
        self._lanes.told_others(began=began, ended=ended)

    def _rest_among_lanes(self, wanted: int, now: float) -> Step:
        """Returns the step of a pool that found nothing to start in any type."""
        serving, quarantine = self._claims.serving, self._claims.quarantine
        if now >= self._rests_until:
            waits = serving.has_types or bool(self._lanes.helped_by_inserts)
            if self.announces(waits):
                return Do.ANNOUNCE if waits else Do.RENOUNCE
            if serving.has_types and self._claims.again_at_once():
                return ClaimUpTo(wanted)
            running, self._empty = self._empty or frozenset(), None
            seconds = min(self._idle.sleep(running, now), quarantine.until_allowed(now), quarantine.until_over(now))
            self._plain_at = self._rests_until = now + seconds
            if not self._idle.is_settling:
                task_types = (*serving.waiting, *self._lanes.helped_by_inserts)
                return Sleep(min(seconds, self._lanes.until_next(now)), task_types)
        return Sleep(min(self._rests_until - now, self._lanes.until_next(now)))

    def falls_due(self, at: float) -> None:
        """Notes that a task becomes due at this time, for which no insert wakes the pool."""
        self._plain_at = self._rests_until = min(at, self._rests_until)

    def _wait(self, now: float) -> WaitForCapacity:
        seconds = min(LONGEST_WAIT, self._prefetch.patience(now), self._claims.quarantine.until_over(now))
        return WaitForCapacity(seconds, self._prefetch.low_mark())

    def patience(self, now: float) -> float:
        """Returns for how long any sleep may last: until a task that waits for a worker may be overdue."""
        return self._prefetch.patience(now)

    # A claim ----------------------------------------------------------------------------------------------------------

    def looks_at_types(self, now: float, *, whole: bool) -> int | None:
        """Returns how many lanes of task types to look at before the claim; None if it needs no look."""
        serving = self._claims.serving
        return serving.most if serving.looks(now, whole=whole) else None

    def looked(self, found: Mapping[str, bool] | None, *, began: float, ended: float) -> None:
        """Notes which task types have tasks; see ``Claims.looked``."""
        self._claims.looked(found, began=began, ended=ended)

    def request(self, pool_id: UUID, kinds: tuple[str, ...], limit: int, *, whole: bool, now: float) -> ClaimRequest:
        """Returns the claim to make now, of ``limit`` tasks at most; a ``whole`` claim misses no due task."""
        return self._claims.request(
            pool_id,
            kinds,
            limit,
            next_group_size=self._in_flight.next_group_size,
            isolated_kinds=self._in_flight.isolated_kinds,
            is_idle=not self._in_flight,
            has_locked=self._in_flight.has_locked,
            whole=whole,
            mono=now,
        )

    def claimed(self, request: ClaimRequest, claim: Claim, *, began: float, ended: float) -> bool:
        """Notes the answer to a claim. Returns whether the pool is busy, so that inserts need not wake it."""
        self._claims.claimed(request, claim, began=began, ended=ended)
        if claim.tasks:
            self._overlap.forget()
            return self._idle.found()
        if claim.registered:
            self._found_nothing(claim.transactions.running)
            self._plain_at = ended + max(EMPTY_FOR, (ended - began) / SHARE)
        return False

    @property
    def may_repeat(self) -> bool:
        """Whether the last claim, if it found nothing, may be made again as it was when an insert wakes the pool."""
        return not (
            self._lanes
            or self._claims.serving.is_many  # a look goes before each claim
            or self._claims.quarantine.abstains
        )

    def _found_nothing(self, running: frozenset[int]) -> None:
        self._empty = running if self._empty is None else self._empty | running

    def lane_request(
        self, pool_id: UUID, task_type: str, kinds: tuple[str, ...], limit: int, *, now: float
    ) -> LaneRequest | None:
        """Returns the claim from a managed type to make now; None if a look has shown that it has no due tasks."""
        if not self._lanes.is_ready(task_type, now):
            return None
        return self._claims.lane_request(
            pool_id,
            task_type,
            kinds,
            limit,
            next_group_size=self._in_flight.next_group_size,
            isolated_kinds=self._in_flight.isolated_kinds,
            is_idle=not self._in_flight,
            has_locked=self._in_flight.has_locked,
            mono=now,
        )

    def claimed_lanes(self, request: LaneRequest, claim: LaneClaim, *, began: float, ended: float) -> LaneReport:
        """Notes the answer to a claim from a managed type."""
        was_helped = self._lanes.is_helped(request.task_type)
        is_over = self._claims.claimed_lanes(request, claim, began=began, ended=ended)
        if self._lanes.is_helped(request.task_type) and not was_helped:
            self._rests_until = -inf  # it has to announce that it waits for this type, too
        if not claim.is_managed:
            self._plain_at = -inf
            self._empty = None
        elif claim.tasks:
            self._empty = None
            # While a rate or a limit lets few tasks start, inserts may as well wake the pool.
            is_busy = self._lanes.is_ready(request.task_type, ended) and self._idle.found()
            if not claim.is_counted:
                self._overlap.forget()
                return LaneReport(is_busy, False)
            return LaneReport(is_busy, False, self._overlaps(request, claim, ended - began, ended))
        elif claim.registered:
            self._found_nothing(claim.transactions.running)
        return LaneReport(False, is_over)

    def _overlaps(self, request: LaneRequest, claim: LaneClaim, seconds: float, now: float) -> bool:
        return self._overlap.answered(
            asked=request.limit,
            brought=len(claim.tasks),
            idle_workers=self._prefetch.idle_workers(),
            seconds=seconds,
            run_seconds=self._prefetch.run_seconds(),
            mono=now,
        )

    # What became of a step --------------------------------------------------------------------------------------------

    def announces(self, waiting: bool) -> bool:
        """Returns whether it would be news to the backend that the pool waits to be woken, or that it does not."""
        return self._listens and self._is_announced is not waiting

    def announcing(self) -> None:
        """Notes that the pool is about to announce whether it waits: if the reply is lost, it announces again before it
        rests on."""
        self._is_announced = None
        self._rests_until = -inf

    def announced(self, waiting: bool, now: float) -> None:
        """Notes that the backend knows whether the pool waits."""
        self._is_announced = waiting
        if self._lanes:
            self._lanes.begin_rounds()
            self._look_again()
        if waiting:
            self._empty = None  # inserts before the announcement have notified no pool: claim again
            self._idle.announced(now)

    def reconciled(self, now: float) -> None:
        """Notes that the pool knows all tasks that it holds."""
        self._reconcile_at = now + RECONCILE_EVERY

    def handed_out(self, now: float, *, gave_back: bool) -> None:
        """Notes that the tasks of a claim were handed out, and whether some went back because of suspects."""
        if gave_back:
            self._claims.quarantine.gave_back()
        suspect = self._in_flight.waiting_suspect
        if suspect is not None:
            self._claims.quarantine.waits(suspect, now)

    def suspects_began(self) -> None:
        """Notes that the suspects that waited run."""
        self._claims.quarantine.began()

    def suspects_went_back(self, now: float) -> float:
        """Notes that suspects were given back. Returns for how many seconds the pool claims none that runs alone."""
        return self._claims.quarantine.went_back(now)

    # What happens to the pool -----------------------------------------------------------------------------------------

    def tell(self, late: LateRows) -> None:
        """Notes due rows that a claim may have passed; may be called on any thread."""
        if late == ANYWHERE and self._is_deaf:
            self._is_deaf, self._reconcile_at = False, -inf
        if late.task_type not in self._lanes:
            self._is_woken = True
        self._claims.tell(late)

    def listen_lost(self) -> None:
        """Notes that the pool is not notified of inserts for now; may be called on any thread.

        The next server that tells it may be a replica that has taken over, and that still has this pool as the holder
        of tasks whose outcomes never reached it.
        """
        self._is_deaf = True

    def woke(self) -> None:
        """Notes that a task may have been inserted, or that there is another reason to look; on any thread."""
        self._is_woken = True

    def look_at_all(self) -> None:
        """Makes the pool look at every type at once, also at those that were full; may be called on any thread."""
        self._lanes.tell(None)
        self._is_woken = True

    @property
    def managed(self) -> Collection[str]:
        """The task types that are managed; it is false if there are none."""
        return self._lanes

    def are_all_types(self, task_types: set[str]) -> bool:
        """Returns whether these are all managed types, and ``""`` for the other types, if there are any."""
        is_plain_there = not self._claims.serving.has_types or "" in task_types
        return is_plain_there and task_types.issuperset(self._lanes)

    def freed(self, task_types: Mapping[str, int]) -> None:
        """Notes how many runs of each managed type have ended; may be called on any thread."""
        self._lanes.free(task_types)

    @property
    def waits_for_workers(self) -> bool:
        """Returns whether the pool would claim from a managed type if a worker were idle."""
        return self._lanes.waits_for_workers

    def unused(self) -> tuple[str, ...]:
        """Returns the managed types in which runs have ended, and that the pool has not claimed from since, once."""
        self._lanes.hear()
        return self._lanes.unused()

    @property
    def calls_for_suspects(self) -> bool:
        """Whether suspects that wait may begin, or a claim could bring some that the last one had to leave out."""
        in_flight, quarantine = self._in_flight, self._claims.quarantine
        if quarantine.abstains and quarantine.allows_more(
            in_flight.next_group_size, is_idle=not in_flight, has_locked=in_flight.has_locked
        ):
            return True
        return in_flight.suspects_may_begin

    def has_new_kinds(self) -> None:
        """Notes that the pool has new kinds: its claims have skipped their tasks, and their inserts did not wake it."""
        self._claims.forget()
        self.woke()
        if self._is_announced:
            self._is_announced = None

    def rejoined(self) -> None:
        """Notes that the pool has another id now: no suspect waits to begin, and the pool has announced nothing."""
        self._claims.rejoined()
        self._is_announced = False
        self._empty = None
        self.look_at_all()

    def failed(self) -> None:
        """Notes that a step failed: a claim may have been committed nevertheless, with tasks unknown to the pool."""
        self._claims.forget()
        self._reconcile_at = float("-inf")
        self._empty = None
        self.woke()
