"""Which of its task types a pool asks for: all that have due rows, in turn, and hardly any other."""

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fang_core.backends.claims import NO_TRANSACTIONS, Claim, ClaimRequest
from fang_core.claims.claiming import Claims
from fang_core.claims.serving import BLIND_FOR, LOOK_EVERY, MANY, SLOW, Serving
from fang_core.record import ClaimedTask

POOL = uuid.UUID(int=7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = tuple(f"t{number}" for number in range(2 * MANY))
FEW = TYPES[:MANY]


def request(serving: Serving, limit: int = 1) -> ClaimRequest:
    return ClaimRequest(POOL, serving.next, ("K",), limit)


def claim(*task_types: str) -> Claim:
    tasks = [ClaimedTask(uuid.uuid4(), "K", "{}", 1, 0, 20, 0, each, 0, NOW) for each in task_types]
    return Claim(tasks, NOW, NO_TRANSACTIONS, True)


def looked(serving: Serving, *due: str, at: float = 0.0, took: float = 0.0) -> frozenset[str]:
    return serving.looked(dict.fromkeys(due, True), began=at, ended=at + took)


def test_a_pool_of_few_types_never_looks_and_asks_for_all_in_turn() -> None:
    serving = Serving(FEW)
    for turn in range(3):
        assert not serving.looks(turn, whole=True)
        assert serving.next == (*FEW[turn:], *FEW[:turn])
        serving.claimed(request(serving), claim(), turn)
    assert serving.waiting == FEW


def test_a_pool_of_many_asks_for_those_that_have_due_rows() -> None:
    serving = Serving(TYPES)
    assert serving.looks(0.0, whole=False)
    serving.looked({"t3": True, "t4": False, "foreign": True}, began=0.0, ended=0.0)
    assert (serving.next, serving.waiting) == (("t3",), ("t3", "t4"))
    assert not serving.looks(0.01, whole=False)
    assert serving.looks(0.01, whole=True)
    assert serving.looks(LOOK_EVERY, whole=False)


def test_it_looks_again_after_a_claim_that_was_not_filled() -> None:
    serving = Serving(TYPES)
    looked(serving, "t3")
    serving.claimed(request(serving), claim("t3"), 0.01)
    assert not serving.looks(0.01, whole=False)
    serving.claimed(request(serving), claim(), 0.02)
    assert serving.looks(0.02, whole=False)


def test_types_that_were_not_opened_come_first_and_those_read_to_their_end_last() -> None:
    serving = Serving(TYPES)
    looked(serving, "t1", "t2", "t3", "t4")
    serving.claimed(request(serving, 2), claim("t1", "t3"), 0.01)
    assert serving.next == ("t4", "t3", "t1", "t2")


def test_what_is_known_of_a_type_counts_while_it_was_asked_for() -> None:
    serving = Serving(TYPES)
    looked(serving, "t1", "t2")
    assert looked(serving, "t0", "t2", "t3") == {"t2"}
    assert serving.next == ("t2", "t0", "t3")


def test_after_a_look_that_took_long_or_found_too_many_it_asks_for_all_for_a_while() -> None:
    for slow in (True, False):
        serving = Serving(TYPES)
        if slow:
            looked(serving, "t1", took=2 * SLOW)
        else:
            serving.looked(None, began=0.0, ended=2 * SLOW)
        assert serving.next == serving.waiting == TYPES
        assert not serving.looks(1.9 * BLIND_FOR * SLOW, whole=True)
        assert serving.looks(10 * BLIND_FOR * SLOW, whole=False)


def places(claims: Claims, mono: float) -> set[str]:
    """Makes a claim that brings nothing; the types that it read from a place behind their start."""
    asked = claims.request(POOL, ("K",), 5, next_group_size=1, is_idle=True, has_locked=False, whole=False, mono=mono)
    claims.claimed(asked, claim(), began=mono, ended=mono)
    return {task_type for task_type, _ in asked.after}


def test_a_type_that_was_not_asked_for_is_read_from_its_start() -> None:
    """What was lowered in its favour meanwhile has been forgotten by claims that did not read it."""
    claims = Claims(TYPES, 0.0)
    for due, placed in (("t1 t2", ""), ("t1 t2", "t1 t2"), ("t2 t3", "t2"), ("t1 t2", "t2"), ("t4", "")):
        claims.looked(dict.fromkeys(due.split(), True), began=0.0, ended=0.0)
        assert places(claims, 0.01) == set(placed.split())


class PoolOfManyTypes(RuleBasedStateMachine):
    """Rows come at any time, some late behind where claims have passed; all are claimed in the end."""

    @initialize()
    def start(self) -> None:
        self.claims = Claims(TYPES, 0.0)
        self.mono = 1.0
        self.rows: list[tuple[str, datetime, uuid.UUID]] = []

    @rule(number=st.integers(0, len(TYPES) - 1), late=st.sampled_from([0.0, 0.01, 1.0]), count=st.integers(1, 3))
    def insert(self, number: int, late: float, count: int) -> None:
        for _ in range(count):
            at = NOW + timedelta(seconds=self.mono - late)
            self.rows.append((TYPES[number], at, uuid.uuid4()))

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.2]))
    def time_passes(self, seconds: float) -> None:
        self.mono += seconds

    @rule(limit=st.integers(1, 50))
    def claim(self, limit: int) -> None:
        serving = self.claims.serving
        if serving.looks(self.mono, whole=False):
            self.claims.looked({each: True for each, _, _ in self.rows}, began=self.mono, ended=self.mono)
        asked = self.claims.request(
            POOL,
            ("K",),
            limit,
            next_group_size=1,
            is_idle=True,
            has_locked=False,
            whole=False,
            mono=self.mono,
        )
        assert len(set(asked.task_types)) == len(asked.task_types)
        found = []
        for each in asked.task_types:
            place = asked.after.get((each, 0))
            found += sorted(row for row in self.rows if row[0] == each and (place is None or row[1:] > place))
        taken = found[:limit]
        tasks = [ClaimedTask(id_, "K", "{}", 1, 0, 20, 0, each, 0, at) for each, at, id_ in taken]
        now = NOW + timedelta(seconds=self.mono)
        self.claims.claimed(asked, Claim(tasks, now, NO_TRANSACTIONS, True), began=self.mono, ended=self.mono)
        self.rows = [row for row in self.rows if row not in taken]

    def teardown(self) -> None:
        """However it went, a few claims in the next seconds bring all that is there."""
        for _ in range(150):
            self.mono += LOOK_EVERY
            self.claim(1_000)
        assert not self.rows


TestPoolOfManyTypes = PoolOfManyTypes.TestCase
