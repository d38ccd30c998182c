"""Who is dead, in simulated time: a watcher, and pools that beat, pause, die, and lose or never had their locks."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fang_core.liveness import BACK_WITHIN, DECLARED_DEAD, EVERY, GAP, LOCK_FREE_FOR, Beat, Pulse, Watch, lock_key

LEASE = 10.0
SHORTEST_LEASE = 3.0
OLD = 1e6  # seconds that a server is up which never restarted
ME, POOL = uuid.UUID(int=1), uuid.UUID(int=2)


@dataclass
class Life:
    """A pool: when it beat, and from when to when somebody held its lock."""

    beats: list[float]
    locks: list[tuple[float, float]] = field(default_factory=list)
    claims_lock: bool = True
    id: uuid.UUID = POOL
    lease: float = LEASE

    def pulse(self, now: float) -> Pulse:
        count = sum(beat <= now for beat in self.beats)
        is_locked = any(start <= now < end for start, end in self.locks)
        return Pulse(self.id, count, self.claims_lock, is_locked, self.lease)


def deaths(
    pools: Iterable[Life],
    answers: Iterable[float],
    *,
    started: float = -OLD,
    missed: Iterable[float] = (),
    continues: bool = False,
) -> dict[uuid.UUID, float]:
    """When the watcher first took which pool for dead, given the times of its answers and of its failed beats, and
    whether all of them were on one session."""
    watch = Watch()
    dead: dict[uuid.UUID, float] = {}
    for now, answered in sorted([*((now, True) for now in answers), *((now, False) for now in missed)]):
        if not answered:
            watch.missed()
            continue
        pulses = [pool.pulse(now) for pool in pools]
        beat = Beat(True, now - started, [Pulse(ME, 0, True, False, LEASE), *pulses], continues)
        for pulse in watch.dead(ME, beat, now):
            dead.setdefault(pulse.pool_id, now)
    return dead


def steps(least: float, most: float, count: int = 60) -> st.SearchStrategy[list[float]]:
    """Times that lie so far apart, from 0 on."""
    gaps = st.lists(st.floats(least, most), min_size=count, max_size=count)
    return gaps.map(lambda gaps: [sum(gaps[:n]) for n in range(len(gaps) + 1)])


def every(seconds: float, begin: float, end: float) -> list[float]:
    return [begin + n * seconds for n in range(int((end - begin) / seconds) + 1)]


LOCKS = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=4)


# Who lives ------------------------------------------------------------------------------------------------------------


@given(steps(0.01, 1.99), steps(0.01, 30.0), LOCKS, st.booleans(), st.floats(0, OLD), st.sets(st.integers(0, 60)))
def test_who_beats_within_two_seconds_lives_whatever_its_lock_looks_like(
    beats: list[float],
    answers: list[float],
    locks: list[tuple[float, float]],
    claims_lock: bool,
    server_up: float,
    missed: set[int],
) -> None:
    """And however a watcher's answers come, from the start of the one to the end of the other."""
    answers = [now for now in answers if now <= beats[-1]]
    assert not deaths([Life(beats, locks, claims_lock)], answers, started=-server_up, missed=missed)


@given(steps(0.01, LEASE - 0.01), steps(0.01, 30.0), st.booleans())
def test_who_beats_within_the_lease_lives_while_its_lock_is_held_or_where_it_has_none(
    beats: list[float], answers: list[float], claims_lock: bool
) -> None:
    answers = [now for now in answers if now <= beats[-1]]
    assert not deaths([Life(beats, [(0, 1e9)] if claims_lock else [], claims_lock)], answers)


@pytest.mark.parametrize("lease", [SHORTEST_LEASE, LEASE])
@given(st.floats(GAP + 0.1, 1_000), st.integers(5, 30), steps(0.01, EVERY, 20), st.booleans(), st.booleans())
@example(LEASE + 1, 10, every(0.9, 0, 18), False, False)
def test_an_outage_of_the_server_kills_nobody_who_comes_back(
    lease: float, length: float, begin: int, answers_after: list[float], restarts: bool, held: bool
) -> None:
    """However long, and whoever comes back first: the pool does within the seconds that it waits between its tries."""
    back = begin + length
    answers = [*every(EVERY, 0, begin), *(back + now for now in answers_after)]
    beats = [*every(EVERY, 0.5, begin), *every(EVERY, back + 1.5, back + 40)]
    pool = Life(beats, [(0, begin)] if held else [], lease=lease)
    assert not deaths([pool], answers, started=back - 1 if restarts else -OLD)


@pytest.mark.parametrize("length", [0.5, 1.0, 1.5, 1.9])
def test_a_short_recovery_frees_all_locks_and_kills_nobody(length: float) -> None:
    """The server's processes start anew after one of them was killed, but its start stays: only failed beats tell."""
    pool = Life([0.0, 2.95], [(0, 1.0), (2.95, 99)])  # the last one before, and the first one after a failed try
    answers = [0.05, 0.9, 1.0 + length + 0.02, 2.9]
    assert deaths([pool], answers)
    assert not deaths([pool], answers, missed=[1.0])


def test_a_watcher_that_was_away_takes_no_free_lock_for_a_sign() -> None:
    away = [*every(EVERY, 0, 5), *every(EVERY, 8.5, 8.5 + LEASE)]  # it answers again after 3.5 s
    pool = Life([*every(EVERY, 0.5, 6.5), *every(4.0, 10.5, 40)])  # then its lock is free and it is slow: it lives
    assert not deaths([pool], away)


@given(LOCKS, st.floats(0, OLD))
def test_a_watcher_never_takes_itself_for_dead(locks: list[tuple[float, float]], server_up: float) -> None:
    assert not deaths([Life([], locks, id=ME)], every(EVERY, 0, 50), started=-server_up)


# Who is dead ----------------------------------------------------------------------------------------------------------


@given(st.floats(0, 20), steps(0.2, EVERY), st.floats(0, 5))
def test_who_died_is_dead_within_two_seconds_and_a_beat(died: float, answers: list[float], age: float) -> None:
    """To a watcher that answers steadily, on a server that is a lease old."""
    pool = Life(every(EVERY, 0, died), [(0, died)])
    found = deaths([pool], answers, started=answers[0] - LEASE - age)
    if answers[-1] > died + LOCK_FREE_FOR + 2 * EVERY:
        # One answer sees the last beat, at most EVERY after it; the one that takes it for dead is as late again.
        assert found[POOL] <= max(died, 0) + LOCK_FREE_FOR + 2 * EVERY
    assert found.get(POOL, LOCK_FREE_FOR) >= LOCK_FREE_FOR


@given(st.floats(0, 20), steps(0.2, EVERY, 80), st.booleans(), st.booleans())
def test_who_stands_still_is_dead_after_the_lease_and_not_before(
    stopped: float, answers: list[float], holds_lock: bool, claims_lock: bool
) -> None:
    """While its lock is held, or where it has none."""
    pool = Life(every(EVERY, 0, stopped), [(0, 1e9)] if holds_lock else [], claims_lock and holds_lock)
    found = deaths([pool], answers)
    last = pool.beats[-1]
    if answers[-1] > last + LEASE + 2 * EVERY:
        assert last + LEASE <= found[POOL] <= last + LEASE + 2 * EVERY
    else:
        assert found.get(POOL, last + LEASE) >= last + LEASE


@pytest.mark.parametrize(("server_up", "when"), [(LEASE, 2.0), (LEASE - 5, 5.0), (0.0, LEASE)])
def test_free_locks_are_believed_once_the_server_is_a_lease_old(server_up: float, when: float) -> None:
    assert deaths([Life([-1.0])], every(EVERY, 0, 20), started=-server_up) == {POOL: when}


@given(st.floats(0, LEASE), steps(0.01, 1.9), st.floats(0, LEASE - 0.1))
def test_a_watcher_that_starts_just_after_a_failover_believes_no_free_lock(
    begin: float, answers: list[float], back: float
) -> None:
    """All locks were let go with the former server; the pool needs a while to notice, and beats again."""
    pool = Life([-1.0, *every(EVERY, back, back + 200)])
    assert not deaths([pool], [begin + now for now in answers], started=0.0)


@pytest.mark.parametrize("gap", [GAP - 0.1, GAP + 0.1])
def test_free_locks_that_were_not_seen_held_since_a_gap_are_not_believed_for_a_lease(gap: float) -> None:
    pool = Life([0.0], [(0, 0.5)])
    steady = every(EVERY, gap, 40)
    when = LOCK_FREE_FOR if gap < GAP else gap + LEASE
    assert deaths([pool], [0.0, *steady])[POOL] == pytest.approx(when, abs=EVERY)


def test_free_locks_that_were_not_seen_held_since_a_failed_beat_are_not_believed_for_a_lease() -> None:
    pool = Life([0.0], [(0, 0.5)])
    assert deaths([pool], every(EVERY, 0, 20)) == {POOL: 2.0}
    assert deaths([pool], every(EVERY, 0, 20), missed=[0.5]) == {POOL: LEASE}


# A free lock is believed again once it was seen held ------------------------------------------------------------------

LONG = 120.0  # a lease that no test below waits for


@given(
    st.sampled_from(["a restart", "a gap", "a failed beat", "the watcher's start"]),
    st.floats(0.5, 20),
    steps(0.2, EVERY, 100),
)
def test_who_came_back_after_all_locks_were_let_go_and_then_dies_is_dead_as_always(
    what: str, lived: float, answers_after: list[float]
) -> None:
    """Whatever raised the doubt; two answers must have seen it beat and hold its lock."""
    doubt, back = 10.0, 12.5
    died = back + 2 * EVERY + lived
    pool = Life([*every(EVERY, 0, doubt), *every(EVERY, back, died)], [(0, doubt), (back, died)], lease=LONG)
    before = [] if what == "the watcher's start" else every(EVERY, 0, doubt)
    answers = [*before, *(doubt + (GAP + 0.1 if what == "a gap" else 0.1) + now for now in answers_after)]
    started = doubt if what in ("a restart", "the watcher's start") else -OLD
    found = deaths(
        [pool], answers, started=started, missed=[doubt + 0.05] if what in ("a restart", "a failed beat") else []
    )
    if answers[-1] > died + LOCK_FREE_FOR + 2 * EVERY:
        assert pool.beats[-1] + LOCK_FREE_FOR <= found[POOL] <= died + LOCK_FREE_FOR + 2 * EVERY


@pytest.mark.parametrize("what", ["a restart", "a failed beat"])
def test_one_look_at_a_held_lock_is_enough_only_if_the_server_restarted_since_the_last_answer(what: str) -> None:
    """Otherwise the session that holds it may be left over from before, while its owner is still away."""
    pool = Life([*every(EVERY, 0.5, 10), 11.0], [(0, 10), (11.0, 11.5)], lease=LONG)
    restarts = what == "a restart"
    found = deaths(
        [pool], [*every(EVERY, 0, 10), *every(EVERY, 11.2, 200)], started=10.1 if restarts else -OLD, missed=[10.5]
    )
    assert found == {POOL: pytest.approx(13.2 if restarts else 11.2 + LONG, abs=EVERY)}


@given(st.floats(GAP + 0.1, 100), st.floats(0, 20), st.floats(0.1, 7.5), steps(0.2, EVERY, 60))
def test_a_session_left_over_from_before_an_outage_that_ends_late_kills_nobody(
    length: float, left_over: float, away: float, answers_after: list[float]
) -> None:
    """The watcher comes back first and sees the lock held, which falls once the server ends the old session."""
    begin, back = 10.0, 10.0 + length
    pool = Life(
        [*every(EVERY, 0, begin), *every(EVERY, back + away, back + 100)],
        [(0, back + min(left_over, away)), (back + away, 1e9)],
        lease=LONG,
    )
    answers = [*every(EVERY, 0, begin), *(back + now for now in answers_after)]
    assert not deaths([pool], answers, missed=[begin + 1.5])


def test_each_restart_raises_a_doubt_of_its_own() -> None:
    """What was seen held on the former server says nothing of a lock on this one."""
    pool = Life([*every(EVERY, 0, 20), 26.0], [(0, 10), (11, 20), (26, 99)], lease=LONG)
    answers = [*every(EVERY, 0, 10), *every(EVERY, 11, 20), *every(EVERY, 21, 25)]
    assert not deaths([pool], answers, missed=[10.5, 20.5])


@pytest.mark.parametrize("reconnects", [True, False])
def test_a_rescue_that_failed_with_its_connection_raises_a_doubt(reconnects: bool) -> None:
    """Quicker than a gap, and without a beat that failed: the server may have restarted in between."""
    watch = Watch()
    watch.dead(ME, Beat(True, OLD, [Pulse(POOL, 1, True, True, LONG)]), 0.0)
    watch.rescue_failed()
    still = Beat(True, OLD, [Pulse(POOL, 1, True, False, LONG)], continues=not reconnects)
    found = [watch.dead(ME, still, now) for now in (0.5, 1.5, 2.5, 3.5)]
    assert any(found) is not reconnects


AWAY = 30.0
AROUND_A_GAP = [*every(EVERY, 0, 10), *every(EVERY, 10 + AWAY, 200)]


@pytest.mark.parametrize(("continues", "when"), [(True, 10 + AWAY + BACK_WITHIN), (False, 10 + AWAY + 113)])
def test_after_a_gap_on_one_session_a_free_lock_is_believed_long_before_the_lease(continues: bool, when: float) -> None:
    pool = Life(every(EVERY, 0, 5), [(0, 12)], lease=120.0)
    assert deaths([pool], AROUND_A_GAP, continues=continues)[POOL] == pytest.approx(when, abs=2 * EVERY)


@given(st.floats(0.01, BACK_WITHIN - 0.01), st.floats(0.1, AWAY))
def test_who_was_away_with_the_watcher_may_come_back_without_its_lock(late: float, away: float) -> None:
    back = 10 + away + late
    pool = Life([*every(EVERY, 0, 10), *every(EVERY, back, 250)], [(0, 10)], lease=120.0)
    answers = [*every(EVERY, 0, 10), *every(EVERY, 10 + max(GAP + 0.1, away), 250)]
    assert not deaths([pool], answers, continues=True)


def test_who_has_beaten_since_a_gap_and_then_dies_is_dead_as_always() -> None:
    died = 10 + AWAY + 3.5
    pool = Life([*every(EVERY, 0, 10), *every(EVERY, 10 + AWAY + 0.5, died)], [(0, died)], lease=120.0)
    assert deaths([pool], AROUND_A_GAP, continues=True)[POOL] == pytest.approx(died + LOCK_FREE_FOR, abs=EVERY)


def test_on_one_session_a_restart_of_the_server_still_counts() -> None:
    """As the server says it, whatever the watcher thinks."""
    pool = Life(every(EVERY, 0, 10), [(0, 10)], lease=120.0)
    assert deaths([pool], every(EVERY, 0, 200), started=10.0, continues=True)[POOL] == 130.0


# Whose lease counts ---------------------------------------------------------------------------------------------------

HAPPENINGS = {  # by what all locks may have been let go at ten seconds: the answers, and what else the watcher is told
    "a restart": (every(EVERY, 0, 200), {"started": 10.0}),
    "a gap": ([*every(EVERY, 0, 10), *every(EVERY, 10 + GAP + 0.5, 200)], {}),
    "a failed beat": (every(EVERY, 0, 200), {"missed": [10.5]}),
}


def test_each_stands_still_for_its_own_lease() -> None:
    pools = [Life([0.0], [(0, 1e9)], id=uuid.UUID(int=n), lease=float(n)) for n in (3, 10, 60)]
    assert deaths(pools, every(EVERY, 0, 100)) == {pool.id: pool.lease for pool in pools}


@given(st.sampled_from([*HAPPENINGS]), st.floats(3, 120), st.floats(0, 0.99))
@example("a restart", 120.0, 0.9)
def test_when_all_locks_were_let_go_each_may_be_away_for_its_own_lease(what: str, lease: float, part: float) -> None:
    answers, told = HAPPENINGS[what]
    back = 10 + lease * part
    pool = Life([*every(EVERY, 0, 10), *every(EVERY, back, 200)], [(0, 10), (back, 1e9)], lease=lease)
    assert not deaths([pool], answers, **told)


@pytest.mark.parametrize("what", HAPPENINGS)
def test_when_all_locks_were_let_go_a_short_lease_beside_a_long_one_is_as_short(what: str) -> None:
    answers, told = HAPPENINGS[what]
    died = every(EVERY, 0, 10)
    pools = [Life(died, [(0, 10)], id=uuid.UUID(int=n), lease=float(n)) for n in (3, 60)]
    found = deaths(pools, answers, **told)
    assert [found[pool.id] for pool in pools] == pytest.approx([10 + 3, 10 + 60], abs=2 * EVERY)


def test_the_start_of_a_watcher_is_no_gap() -> None:
    assert deaths([Life([0.0])], every(EVERY, 1_000, 1_020)) == {POOL: 1_002.0}


def test_a_watcher_whose_answers_come_slowly_still_finds_the_dead() -> None:
    found = deaths([Life([0.0])], every(4.0, 0, 100))
    assert found == {POOL: LEASE / EVERY * 4.0}  # of each silence of 4 s, 1 s counts


def test_who_was_declared_dead_is_dead_at_the_first_look_whatever_its_lock_says() -> None:
    kept = Pulse(POOL, DECLARED_DEAD, True, True, LEASE)
    assert Watch().dead(ME, Beat(True, 0.0, [kept]), 0.0) == [kept]


def test_a_record_that_was_away_begins_anew() -> None:
    watch = Watch()
    still = Pulse(POOL, 7, False, False, LEASE)
    for now in range(9):
        assert not watch.dead(ME, Beat(True, OLD, [still]), float(now))
    assert not watch.dead(ME, Beat(True, OLD, []), 9.0)
    assert not watch.dead(ME, Beat(True, OLD, [still]), 10.0)


def test_the_key_of_a_lock_is_the_head_of_the_id() -> None:
    assert lock_key(uuid.UUID(int=1 << 64)) == 1
    assert lock_key(uuid.UUID(int=(1 << 128) - 1)) == -1
    assert lock_key(uuid.UUID(int=1 << 127)) == -(2**63)
