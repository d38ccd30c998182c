"""Schedules in the database whose processes and sessions die: F59."""

import time
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

from fang_core import Overlap
from fang_core.backends.scheduling import tick_id
from fang_threaded import Queue
from tests.faults.registry import BOUND, SHORT, SUSPECTED, fault
from tests.faults.tasks import Blocking, Cooperative
from tests.faults.trial import MODES, Trial

PERIOD: Final = timedelta(seconds=1)
LONGER: Final = 1.2
"""Seconds that each task takes: so the next tick always finds it at work, or waiting."""

KILLS: Final = 6

DYING: Final = """
CREATE FUNCTION audit.dying() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.2);
    IF random() < 0.05 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dying BEFORE UPDATE OF last_tick ON fang.fang_schedules FOR EACH ROW EXECUTE FUNCTION audit.dying();
"""
"""Has ticks take a while in the midst of their statement, and some of their sessions end there."""

OVERLAPS: Final = """
CREATE TABLE audit.overlaps (name text, running bigint);
CREATE FUNCTION audit.overlap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.overlaps
    SELECT NEW.metadata ->> 'name', count(*) FROM fang.fang_tasks
    WHERE metadata ->> 'name' = NEW.metadata ->> 'name' AND cancel_request IS NULL
        AND state IN ('new', 'retried', 'in_progress')
    HAVING count(*) > 1;
    RETURN NULL;
END $$;
CREATE TRIGGER overlap AFTER INSERT ON fang.fang_tasks FOR EACH ROW EXECUTE FUNCTION audit.overlap();
"""
"""Notes each tick whose task was inserted while another one of its schedule went on, and was not to be cancelled."""


@fault("F59", "schedules of each overlap policy, processes and sessions killed in ticks", quick=True, given=SHORT)
def ticks_under_kills(trial: Trial) -> None:
    """One task for each tick, none missed where all are to be made, and no overlap but where it is allowed."""
    trial.database.execute(DYING + OVERLAPS)
    trial.start(2)
    classes: dict[str, Any] = {"threaded": Blocking, "async": Cooperative}
    modes = MODES[trial.mix]
    with Queue(trial.url) as queue:
        for number, overlap in enumerate(Overlap):
            task = classes[modes[number % len(modes)]](name=overlap, seconds=LONGER)
            missed = "all" if overlap is Overlap.ALLOW else "latest"
            queue.schedules.put(overlap, task, every=PERIOD, overlap=overlap, missed=missed)
        trial.until(trial.starts)
        for _ in range(KILLS):
            time.sleep(0.5 + trial.chance.random())
            victim = trial.chance.choice(trial.fleet.alive)
            trial.strike(victim, victim.kill, BOUND + SUSPECTED)
            trial.replace_dead()
        trial.until(lambda: all(len(_ticks(trial)[overlap]) >= 4 for overlap in Overlap))
        for overlap in Overlap:
            assert queue.schedules.remove(overlap)
    trial.settle(within=60)
    ticks = _ticks(trial)
    assert all(later - at == PERIOD for at, later in pairwise(ticks[Overlap.ALLOW])), "a tick was missed"
    overlaps = Counter(name for (name,) in trial.rows("SELECT name FROM audit.overlaps"))
    assert overlaps.keys() == {Overlap.ALLOW}, "a tick overlaps that must not, or none did that may"


def _ticks(trial: Trial) -> dict[str, list[Any]]:
    """The ticks of each schedule that were made, in their order; each of them once."""
    made: dict[str, list[Any]] = {overlap: [] for overlap in Overlap}
    for task, due in trial.rows("SELECT task_id, due FROM audit.tasks WHERE was IS NULL ORDER BY place"):
        (name,) = [overlap for overlap in Overlap if tick_id(overlap, due) == task]
        made[name].append(due)
    for name, ticks in made.items():
        assert len(set(ticks)) == len(ticks), f"a tick of {name} was made twice"
        assert ticks == sorted(ticks), f"the ticks of {name} are out of order"
    return made
