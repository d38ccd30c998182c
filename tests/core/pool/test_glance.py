"""What a reader that stays for seconds can say of pools."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import pytest

from fang_core.liveness import DECLARED_DEAD, Beat, Pulse
from fang_core.monitoring.life import Life
from fang_core.monitoring.silence import SILENT_AFTER
from fang_core.pool.telling.glance import ACTIVE_WITHIN, EVERY, LONGEST, Glance, Look

SECOND = timedelta(seconds=1)
ONE, TWO = UUID(int=1), UUID(int=2)
LONG_UP = 10_000.0
NONE_TOLD: Mapping[UUID, float] = {}


def looked(looks: list[list[Pulse]], server_up: float = LONG_UP, quiet: Mapping[UUID, float] = NONE_TOLD) -> Glance:
    """Looks until there is nothing more to wait for; the last look is repeated, and the sessions stay as they are."""
    glance = Glance()
    now = 100.0
    while not glance.is_over:
        glance.look(Look(Beat(False, server_up, looks.pop(0) if len(looks) > 1 else looks[0]), quiet), now)
        now += EVERY
    assert now - 100.0 <= LONGEST + 2 * EVERY
    return glance


def pulse(beats: int, *, claims: bool = True, locked: bool = True, lease: float = 60.0, pool_id: UUID = ONE) -> Pulse:
    return Pulse(pool_id, beats, claims, locked, lease)


def test_one_whose_counter_moves_is_alive() -> None:
    glance = looked([[pulse(7)], [pulse(8)], [pulse(8, locked=False)]])
    assert glance.life(ONE) is Life.ALIVE


@pytest.mark.parametrize("quiet", [0.0, 0.999, ACTIVE_WITHIN])
def test_one_whose_session_was_active_just_now_is_alive_after_one_look(quiet: float) -> None:
    glance = Glance()
    glance.look(Look(Beat(False, LONG_UP, [pulse(7)]), {ONE: quiet}), 0.0)
    assert glance.is_over
    assert glance.life(ONE) is Life.ALIVE


@pytest.mark.parametrize(
    "quiet",
    [
        {ONE: SILENT_AFTER.total_seconds() + 0.1},  # stopped, or cut off
        {ONE: -3_600.0},  # the server's clock was set back
        {},  # it holds no lock, or the reader may not see its session
        {TWO: 0.0},
    ],
)
def test_one_whose_session_says_nothing_is_watched(quiet: Mapping[UUID, float]) -> None:
    assert looked([[pulse(7)]], quiet=quiet).life(ONE) is Life.SILENT
    assert looked([[pulse(7)], [pulse(8)]], quiet=quiet).life(ONE) is Life.ALIVE


@pytest.mark.parametrize(
    ("quiet", "told", "life"),
    [
        ({}, None, Life.SILENT),
        ({}, SILENT_AFTER, Life.ALIVE),
        ({}, SILENT_AFTER + SECOND, Life.SILENT),
        ({ONE: 29.0}, None, Life.ALIVE),
        ({ONE: 29.0}, 2 * SILENT_AFTER, Life.ALIVE),
        ({ONE: 31.0}, SECOND, Life.ALIVE),
        ({ONE: 31.0}, 2 * SILENT_AFTER, Life.SILENT),
    ],
)
def test_one_whose_counter_stands_is_judged_by_when_it_was_heard_of(
    quiet: Mapping[UUID, float], told: timedelta | None, life: Life
) -> None:
    assert looked([[pulse(7)]], quiet=quiet).life(ONE, told) is life
    assert looked([[pulse(7, locked=False)]], quiet=quiet).life(ONE, told) is Life.DEAD  # whatever it has told


def test_one_that_has_not_beaten_for_its_lease_is_silent_whatever_it_has_told() -> None:
    glance = looked([[pulse(7, lease=5.0)]], quiet={ONE: 5.1})
    assert glance.life(ONE, SECOND) is Life.SILENT


def test_only_the_others_are_waited_for() -> None:
    glance = looked([[pulse(7), pulse(3, pool_id=TWO)]], quiet={ONE: 0.5})
    assert (glance.life(ONE), glance.life(TWO)) == (Life.ALIVE, Life.SILENT)


def test_one_that_is_declared_dead_is_dead_though_its_session_is_active() -> None:
    """It was stopped, goes on, and does not know yet that others have taken its tasks."""
    assert looked([[pulse(DECLARED_DEAD)]], quiet={ONE: 0.0}).life(ONE) is Life.DEAD


@pytest.mark.parametrize(
    ("still", "server_up", "life"),
    [
        (pulse(7, locked=False), LONG_UP, Life.DEAD),
        (pulse(7), LONG_UP, Life.SILENT),  # stopped, or cut off
        (pulse(7, claims=False, locked=False), LONG_UP, Life.SILENT),  # behind a pooler
        (pulse(7, locked=False), 10.0, Life.SILENT),  # the server has let all locks go
        (pulse(7, locked=False), 0.0, Life.SILENT),  # a standby, which shows no locks
        (pulse(DECLARED_DEAD), LONG_UP, Life.DEAD),
    ],
)
def test_of_one_that_does_not_beat_its_lock_decides(still: Pulse, server_up: float, life: Life) -> None:
    assert looked([[still]], server_up).life(ONE) is life


def test_one_that_is_declared_dead_meanwhile_has_not_beaten() -> None:
    assert looked([[pulse(7)], [pulse(DECLARED_DEAD)]]).life(ONE) is Life.DEAD


def test_one_that_leaves_is_not_waited_for_and_one_that_comes_is() -> None:
    comes = pulse(1, pool_id=TWO)
    glance = looked([[pulse(7)], [comes], [comes._replace(beats=2)]])
    assert (glance.life(ONE), glance.life(TWO)) == (Life.SILENT, Life.ALIVE)


def test_one_that_registers_after_the_last_look_is_alive() -> None:
    assert looked([[]]).life(ONE) is Life.ALIVE
    assert Glance().life(ONE) is Life.SILENT  # there was no look


def test_without_pools_there_is_nothing_to_wait_for() -> None:
    glance = Glance()
    assert not glance.is_over
    glance.look(Look(Beat(False, LONG_UP, []), {}), 0.0)
    assert glance.is_over
