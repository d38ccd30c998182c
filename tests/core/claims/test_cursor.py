"""The cursor against a simulated table: transactions of all lengths, claims in between, times that were set by hand."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise, product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core.backends.claims import Claim, ClaimRequest, Transactions
from fang_core.backends.waking import ANYWHERE, LateRows
from fang_core.claims import cursor as cursors
from fang_core.claims.cursor import Cursor
from fang_core.claims.suspects import NO_SUSPECTS
from fang_core.record import PRIORITIES, ClaimedTask

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
POOL = UUID(int=7)
LEVELS = [("mail", 0), ("mail", 2), ("heavy", -1)]


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Row:
    number: int
    lane: tuple[str, int]
    due: float  # its due time
    xid: float  # when its transaction got its id; ids are given in this order
    committed: float
    group_limit: int = NO_SUSPECTS

    @property
    def place(self) -> tuple[datetime, UUID]:
        return at(self.due), UUID(int=self.number)


@dataclass
class Table:
    """What a claim would see at each moment."""

    rows: list[Row]
    claimed: dict[int, float] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=lambda: Cursor(0.0))

    def claim(
        self, now: float, limit: int = 1_000, *, whole: bool = False, group_size: int = 1, mono: float | None = None
    ) -> int:
        """At this time of the backend's clock, and of the pool's, which is the same unless it is told."""
        mono = now if mono is None else mono
        after = self.cursor.start(mono, whole=whole, group_size=group_size)
        request = ClaimRequest(POOL, ("mail", "heavy"), ("K",), limit, after, group_size=group_size)
        visible = [
            row
            for row in self.rows
            if row.committed <= now
            and row.due <= now
            and row.number not in self.claimed
            and row.group_limit >= group_size
            and (row.lane not in request.after or row.place > request.after[row.lane])
        ]
        order = {lane: number for number, lane in enumerate(product(request.task_types, PRIORITIES))}
        seen = sorted(visible, key=lambda row: (order[row.lane], row.place))[:limit]
        self.claimed |= {row.number: now for row in seen}
        tasks = [_task(row) for row in seen]
        claim = Claim(tasks, at(now), self._transactions(now), registered=True)
        self.cursor.claimed(request, claim, seconds=0.001, mono=mono)
        return len(tasks)

    def _transactions(self, now: float) -> Transactions:
        begun = [row for row in sorted(self.rows, key=lambda row: row.xid) if row.xid <= now]
        running = frozenset(xid for xid, row in enumerate(begun, start=100) if row.committed > now)
        return Transactions(100 + len(begun), running)


def _task(row: Row) -> ClaimedTask:
    due, task_id = row.place
    return ClaimedTask(task_id, "K", "{}", 1, 0, 20, 0, *row.lane, due)


@st.composite
def tables(draw: st.DrawFn, longest: float = 5.0) -> list[Row]:
    """Rows as the library inserts them: due when they were inserted, hardly before their transaction got its id."""
    rows = []
    for number in range(draw(st.integers(1, 30))):
        begun = draw(st.floats(0, 5))
        xid = begun + draw(st.floats(0, 0.04))
        rows.append(Row(number, draw(st.sampled_from(LEVELS)), begun, xid, xid + draw(st.floats(0, longest))))
    return rows


def moments(gaps: list[float], until: float) -> list[float]:
    found, now = [], 0.0
    while now < until:
        for gap in gaps:
            now += gap
            found.append(now)
    return found


LIMITS = st.integers(1, 4)
GAPS = st.lists(st.floats(0.03, 0.5), min_size=1, max_size=5)


@given(tables(), GAPS)
def test_a_row_is_found_by_the_second_claim_after_its_commit(rows: list[Row], gaps: list[float]) -> None:
    table, times = Table(rows), moments(gaps, 12.0)
    for now in times:
        table.claim(now)
    for row in rows:
        after = [now for now in times if now >= row.committed]
        assert table.claimed[row.number] <= after[1]


@given(tables(), GAPS, LIMITS)
def test_small_claims_find_all_and_a_look_back_goes_on_until_one_is_not_full(
    rows: list[Row], gaps: list[float], limit: int
) -> None:
    table, times = Table(rows), moments(gaps, 12.0)
    for now in times:
        while table.claim(now, limit) == limit:
            pass
    for row in rows:
        after = [now for now in times if now >= row.committed]
        assert table.claimed[row.number] <= after[1]


@given(
    tables(),
    GAPS,
    st.lists(st.sampled_from([1, 2, 3, NO_SUSPECTS]), min_size=30, max_size=30),
    st.lists(st.sampled_from([1, 2, 3, NO_SUSPECTS]), min_size=1, max_size=4),
    LIMITS,
)
def test_what_claims_left_out_is_found_by_those_that_do_not(
    rows: list[Row], gaps: list[float], limits: list[int], sizes: list[int], limit: int
) -> None:
    rows = [replace(row, group_limit=limits[row.number]) for row in rows]
    table = Table(rows)
    enough = 12.0 + 10 * max(gaps)  # for two claims at the end that leave nothing out
    times = list(zip(moments(gaps, enough), cycle([*sizes, 1]), strict=False))
    for now, size in times:
        while table.claim(now, limit, group_size=size) == limit:
            pass
    for row in rows:
        after = [now for now, size in times if now >= row.committed and row.group_limit >= size]
        assert table.claimed[row.number] <= after[1]


@given(tables(), GAPS)
def test_what_a_whole_claim_leaves_is_not_there(rows: list[Row], gaps: list[float]) -> None:
    table = Table(rows)
    for before, now in pairwise(moments(gaps, 5.0)):
        table.claim(before)
        table.claim(now, whole=True)
        assert all(row.number in table.claimed for row in rows if row.committed <= now)


@pytest.mark.parametrize(("back", "within"), [(0.5, 0.15), (5.0, 1.05), (3_600.0, 10.05)])
def test_the_ladder_finds_times_that_were_set_by_hand(back: float, within: float) -> None:
    steady = [Row(number, ("mail", 0), number / 10, number / 10, number / 10) for number in range(400)]
    late = Row(1_000, ("mail", 0), 20.0 - back, 20.0, 20.0)
    table = Table([*steady, late])
    for now in moments([0.01], 35.0):
        table.claim(now)
    assert table.claimed[1_000] <= 20.0 + within


def test_a_step_of_the_ladder_that_costs_much_is_taken_less_often() -> None:
    cursor = Cursor(0.0)
    request = ClaimRequest(POOL, ("mail",), ("K",), 10)
    whole = []
    for now in moments([0.01], 100.0):
        starts = cursor.start(now)
        is_whole = now > 11 and not starts  # before that, ten seconds ago is the start
        if is_whole:
            whole.append(now)
        seconds = 0.5 if is_whole else 0.001
        cursor.claimed(request, Claim([], at(now), Transactions(100, frozenset()), True), seconds=seconds, mono=now)
    assert len(whole) >= 3
    assert all(24.0 < later - earlier < 26.0 for earlier, later in pairwise(whole))  # 0.5 s at a fiftieth of the time


def test_who_is_told_of_rows_behind_starts_there() -> None:
    cursor = Cursor(0.0)
    request = ClaimRequest(POOL, ("mail",), ("K",), 10)
    cursor.claimed(request, Claim([], at(100), Transactions(100, frozenset()), True), seconds=0.001, mono=0.0)
    front = dict(cursor.start(0.01))
    assert not cursor.is_behind

    cursor.told_of(LateRows("mail", 0, at(200)))  # ahead of it
    cursor.told_of(LateRows("other", 0, at(1)))
    assert not cursor.is_behind

    cursor.told_of(LateRows("mail", 0, at(50)))
    assert cursor.is_behind
    assert cursor.start(0.02) == {**front, ("mail", 0): (at(50), UUID(int=0))}

    cursor.told_of(ANYWHERE)
    assert cursor.start(0.02) == {}
    cursor.claimed(request, Claim([], at(101), Transactions(100, frozenset()), True), seconds=0.001, mono=0.02)
    assert not cursor.is_behind


def test_a_claim_that_found_no_record_of_its_pool_moves_nothing() -> None:
    cursor = Cursor(0.0)
    request = ClaimRequest(POOL, ("mail",), ("K",), 10)
    cursor.claimed(request, Claim([], at(100), Transactions(100, frozenset()), False), seconds=0.001, mono=0.0)
    assert cursor.start(0.01) == {}


def test_a_cursor_that_forgets_starts_over() -> None:
    table = Table([Row(1, ("mail", 0), 1.0, 1.0, 1.0)])
    table.claim(2.0)
    assert table.cursor.start(2.0)
    table.cursor.forget()
    assert table.cursor.start(2.0) == {}


class TestMutants:
    """Each part of the rule is missed by a test above where it is gone."""

    second_claim = staticmethod(test_a_row_is_found_by_the_second_claim_after_its_commit.hypothesis.inner_test)

    def test_a_cursor_without_the_xid_rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quick, slow = Row(1, ("mail", 0), 0.2, 0.2, 0.2), Row(2, ("mail", 0), 0.1, 0.1, 0.45)
        monkeypatch.setattr(cursors, "LADDER", ())
        self.second_claim([quick, slow], [0.03])
        monkeypatch.setattr(Cursor, "_before", lambda self, xid: self._next)
        with pytest.raises(KeyError):
            self.second_claim([quick, slow], [0.03])

    def test_a_cursor_without_look_backs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cursors, "LADDER", ())
        with pytest.raises(KeyError):
            test_the_ladder_finds_times_that_were_set_by_hand(0.5, 0.15)

    def test_a_cursor_that_forgets_what_was_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        left_out = test_what_claims_left_out_is_found_by_those_that_do_not.hypothesis.inner_test
        rows = [Row(1, ("mail", 0), 0.1, 0.1, 0.1)]
        arguments = (rows, [0.03], [1] * 30, [2] * 20, 4)
        monkeypatch.setattr(cursors, "LADDER", ())
        left_out(*arguments)
        start = Cursor.start
        monkeypatch.setattr(
            Cursor, "start", lambda self, now, *, whole, group_size: start(self, now, whole=whole, group_size=9)
        )
        with pytest.raises(KeyError):
            left_out(*arguments)

    def test_a_cursor_that_does_not_stay_behind_the_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slow_to_begin = Row(1, ("mail", 0), 0.29, 0.32, 0.32)
        monkeypatch.setattr(cursors, "LADDER", ())
        self.second_claim([slow_to_begin], [0.03])
        monkeypatch.setattr(cursors, "MARGIN", timedelta(0))
        with pytest.raises(KeyError):
            self.second_claim([slow_to_begin], [0.03])


def test_what_is_inserted_after_the_clock_was_set_back_is_found_by_the_second_claim() -> None:
    """And by every second claim from then on: no place is kept that lies ahead of the clock."""
    cursor = Cursor(0.0)
    table = Table([Row(0, LEVELS[0], 1.0, 1.0, 1.0)], cursor=cursor)
    for now in (2, *range(3600, 3636)):
        table.claim(now)
    for number in (1, 2):
        now = 10.0 * number
        table.rows.append(Row(number, LEVELS[0], now, now, now))
        found = [table.claim(now + 0.1, mono=3635.1 + number), table.claim(now + 0.2, mono=3635.2 + number)]
        assert sum(found) == 1
        assert not cursor.is_behind
