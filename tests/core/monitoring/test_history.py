"""What a pool writes under which minute: totals that may be written again, whatever clocks and replies do."""

from datetime import UTC, datetime, timedelta

import pytest

from fang_core.monitoring.history import Flushed, Minutes, StatsRow, hour_of, minute_of, total

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAIR = ("common", "A")
OTHER = ("common", "B")


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Server:
    """Keeps the rows of one writer, as the backend does."""

    def __init__(self) -> None:
        self.minutes = Minutes()
        self.minutes.heard(NOON, 0.0)
        self.rows: dict[tuple[datetime, tuple[str, str]], StatsRow] = {}

    def flush(
        self, at: float, finished: int, *, ahead: float = 0.0, answers: bool = True, writes: bool = True, other: int = 0
    ) -> bool:
        """Flushes a total at a time of the pool's clock; the backend's is ``ahead``. Returns whether it was in time."""
        totals = {PAIR: StatsRow(finished=finished, run_s=float(finished), run={3: finished} if finished else {})}
        if other:
            totals[OTHER] = StatsRow(finished=other)
        flush = self.minutes.flush(totals, at)
        in_time = flush.minute >= later(at + ahead) - timedelta(minutes=4)
        if in_time and writes:
            self.rows.update({(flush.minute, pair): row for pair, row in flush.rows.items()})
        if answers:
            self.minutes.answered(Flushed(later(at + ahead), in_time), at)
        return in_time

    def minute(self, n: int, pair: tuple[str, str] = PAIR) -> int:
        row = self.rows.get((later(60.0 * n), pair))
        return 0 if row is None else row.finished

    @property
    def finished(self) -> int:
        return sum(row.finished for row in self.rows.values())


@pytest.fixture
def server() -> Server:
    return Server()


def test_each_flush_overwrites_the_minute_with_its_total(server: Server) -> None:
    for at, finished in ((5, 10), (10, 30), (59, 70)):
        server.flush(at, finished)
        assert (server.minute(0), len(server.rows)) == (finished, 1)


def test_a_new_minute_begins_at_zero(server: Server) -> None:
    for at, finished in ((55, 10), (62, 30), (118, 50), (121, 55)):
        server.flush(at, finished)
    assert [server.minute(n) for n in range(3)] == [10, 40, 5]
    assert server.rows[later(60), PAIR].run == {3: 40}


def test_only_what_has_changed_is_sent(server: Server) -> None:
    server.flush(5, 10, other=3)
    flush = server.minutes.flush({PAIR: StatsRow(finished=11), OTHER: StatsRow(finished=3)}, 10.0)
    assert set(flush.rows) == {PAIR}


@pytest.mark.parametrize("writes", [True, False])
def test_a_lost_reply_changes_nothing(server: Server, writes: bool) -> None:
    """It is repeated under the same minute, also when the next one has come."""
    server.flush(50, 10)
    server.flush(58, 20, answers=False, writes=writes)
    server.flush(63, 25)
    assert (server.minute(0), server.finished) == (25, 25)
    server.flush(68, 40)
    assert [server.minute(n) for n in range(2)] == [25, 15]


def test_what_comes_too_late_for_its_minute_goes_into_the_next_one(server: Server) -> None:
    """Such as after an outage: by now the minute may be merged, and so it must not be overwritten."""
    server.flush(50, 10)
    server.flush(55, 20, answers=False, writes=False)
    assert not server.flush(400, 30)
    server.flush(400, 30)
    assert (server.minute(0), server.minute(6), server.finished) == (10, 20, 30)


def test_a_pool_that_was_stopped_for_ten_minutes_writes_to_the_minute_of_now(server: Server) -> None:
    server.flush(50, 10)
    assert server.flush(650, 30)
    assert (server.minute(0), server.minute(10)) == (10, 20)


def test_the_pools_own_clock_says_when_a_minute_is_over(server: Server) -> None:
    server.flush(10, 10)
    server.flush(75, 20)  # no reply has said that it is a minute later
    assert server.minute(1) == 10


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_database_clock_that_jumps_loses_and_doubles_nothing(server: Server, hours: int) -> None:
    finished = 0
    for at in range(0, 120, 5):
        finished += 10
        if not server.flush(at, finished, ahead=hours * 3600 if at >= 30 else 0):
            server.flush(at, finished, ahead=hours * 3600)
    assert server.finished == finished
    minutes = [minute for minute, _ in server.rows]
    assert minutes == sorted(minutes)  # it never goes back
    if hours < 0:
        assert set(minutes) == {NOON}  # it stays there until that minute comes again


def test_a_count_that_was_one_too_high_is_made_up_for(server: Server) -> None:
    server.flush(55, 11)
    server.flush(62, 10)
    assert server.minute(1) == 0
    server.flush(70, 15)
    assert server.finished == 15


def test_sums() -> None:
    rows = [StatsRow(started=n, run_s=n / 2, queue={n: 1}, run={1: n}) for n in (1, 2, 3)]
    assert total(rows) == StatsRow(started=6, run_s=3.0, queue={1: 1, 2: 1, 3: 1}, run={1: 6})
    assert rows[0].plus(rows[1]) == total(rows[:2])
    assert total(rows).since(rows[2]) == total(rows[:2])
    assert total([]) == StatsRow()


def test_minutes_and_hours_are_in_utc() -> None:
    time = datetime.fromisoformat("2026-01-01T12:34:56.7+05:30")
    assert minute_of(time) == datetime(2026, 1, 1, 7, 4, tzinfo=UTC)
    assert hour_of(time) == datetime(2026, 1, 1, 7, tzinfo=UTC)
