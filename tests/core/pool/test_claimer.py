"""A claimer without a pool: what it asks of its backend, and when, whatever the backend answers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from fang_core import BackendUnavailable, SleepParams
from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest, HandOver, LaneClaim, ReadyClaim
from fang_core.backends.waking import LateRows
from fang_core.claims.dispatch import Dispatch
from fang_core.claims.inflight import InFlight
from fang_core.claims.overlap import PROOFS
from fang_core.claims.policy import RECONCILE_EVERY
from fang_core.config import PoolOptions, RetentionMode
from fang_core.crashes import SUSPECT_AFTER
from fang_core.events import EventBus
from fang_core.lifecycle import SUCCESS, Outcome
from fang_core.pool.claimer import Claimer
from fang_core.pool.identity import PoolIdentity
from fang_core.pool.recorded_kinds import RecordedKinds
from fang_core.record import TaskState
from fang_core.runs.run import Run
from fang_core.tasks.registry import Kinds
from tests.core.pool.fakes import NOW, FakeFlowStore, FakeRunQueue, FakeRuntime, claim, numbers_of

FIRST, SECOND = UUID(int=1), UUID(int=2)
LONG = timedelta(seconds=600)
AWAY = BackendUnavailable("away")
GONE = Claim([], NOW, NO_TRANSACTIONS, registered=False)


class ClaimerStore(FakeFlowStore):
    sends: bool | None = None
    """Whether a claim that was prepared can be sent at once; None if the backend prepares none."""
    hand_over: HandOver | None = None
    """What an insert calls to send the last one."""

    def ready(self, request: ClaimRequest, /) -> "ReadyClaim | None":
        return None if self.sends is None else Prepared(self, request, self.sends)

    async def claim(self, request: ClaimRequest, /) -> Claim:
        reply: Claim = await self._answer(claim(), "claim", request.pool_id, request.limit)
        return reply

    async def reconcile(self, pool_id: UUID, known: Sequence[UUID], /) -> int:
        count: int = await self._answer(0, "reconcile", pool_id, numbers_of(known))
        return count

    async def set_waiting(self, pool_id: UUID, waiting: bool, /) -> None:
        await self._answer(None, "set_waiting", pool_id, waiting)

    async def has_taker(self, *_: Any) -> bool:
        return False

    async def next_due(self, *_: Any) -> None:
        return None

    async def update_kinds(self, *_: Any) -> bool:
        raise AssertionError("no class is new")

    async def waiting_types(self, most: int, /) -> Mapping[str, bool]:
        found: Mapping[str, bool] = await self._answer({}, "waiting_types")
        return found

    def listen(self, _: Any, on_wake: Any, on_told: Any, on_listen_lost: Any, /) -> None:
        self.on_wake, self.on_listen_lost = on_wake, on_listen_lost

    async def register(self, *_: Any) -> None:
        raise AssertionError("its pool does that")

    unregister = heart = register


class Prepared:
    """A claim that ``on_wake`` may send, or an insert."""

    def __init__(self, store: ClaimerStore, request: ClaimRequest, sends: bool) -> None:
        self._store = store
        self._request = request
        self._sends = sends

    def offer(self, hand_over: HandOver) -> None:
        self._store.hand_over = hand_over

    def send(self) -> bool:
        self._store.calls.append(("send", self._request.pool_id, self._request.limit))
        return self._sends

    async def answer(self) -> Claim:
        reply: Claim = await self._store._answer(claim(), "answer")
        return reply


class Outcomes:
    """Are written when the test says so."""

    def __init__(self) -> None:
        self.written = 0
        self.waiting: list[Outcome] = []

    def put(self, outcome: Outcome) -> None:
        self.waiting.append(outcome)


class Pool:
    """What stands around a claimer."""

    def __init__(self, runtime: FakeRuntime, *, workers: int = 2, listen: bool = True, retries: bool = False) -> None:
        options = PoolOptions(
            number_of_workers=workers,
            listen=listen,
            retries_first=retries,
            sleep_params=SleepParams(min_sleep_period=LONG, max_sleep_period=LONG),
        )
        self.runtime = runtime
        self.store = ClaimerStore(runtime)
        self.identity = PoolIdentity(FIRST)
        self.run_queue, self.outcomes = FakeRunQueue(), Outcomes()
        self.stopping = runtime.event()
        self.is_cut_off = False
        self.rejoined: list[UUID] = []
        self.in_flight = InFlight(RetentionMode.REMOVE_FINISHED, lambda: False, 4)
        kinds = Kinds("threaded")
        self.dispatch = Dispatch(
            options,
            kinds,
            self.in_flight,
            self.run_queue,
            self.outcomes,
            events=EventBus(()),
            is_stopping=self.stopping.is_set,
            logger=runtime.logger,
        )
        self.claimer = Claimer(
            runtime,
            self.store,
            self.identity,
            options,
            kinds=RecordedKinds(
                kinds, self.store, self.identity, isolated=frozenset, on_learnt=lambda: None, declare=self.declare
            ),
            in_flight=self.in_flight,
            dispatch=self.dispatch,
            events=EventBus(()),
            stopping=self.stopping,
            is_cut_off=lambda: self.is_cut_off,
            rejoin=self.rejoin,
            on_told=lambda _: None,
        )

    async def declare(self) -> None: ...

    async def rejoin(self) -> None:
        self.rejoined.append(self.identity.id)
        self.identity.id = SECOND

    def start(self) -> None:
        self.claimer.start()
        self.runtime.settle()

    def take(self) -> Run:
        """A worker takes a task."""
        run = self.run_queue.runs.pop(0)
        run.began = 1.0
        self.claimer.on_taken(self.run_queue.backlog)
        return run

    def end(self, run: Run, seconds: float = 1.0) -> None:
        """A run ends, and its outcome is written."""
        run.over = True
        self.run_queue.ended_runs += 1
        self.dispatch.ended(run, SUCCESS, seconds)
        self.write()

    def write(self) -> None:
        self.in_flight.remove(self.outcomes.waiting)
        self.outcomes.written += len(self.outcomes.waiting)
        self.outcomes.waiting.clear()
        self.claimer.on_outcomes()
        self.runtime.settle()

    def wake(self) -> None:
        """An insert tells the pool."""
        self.store.on_wake(None)
        self.runtime.settle()

    def rest(self) -> None:
        """Lets time pass until the pool has found out that it may sleep; what it asked until then is forgotten."""
        self.runtime.advance(2.0)
        self.store.calls.clear()

    @property
    def claims(self) -> list[UUID]:
        """The ids under which it has claimed."""
        return [call[1] for call in self.store.called("claim")]

    @property
    def said(self) -> list[bool]:
        """Whether it waits, as it has told the backend."""
        return [call[2] for call in self.store.called("set_waiting")]


@pytest.fixture
def pool(runtime: FakeRuntime) -> Pool:
    return Pool(runtime)


def test_it_claims_for_free_workers_and_waits_for_capacity(pool: Pool) -> None:
    pool.store.reply("claim", claim(1, 2))
    pool.start()
    assert pool.store.called("claim") == [("claim", FIRST, 2)]
    runs = [pool.take(), pool.take()]
    pool.runtime.advance(5.0)
    assert len(pool.claims) == 1
    pool.end(runs[0])
    assert pool.store.called("claim")[1] == ("claim", FIRST, 1)


def test_a_worker_that_leaves_few_tasks_has_it_claim_ahead(runtime: FakeRuntime) -> None:
    pool = Pool(runtime, workers=1)
    pool.store.reply("claim", *(claim(n) for n in range(100)))
    pool.start()
    for _ in range(100):  # runs are short, and workers were seen to take many
        run = pool.take()
        runtime.advance(0.001)
        pool.end(run, seconds=0.001)
    pool.store.reply("claim", claim(*range(100, 140)))
    pool.wake()
    assert pool.run_queue.backlog == 40
    pool.store.calls.clear()
    while pool.run_queue.backlog > 1:
        pool.take()
    assert pool.claims == []
    runtime.settle()
    assert pool.claims != []


# When it claims nothing -----------------------------------------------------------------------------------------------


def test_it_claims_nothing_when_the_pool_stops_and_ends(pool: Pool) -> None:
    pool.start()
    pool.rest()
    pool.stopping.set()
    pool.runtime.call(pool.claimer.close(1.0))
    assert pool.claimer.is_over
    assert pool.claims == []


def test_what_a_claim_brings_when_the_pool_has_stopped_meanwhile_goes_back(pool: Pool) -> None:
    answers = pool.runtime.event()
    pool.store.reply("claim", answers, claim(1, 2))
    pool.start()
    pool.stopping.set()
    closing = pool.runtime.begin(pool.claimer.close(1.0))
    assert not closing.has_ended  # it waits for the claim that is under way
    answers.set()
    pool.runtime.settle()
    assert closing.has_ended
    assert pool.run_queue.runs == []
    assert len(pool.outcomes.waiting) == 2


def test_a_claim_that_hangs_is_cancelled_after_the_time_to_close(pool: Pool) -> None:
    pool.store.reply("claim", pool.runtime.event())
    pool.start()
    pool.stopping.set()
    closing = pool.runtime.begin(pool.claimer.close(1.0))
    pool.runtime.advance(0.9)
    assert not closing.has_ended
    pool.runtime.advance(0.1)
    assert closing.has_ended
    assert pool.claimer.is_over


def test_it_claims_nothing_while_it_is_cut_off(pool: Pool) -> None:
    pool.is_cut_off = True
    pool.start()
    pool.runtime.advance(30.0)
    assert pool.claims == []
    pool.is_cut_off = False
    pool.runtime.advance(2.0)
    assert pool.claims != []


def test_it_claims_nothing_while_it_holds_a_suspect_that_runs_alone(pool: Pool) -> None:
    pool.store.reply("claim", claim(1))
    pool.start()
    run = pool.take()
    pool.store.reply("claim", claim(2, crashes=SUSPECT_AFTER, group_limit=1))
    pool.wake()
    pool.runtime.advance(1.0)
    assert pool.in_flight.has_lone_suspect
    pool.store.calls.clear()

    pool.runtime.advance(1.0)
    assert pool.run_queue.runs == []  # the suspect does not begin before the other run has ended
    assert pool.claims == []
    pool.end(run)
    (suspect,) = pool.run_queue.runs
    assert suspect.task.id == UUID(int=102)
    assert pool.claims == []
    pool.end(pool.take())
    assert pool.claims != []


# A pool that is taken for dead ----------------------------------------------------------------------------------------


def test_it_rejoins_when_a_claim_finds_that_its_record_is_gone(pool: Pool) -> None:
    pool.store.reply("claim", GONE)
    pool.start()
    assert pool.rejoined == [FIRST]
    assert pool.claims[:2] == [FIRST, SECOND]


def test_it_rejoins_when_the_heart_says_so(pool: Pool) -> None:
    pool.start()
    pool.rest()
    pool.identity.dead_id = FIRST
    pool.claimer.wake()
    pool.runtime.settle()
    assert pool.rejoined == [FIRST]
    assert set(pool.claims) == {SECOND}
    assert pool.store.called("set_waiting")[0] == ("set_waiting", SECOND, True)  # of the new record nothing is known


def test_a_rejoining_that_fails_is_tried_again_and_nothing_is_claimed_before(pool: Pool) -> None:
    pool.store.reply("claim", GONE)
    fails = [AWAY, AWAY]
    rejoin = pool.rejoin

    async def fails_twice() -> None:
        if fails:
            raise fails.pop()
        await rejoin()

    pool.claimer._rejoin = fails_twice
    pool.start()
    assert pool.claims == [FIRST]
    pool.runtime.advance(5.0)
    assert pool.rejoined == [FIRST]
    assert set(pool.claims[1:]) == {SECOND}


# Replies that are lost, and a backend that is away --------------------------------------------------------------------


def test_it_gives_back_what_a_claim_took_whose_reply_was_lost_before_it_claims_again(pool: Pool) -> None:
    pool.store.reply("claim", claim(1))
    pool.start()
    pool.take()
    pool.store.fail("claim", AWAY)
    pool.wake()
    pool.store.calls.clear()
    pool.runtime.advance(1.0)
    assert [call for call in pool.store.calls if call[0] != "set_waiting"][:2] == [
        ("reconcile", FIRST, [1]),
        ("claim", FIRST, 1),
    ]


def test_it_reconciles_once_in_a_while(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.start()
    pool.rest()
    pool.store.reply("reconcile", 3)
    pool.runtime.advance(4 * RECONCILE_EVERY)
    assert 2 <= len(pool.store.called("reconcile")) <= 4
    assert [record.args for record in caplog.records if record.levelname == "WARNING"] == [(FIRST, 3)]


@pytest.mark.parametrize("error", [AWAY, ValueError("nobody expected this")])
def test_it_outlives_any_error_and_says_once_that_it_is_there_and_that_it_is_over(
    pool: Pool, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    pool.store.fail("claim", error, times=3)
    pool.start()
    pool.runtime.advance(10.0)
    assert len(pool.claims) > 3
    failures = [record for record in caplog.records if "could not claim and tries again" in record.getMessage()]
    assert [(record.levelname, record.exc_info is not None) for record in failures] == (
        [("WARNING", False)] if error is AWAY else [("ERROR", True)]
    )
    assert len([record for record in caplog.records if "claims again" in record.getMessage()]) == 1


def test_it_tries_again_ever_more_slowly(pool: Pool) -> None:
    pool.store.fail("claim", AWAY, times=1_000)
    pool.start()
    pool.runtime.advance(100.0)
    assert 10 <= len(pool.claims) <= 60


# A claim that is sent before the claimer goes on ----------------------------------------------------------------------


def handed_over(pool: Pool) -> None:
    """An insert takes the claim along, if it may."""
    assert pool.store.hand_over is not None
    wake = pool.store.hand_over(lambda ready: ready.send())
    assert (wake is not None) == (pool.store.verbs[-1:] == ["send"])
    if wake is not None:
        wake()


@pytest.fixture(params=["who wakes it", "an insert"])
def send(request: pytest.FixtureRequest) -> Callable[[Pool], None]:
    """Has the claim sent, if it may be."""
    return handed_over if request.param == "an insert" else lambda pool: pool.store.on_wake(None)


@pytest.fixture
def resting(pool: Pool) -> Pool:
    """Has a claim prepared, which whoever wakes it sends, or an insert."""
    pool.store.sends = True
    pool.start()
    pool.rest()
    return pool


def test_its_claim_is_sent_at_once(resting: Pool, send: Callable[[Pool], None]) -> None:
    resting.store.reply("answer", claim(1))
    send(resting)
    assert resting.store.calls == [("send", FIRST, 2)]  # and the claimer has not gone on yet
    resting.runtime.settle()
    assert resting.store.verbs == ["send", "answer", "claim"]  # the last one, as after any claim that has brought tasks
    assert [run.task.id for run in resting.run_queue.runs] == [UUID(int=101)]


def test_it_rests_again_if_such_a_claim_finds_nothing(resting: Pool, send: Callable[[Pool], None]) -> None:
    for times in (1, 2):
        send(resting)
        resting.runtime.settle()
        assert resting.store.verbs == ["send", "answer"] * times


def test_it_claims_again_if_it_is_woken_once_more_while_such_a_claim_is_under_way(
    resting: Pool, send: Callable[[Pool], None]
) -> None:
    send(resting)
    resting.store.on_wake(None)  # for a task that the claim may not have seen
    resting.runtime.settle()
    assert resting.store.verbs == ["send", "answer", "claim"]
    resting.runtime.advance(5.0)
    assert len(resting.store.called("send")) == 1


def test_it_is_woken_once_more_also_when_no_further_claim_may_be_sent(
    resting: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a class that was defined meanwhile would have it: the task may be of that class."""
    resting.store.on_wake(None)
    monkeypatch.setattr(Kinds, "is_behind", True)
    resting.store.on_wake(None)
    resting.runtime.settle()
    assert resting.store.verbs == ["send", "answer", "claim"]


def test_an_insert_sends_no_claim_while_one_is_under_way(resting: Pool) -> None:
    resting.store.on_wake(None)
    assert resting.store.hand_over is not None
    assert resting.store.hand_over(lambda ready: ready.send()) is None
    resting.runtime.settle()
    assert resting.store.verbs == ["send", "answer"]


def test_an_insert_that_cannot_send_it_leaves_it_to_who_wakes_the_pool(resting: Pool) -> None:
    assert resting.store.hand_over is not None
    assert resting.store.hand_over(lambda ready: False) is None
    resting.wake()
    assert resting.store.verbs == ["send", "answer"]


def test_a_pool_that_does_not_listen_offers_its_claim_to_no_insert(runtime: FakeRuntime) -> None:
    pool = Pool(runtime, listen=False)
    pool.store.sends = True
    pool.start()
    pool.rest()
    assert pool.store.hand_over is None


def test_it_claims_itself_if_its_claim_could_not_be_sent(resting: Pool) -> None:
    resting.store.sends = False
    resting.runtime.advance(20.0)
    resting.store.calls.clear()
    resting.wake()
    assert resting.store.verbs == ["send", "claim"]


def test_it_gives_back_what_such_a_claim_took_whose_reply_was_lost_before_it_claims_again(
    resting: Pool, send: Callable[[Pool], None]
) -> None:
    resting.store.fail("answer", AWAY)
    send(resting)
    resting.runtime.advance(1.0)
    assert resting.store.verbs[:4] == ["send", "answer", "reconcile", "claim"]


def test_what_such_a_claim_brings_when_the_pool_has_stopped_meanwhile_goes_back(
    resting: Pool, send: Callable[[Pool], None]
) -> None:
    answers = resting.runtime.event()
    resting.store.reply("answer", answers, claim(1, 2))
    send(resting)
    resting.stopping.set()
    closing = resting.runtime.begin(resting.claimer.close(1.0))
    assert not closing.has_ended  # it waits for the claim that is under way
    answers.set()
    resting.runtime.settle()
    assert closing.has_ended
    assert resting.run_queue.runs == []
    assert len(resting.outcomes.waiting) == 2


def test_it_rejoins_when_such_a_claim_finds_that_its_record_is_gone(resting: Pool) -> None:
    resting.store.reply("answer", GONE)
    resting.wake()
    assert resting.rejoined == [FIRST]
    assert resting.claims == [SECOND] * len(resting.claims)
    resting.rest()
    resting.wake()
    assert resting.store.called("send") == [("send", SECOND, 2)]


def test_nobody_sends_a_claim_under_an_id_that_the_pool_has_no_more(resting: Pool) -> None:
    resting.identity.dead_id = FIRST  # as the heart has seen
    resting.is_cut_off = True  # so that it claims nothing under its new id yet
    resting.claimer.wake()
    resting.runtime.settle()
    assert resting.rejoined == [FIRST]
    resting.is_cut_off = False
    resting.store.on_wake(None)
    assert resting.store.called("send") == []


@pytest.mark.parametrize("why", ["stopping", "cut off", "resized", "new kinds"])
def test_nobody_sends_its_claim_if_the_next_one_is_another_one_or_none(
    resting: Pool, why: str, send: Callable[[Pool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "stopping":
        resting.stopping.set()
    elif why == "cut off":
        resting.is_cut_off = True
    elif why == "resized":
        resting.claimer.wake()
    else:
        monkeypatch.setattr(Kinds, "is_behind", True)
    send(resting)
    assert resting.store.called("send") == []


def test_nobody_sends_its_claim_while_it_holds_a_suspect(pool: Pool) -> None:
    pool.store.sends = True
    pool.store.reply("claim", claim(1, crashes=SUSPECT_AFTER, group_limit=4))
    pool.start()
    pool.take()
    pool.rest()
    pool.wake()
    assert pool.store.verbs == ["claim"]


# Whether it waits -----------------------------------------------------------------------------------------------------


def test_it_says_once_that_it_waits(pool: Pool) -> None:
    pool.start()
    assert pool.said == [True]
    pool.runtime.advance(60.0)
    pool.wake()
    assert pool.said == [True]


def test_it_says_again_that_it_waits_when_the_reply_was_lost(pool: Pool) -> None:
    pool.store.fail("set_waiting", AWAY)
    pool.start()
    assert pool.said == [True]
    pool.runtime.advance(10.0)
    assert pool.said == [True, True]


def test_a_pool_that_does_not_listen_says_nothing(runtime: FakeRuntime) -> None:
    pool = Pool(runtime, listen=False)
    pool.start()
    runtime.advance(10.0)
    assert pool.said == []


def test_a_pool_without_a_free_worker_says_that_it_does_not_wait(runtime: FakeRuntime) -> None:
    pool = Pool(runtime, workers=1)
    pool.start()
    pool.store.reply("claim", claim(1))
    pool.wake()
    run = pool.take()
    runtime.settle()
    assert pool.said == [True, False]
    pool.end(run)
    assert pool.said == [True, False, True]


def test_that_it_cannot_say_so_keeps_it_from_nothing(runtime: FakeRuntime, caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(runtime, workers=1)
    pool.start()
    pool.rest()
    pool.store.fail("set_waiting", AWAY)
    pool.store.reply("claim", claim(1))
    pool.wake()
    assert pool.said == [False]
    pool.end(pool.take())
    assert caplog.records == []


# Draining -------------------------------------------------------------------------------------------------------------


def test_a_drain_ends_when_nothing_is_due_and_nothing_is_held(pool: Pool) -> None:
    pool.store.reply("claim", claim(1))
    pool.start()
    draining = pool.runtime.begin(pool.claimer.drained())
    pool.runtime.advance(5.0)
    assert not draining.has_ended  # a task is held
    pool.end(pool.take())
    assert draining.has_ended


def test_a_drain_ends_by_no_claim_that_began_before_it(pool: Pool) -> None:
    answers = pool.runtime.event()
    pool.store.reply("claim", answers, claim(), claim(1))
    pool.start()
    draining = pool.runtime.begin(pool.claimer.drained())
    answers.set()  # that claim brings nothing; what was inserted before the drain it may not have seen
    pool.runtime.settle()
    assert not draining.has_ended
    pool.end(pool.take())
    assert draining.has_ended


def test_a_drain_does_not_end_by_a_claim_of_a_pool_that_is_taken_for_dead(pool: Pool) -> None:
    pool.start()
    pool.rest()
    pool.store.reply("claim", GONE, claim(1))
    draining = pool.runtime.begin(pool.claimer.drained())
    assert not draining.has_ended
    pool.end(pool.take())
    assert draining.has_ended


def test_a_pool_that_stops_ends_its_drains(pool: Pool) -> None:
    pool.store.reply("claim", claim(1))
    pool.start()
    draining = pool.runtime.begin(pool.claimer.drained())
    pool.stopping.set()
    pool.claimer.end_drains()
    pool.runtime.settle()
    assert draining.has_ended
    pool.runtime.call(pool.claimer.drained())  # nor does a later one wait


# Managed types --------------------------------------------------------------------------------------------------------

FOUND_MANAGED = claim()._replace(managed=("common",))


def lanes(*numbers: int, **fields: Any) -> LaneClaim:
    """The answer to a claim from a managed type, with these tasks."""
    return LaneClaim(claim(*numbers).tasks, NOW, NO_TRANSACTIONS, **{"registered": True, "room": 2, **fields})


@pytest.fixture
def managing(pool: Pool) -> Pool:
    """A pool that is about to find out that its type is managed."""
    pool.store.reply("claim", FOUND_MANAGED)
    return pool


def test_it_claims_from_a_managed_type_for_idle_workers_and_again_when_a_run_has_ended(managing: Pool) -> None:
    managing.store.reply("claim_lanes", lanes(1, 2))
    managing.start()
    assert managing.store.called("claim_lanes") == [("claim_lanes", "common", 2)]
    runs = [managing.take(), managing.take()]
    managing.runtime.advance(5.0)
    managing.end(runs[0])
    assert managing.store.called("claim_lanes")[1] == ("claim_lanes", "common", 1)
    assert len(managing.claims) == 1


def test_runs_that_take_no_time_end_before_the_next_claim_which_is_for_their_workers_too(managing: Pool) -> None:
    first_reply = managing.runtime.event()
    managing.store.reply("claim_lanes", lanes(1, 2), first_reply, lanes(3, room=1))
    managing.start()
    runs = [managing.take(), managing.take()]
    managing.end(runs[0])  # a claim for one worker is under way
    managing.end(runs[1])

    async def work() -> None:
        await managing.runtime.wait(managing.run_queue.filled)
        run = managing.take()
        run.over = True
        managing.run_queue.ended_runs += 1
        managing.dispatch.ended(run, SUCCESS, 0.0)

    managing.run_queue.filled.clear()
    managing.runtime.begin(work())
    first_reply.set()
    managing.runtime.settle()
    assert [limit for *_, limit in managing.store.called("claim_lanes")][:3] == [2, 1, 2]


def test_a_claim_is_sent_before_runs_that_end_before_its_answer_and_what_no_worker_takes_goes_back(
    managing: Pool,
) -> None:
    for number in range(500):  # runs take no time
        managing.dispatch.ended(Run(claim(number).tasks[0], FIRST), SUCCESS, 0.0)
    managing.outcomes.waiting.clear()
    held: list[Run] = []
    ending = True

    async def work() -> None:
        while True:
            await managing.runtime.wait(managing.run_queue.filled)
            managing.run_queue.filled.clear()
            while managing.run_queue.runs:
                held.append(managing.take())
                if ending:
                    end_held()

    def end_held() -> None:
        for run in held:
            run.over = True
            managing.run_queue.ended_runs += 1
            managing.dispatch.ended(run, SUCCESS, 0.0)
        held.clear()

    answers = [managing.runtime.event() for _ in range(PROOFS + 1)]
    for number, answer in enumerate(answers):
        managing.store.reply("claim_lanes", answer, lanes(2 * number + 1, 2 * number + 2))
    managing.runtime.begin(work())
    managing.start()
    for number, answer in enumerate(answers[:-1], 1):
        ending = number < PROOFS
        managing.runtime.advance(0.01)
        answer.set()
        managing.runtime.settle()
    assert len(held) == 2
    assert managing.store.called("claim_lanes") == [("claim_lanes", "common", 2)] * (PROOFS + 1)  # one for busy workers
    ended = len(managing.outcomes.waiting)
    managing.runtime.advance(0.01)
    answers[-1].set()
    managing.runtime.settle()
    assert [outcome.state for outcome in managing.outcomes.waiting[ended:]] == [TaskState.NEW] * 2
    assert len(managing.store.called("claim_lanes")) == PROOFS + 1
    end_held()
    managing.write()
    assert managing.store.called("claim_lanes")[PROOFS + 1] == ("claim_lanes", "common", 2)


def test_a_pool_that_finds_a_type_full_looks_again_when_it_is_told(managing: Pool) -> None:
    managing.store.reply("claim_lanes", *[lanes(room=0)] * 2)
    managing.start()
    managing.runtime.advance(5.0)
    assert len(managing.store.called("claim_lanes")) == 1
    managing.store.on_wake(LateRows("common", 0, None))
    managing.runtime.settle()
    assert len(managing.store.called("claim_lanes")) == 2


def test_a_pool_says_once_that_retries_do_not_go_first_in_a_managed_type(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(runtime, retries=True)
    pool.store.reply("claim", FOUND_MANAGED)
    pool.store.reply("claim_lanes", lanes(room=None), lanes(1), lanes(2))  # a pause alone has no order
    pool.start()
    assert not caplog.messages
    for _ in range(2):
        pool.store.on_wake(LateRows("common", 0, None))
        runtime.settle()
    assert len(pool.store.called("claim_lanes")) == 3
    (said,) = caplog.messages
    assert said.endswith("retries_first has no effect on the task type 'common', which has limits, rates or fairness")


def test_a_claim_from_a_managed_type_whose_reply_is_lost_is_cleared_up_first(managing: Pool) -> None:
    managing.store.fail("claim_lanes", AWAY)
    managing.start()
    managing.store.calls.clear()
    managing.runtime.advance(1.0)
    assert managing.store.verbs[:2] == ["reconcile", "claim_lanes"]


def test_it_rejoins_when_a_claim_from_a_managed_type_finds_that_its_record_is_gone(managing: Pool) -> None:
    managing.store.reply("claim_lanes", lanes(registered=False, room=None))
    managing.start()
    assert managing.rejoined == [FIRST]
    assert len(managing.store.called("claim_lanes")) >= 2


def test_slots_that_it_cannot_use_are_told_to_other_pools_even_as_it_stops(runtime: FakeRuntime) -> None:
    pool = Pool(runtime, workers=1)
    pool.store.reply("claim", FOUND_MANAGED)
    pool.store.reply("claim_lanes", lanes(1, room=1))
    pool.start()
    run = pool.take()
    pool.claimer.on_outcomes({"common": 1})  # of another run; the worker is not idle
    runtime.settle()
    assert pool.store.called("tell_types") == [("tell_types", ("common",))]
    runtime.call(pool.claimer.tell_unused())
    assert len(pool.store.called("tell_types")) == 1  # once is enough
    pool.stopping.set()
    pool.end(run)
    pool.claimer.on_outcomes({"common": 1})
    pool.store.fail("tell_types", AWAY)
    runtime.call(pool.claimer.tell_unused())
    assert len(pool.store.called("tell_types")) == 2


def test_a_drain_waits_for_a_full_type_as_long_as_tasks_of_it_are_due(managing: Pool) -> None:
    managing.store.reply("waiting_types", {"common": True})
    managing.store.reply("claim_lanes", lanes(), *[lanes(room=0)] * 2)
    managing.start()
    draining = managing.runtime.begin(managing.claimer.drained())
    assert not draining.has_ended
    managing.store.on_wake(LateRows("common", 0, None))
    managing.runtime.settle()
    assert draining.has_ended  # other pools have taken all that was due


@pytest.mark.parametrize("left", [lanes(room=None), lanes(room=None, look_in=60.0), lanes(is_managed=False)])
def test_a_drain_does_not_wait_for_a_paused_type(managing: Pool, left: LaneClaim) -> None:
    managing.store.reply("claim_lanes", *[left] * 3)
    managing.start()
    draining = managing.runtime.begin(managing.claimer.drained())
    assert draining.has_ended


def test_a_drain_looks_at_plain_types_again_when_a_type_has_become_one(managing: Pool) -> None:
    """As when a pause has ended, of a type that has no limits."""
    managing.store.reply("claim_lanes", lanes(room=None, look_in=3.0), lanes(is_managed=False))
    draining = managing.runtime.begin(managing.claimer.drained())
    managing.start()
    assert len(managing.claims) == 1  # which has found nothing among the plain types
    managing.store.reply("claim", claim(1))
    managing.runtime.advance(3.1)
    assert not draining.has_ended
    managing.end(managing.take())
    assert draining.has_ended


def test_a_drain_waits_for_a_key_whose_rate_allows_a_start_later(managing: Pool) -> None:
    managing.store.reply("claim_lanes", lanes(), lanes(look_in=3.0), lanes(1), lanes())
    managing.start()
    draining = managing.runtime.begin(managing.claimer.drained())
    managing.runtime.advance(2.9)
    assert not draining.has_ended
    managing.runtime.advance(0.2)
    managing.end(managing.take())
    assert draining.has_ended


def test_a_drain_waits_while_the_limits_of_a_type_change(managing: Pool) -> None:
    managing.store.reply("claim_lanes", *[lanes(room=None, look_in=10.0)] * 2, lanes(1), lanes())
    managing.start()
    draining = managing.runtime.begin(managing.claimer.drained())
    managing.runtime.advance(5.0)
    assert not draining.has_ended
    managing.store.on_wake(LateRows("common", 0, None))
    managing.runtime.settle()
    managing.end(managing.take())
    assert draining.has_ended


def test_a_drain_first_has_claims_find_the_tasks_that_have_no_lane(managing: Pool) -> None:
    managing.start()
    managing.runtime.advance(1.0)
    assert managing.store.called("adopt_all") == []
    for _ in range(2):
        managing.store.reply("claim_lanes", lanes(1), lanes())
        draining = managing.runtime.begin(managing.claimer.drained())
        managing.end(managing.take())
        assert draining.has_ended
    assert managing.store.called("adopt_all") == [("adopt_all", "common")] * 2
