"""What a reader that stays for seconds can say of pools."""

from uuid import UUID

import pytest

from fang_core.glance import EVERY, LONGEST, Glance, Life
from fang_core.liveness import DECLARED_DEAD, Beat, Pulse

ONE, TWO = UUID(int=1), UUID(int=2)
LONG_UP = 10_000.0


def looked(looks: list[list[Pulse]], server_up: float = LONG_UP) -> Glance:
    """Looks until there is nothing more to wait for; the last look is repeated."""
    glance = Glance()
    now = 100.0
    while not glance.is_over:
        glance.look(Beat(False, server_up, looks.pop(0) if len(looks) > 1 else looks[0]), now)
        now += EVERY
    assert now - 100.0 <= LONGEST + 2 * EVERY
    return glance


def pulse(beats: int, *, claims: bool = True, locked: bool = True, lease: float = 60.0, pool_id: UUID = ONE) -> Pulse:
    return Pulse(pool_id, beats, claims, locked, lease)


def test_one_that_beats_is_alive_at_once() -> None:
    glance = looked([[pulse(7)], [pulse(8)], [pulse(8, locked=False)]])
    assert glance.life(ONE) is Life.ALIVE


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
    glance.look(Beat(False, LONG_UP, []), 0.0)
    assert glance.is_over
