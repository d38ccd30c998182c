"""The checker can fail: a sound record passes, and one that violates an invariant is reported under its name."""

from typing import Any
from uuid import UUID

import pytest

from tests.faults.audit import Change, PoolChange
from tests.faults.checker import INVARIANTS, Flow, Record, Strike, check, recovery
from tests.faults.ledger import Acknowledgement, Entry

TASK, OTHER = UUID(int=1), UUID(int=2)
A, B = UUID(int=10), UUID(int=11)


class Story:
    """Writes a record, one thing after the other; a second passes with each."""

    def __init__(self, *, max_retries: int = 20, max_crashes: int = 3) -> None:
        self.now = 0.0
        self.max_retries = max_retries
        self.record: dict[str, Any] = {name: [] for name in ("entries", "changes", "pools", "acknowledgements")}
        self.record |= {"strikes": [], "flows": [], "max_crashes": max_crashes}
        self.row: dict[str, Any] = {}
        for pool in (A, B):
            self.pool(pool, "registered")

    def inserted(self, task: UUID = TASK) -> "Story":
        self._change(task, None, "new")
        self.record["acknowledgements"].append(Acknowledgement(task, True, self._tick()))
        return self

    def claimed(self, pool: UUID, *, raises: int = 1) -> "Story":
        self.row |= {"attempt": self.row.get("attempt", 0) + raises, "pool": pool}
        return self._change(TASK, self.row["state"], "in_progress")

    def became(self, state: str | None, *, retries: int = 0, crashes: int = 0, by_hand: bool = False) -> "Story":
        return self._change(TASK, self.row["state"], state, retries, crashes, by_hand)

    def edited(self, *, attempt: int) -> "Story":
        self.row["attempt"] = attempt
        return self._change(TASK, "in_progress", "in_progress", by_hand=True)

    def rescued(self, state: str = "retried", *, crashes: int = 1, record_goes: bool = True) -> "Story":
        pool = self.row["pool"]
        self._change(TASK, "in_progress", state, 0, crashes)
        if record_goes:
            self.record["pools"].append(PoolChange(self._place(), self.now, self._place() - 1, pool, 1, "gone"))
        return self

    def pool(self, pool: UUID, event: str) -> "Story":
        place = self._place()
        self.record["pools"].append(PoolChange(place, self._tick(), place, pool, 1, event))
        return self

    def ran(self, event: str, attempt: int | None = None, task: UUID = TASK, pid: int = 1) -> "Story":
        """In the process of the pool, or in a child of it."""
        number = self.row.get("attempt", 1) if attempt is None else attempt
        self.record["entries"].append(Entry(task, number, event, self._tick(), pid, None))  # type: ignore[arg-type]
        return self

    def completing(self, attempt: int | None = None, *, commits: bool = True) -> "Story":
        """In the transaction of the next change, or in one that is rolled back."""
        self.ran("completing", attempt)
        entry = self.record["entries"].pop()
        self.record["entries"].append(entry._replace(transaction=self._place() if commits else -1))
        return self

    def run(self, result: str = "ok") -> "Story":
        return self.ran("start").ran(result)

    def passes(self, seconds: float) -> "Story":
        self.now += seconds
        return self

    def flowing(self, share: float = 0.5) -> "Story":
        """From the insert until now, in two slots."""
        since = self.record["changes"][0].at
        self.record["flows"].append(Flow(since, self.now, share, [(since, 2)]))
        return self

    def struck(self, *held: tuple[UUID, int], bound: float = 10) -> "Story":
        self.record["strikes"].append(Strike(self._tick(), bound, held))
        return self

    def violated(self) -> list[str]:
        return sorted({violation.invariant for violation in check(Record(**self.record))})

    def _change(
        self, task: UUID, was: str | None, became: str | None, retries: int = 0, crashes: int = 0, by_hand: bool = False
    ) -> "Story":
        before = (self.row.get("retries", 0), self.row.get("crashes", 0))
        self.row |= {"state": became, "retries": before[0] + retries, "crashes": before[1] + crashes}
        place = self._place()
        after = (None, None) if became is None else (self.row["retries"], self.row["crashes"])
        attempt, pool = self.row.get("attempt", 0), self.row.get("pool")
        change = Change(
            place, self._tick(), place, by_hand, task, was, became, attempt, pool, *before, self.max_retries, *after
        )
        self.record["changes"].append(change)
        return self

    def _place(self) -> int:
        return len(self.record["changes"]) + len(self.record["pools"])

    def _tick(self) -> float:
        self.now += 1
        return self.now


def story(**options: Any) -> Story:
    return Story(**options).inserted()


SOUND = {
    "one of two slots works on all that there is": story().claimed(A).ran("start").passes(30).ran("ok").became(None)
        .flowing(0.3),
    "nothing is left to work on": story().claimed(A).run().became(None).passes(30).flowing(0.1),
    "its child died, and it ran again": story().claimed(A).ran("start", pid=2).ran("died").became("retried", crashes=1)
        .claimed(B).ran("start", pid=3).ran("ok").became(None),
    "its child died while it imported": story().claimed(A).ran("died").became("retried", crashes=1)
    .claimed(A).ran("start", pid=2).ran("ok").became(None),
    "its child died once too often": story(max_crashes=1).claimed(A).ran("start", pid=2).ran("died")
        .became("failed", crashes=1),
    "its child was killed before it began": story().claimed(A).ran("failed").became("retried", retries=1)
        .claimed(B).run().became(None),
    "done": story().claimed(A).run().became(None),
    "kept": story().claimed(A).run().became("finished"),
    "pruned": story().claimed(A).run().became("finished").became(None),
    "another attempt set by hand": story().claimed(A).ran("start").edited(attempt=6).ran("ok", 1)
        .became("new").claimed(B).run().became(None),
    "completed in the run's transaction": story().claimed(A).ran("start").completing().became(None).ran("ok"),
    "completed by a run that died then": story().claimed(A).ran("start").completing().became(None),
    "completed by a run that failed then": story().claimed(A).ran("start").completing().became(None).ran("failed"),
    "rolled back, and done all the same": story().claimed(A).ran("start").completing(commits=False).ran("ok")
        .became(None),
    "killed before it committed": story().claimed(A).ran("start").completing(commits=False).rescued()
        .claimed(B).ran("start").completing().became(None),
    "failed and retried": story().claimed(A).run("failed").became("retried", retries=1).claimed(B).run().became(None),
    "retries spent": story(max_retries=0).claimed(A).run("failed").became("failed"),
    "snoozed": story().claimed(A).run("snoozed").became("new").claimed(A).run().became(None),
    "snoozed after a crash": story(max_crashes=1, max_retries=0).claimed(A).ran("start").rescued().claimed(B)
        .run("snoozed").became("new", crashes=-1).claimed(B).ran("start").rescued("failed"),
    "given back": story().claimed(A).became("new").claimed(B).run().became(None),
    "cancelled while it ran": story().claimed(A).run("failed").became("cancelled"),
    "cancelled before it ran": story().claimed(A).became("cancelled"),
    "cut short": story().claimed(A).run("cancelled").became("new").claimed(B).run().became(None),
    "rescued": story().claimed(A).ran("start").rescued().claimed(B).run().became(None),
    "rescued while it ran on": story().claimed(A).ran("start").rescued().claimed(B).ran("start").ran("ok", 1)
        .ran("ok").became(None),
    "an orphan": story().claimed(A).ran("start").pool(A, "gone").rescued(record_goes=False)
        .claimed(B).run().became(None),
    "a stopping pool died": story().claimed(A).ran("start").pool(A, "stopping").rescued(crashes=0)
        .claimed(B).run().became(None),
    "crashed": story(max_crashes=1).claimed(A).ran("start").rescued("failed"),
    "removed by hand while it ran": story().claimed(A).ran("start").became(None, by_hand=True).ran("ok"),
    "revived by hand": story(max_retries=0).claimed(A).run("failed").became("failed").became("new", by_hand=True)
        .claimed(A).run().became(None),
    "recovered": story().claimed(A).ran("start").struck((TASK, 1)).rescued().claimed(B).run().became(None),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_record_passes(name: str) -> None:
    assert SOUND[name].violated() == []


BROKEN = {
    "left waiting": (story(), "I1"),
    "left held": (story().claimed(A).run(), "I1"),
    "failed before its retries were spent": (story(max_retries=1).claimed(A).run("failed").became("failed"), "I1"),
    "parked before its crashes were spent": (story().claimed(A).ran("start").rescued("failed"), "I1"),
    "ran without a claim": (story().claimed(A).run().became(None).ran("start", 2).ran("ok", 2), "I2"),
    "ran without a row": (story().claimed(A).run().became(None).ran("start", task=OTHER).ran("ok", task=OTHER), "I2"),
    "ran twice under one claim": (story().claimed(A).run().run().became(None), "I2"),
    "cancelled under its run": (story().claimed(A).ran("start").became("cancelled").ran("failed"), "I4"),
    "cancelled though it went well": (story().claimed(A).run().became("cancelled"), "I4"),
    "ended twice": (story().claimed(A).run().became("finished").became("cancelled"), "I3"),
    "went on after its end": (story().claimed(A).run().became("finished").became("retried", retries=1)
        .claimed(B).run().became(None), "I3"),
    "done while its run went on": (story().claimed(A).ran("start").rescued().claimed(B).ran("start").became(None)
        .ran("ok", 1), "I4"),
    "done by the one that was lost": (story().claimed(A).ran("start").rescued().claimed(B).ran("start").ran("ok", 1)
        .became(None).ran("ok", 2), "I4"),
    "done in another transaction than the run's": (story().claimed(A).ran("start").completing(commits=False)
        .became(None).ran("ok"), "I4"),
    "done in the transaction of one that was lost": (story().claimed(A).ran("start").rescued().claimed(B).ran("start")
        .completing(1).became(None).ran("ok", 1), "I4"),
    "done without a run": (story().claimed(A).became(None), "I4"),
    "done though it failed": (story().claimed(A).run("failed").became(None), "I4"),
    "charged though it succeeded": (story(max_retries=0).claimed(A).run().became("failed"), "I4"),
    "claimed while another held it": (story().claimed(A).run().claimed(B).run().became(None), "I4"),
    "a claim without a new attempt": (story().claimed(A).run("snoozed").became("new")
        .claimed(B, raises=2).run().became(None), "I4"),
    "a give-back that charges": (story().claimed(A).became("retried", retries=1).claimed(B).run().became(None), "I4"),
    "a crash that charges nothing": (story().claimed(A).ran("start").rescued(crashes=0)
        .claimed(B).run().became(None), "I5"),
    "a crash of a stopping pool, charged": (story().claimed(A).ran("start").pool(A, "stopping").rescued()
        .claimed(B).run().became(None), "I5"),
    "the death of a child that charges nothing": (story().claimed(A).ran("start", pid=2).ran("died").became("new")
        .claimed(B).run().became(None), "I5"),
    "a suspect in a child, charged with the end of its pool": (story(max_crashes=5).claimed(A).ran("start", pid=2)
        .ran("died").became("retried", crashes=2).claimed(B).ran("start", pid=2).rescued(crashes=1)
        .claimed(A).run().became(None), "I5"),
    "a crash of a pool that lives": (story().claimed(A).became("retried", crashes=1).claimed(B).run()
        .became(None), "I5"),
    "a crash that a give-back forgets": (story().claimed(A).ran("start").rescued().claimed(B)
        .became("new", crashes=-1).claimed(B).run().became(None), "I5"),
    "more claims than allowed": (story(max_retries=0, max_crashes=0).claimed(A).run("failed")
        .became("retried", retries=1).claimed(B).run().became(None), "I5"),
    "began while another held it": (story().claimed(A).ran("start").became("new").claimed(B).ran("start").ran("ok", 1)
        .ran("ok").became(None), "I6"),
    "not recovered in time": (story().claimed(A).ran("start").struck((TASK, 1), bound=2).rescued().claimed(B)
        .run().became(None), "I7"),
    "never ran again": (story().claimed(A).ran("start").struck((TASK, 1)).rescued(), "I7"),
    "never ran": (story().struck((TASK, 0)), "I7"),
    "no slot works": (story().passes(20).claimed(A).run().became(None).flowing(), "I11"),
    "a slot works half of the time": (story().claimed(A).ran("start").passes(10).ran("failed")
        .became("retried", retries=1).passes(10).claimed(A).run().became(None).flowing(), "I11"),
    "a slot that is struck works no more": (story().claimed(A).ran("start").struck((TASK, 1), bound=99).passes(20)
        .rescued().claimed(B).run().became(None).flowing(), "I11"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_reported(name: str) -> None:
    told, invariant = BROKEN[name]
    assert invariant in told.violated()


def test_every_invariant_can_be_violated() -> None:
    assert {invariant for _, invariant in BROKEN.values()} == set(INVARIANTS)


def test_an_insert_that_was_acknowledged_and_is_not_there() -> None:
    told = story().claimed(A).run().became(None)
    told.record["acknowledgements"].append(Acknowledgement(OTHER, False, 0))
    assert told.violated() == []  # nobody said that it stands
    told.record["acknowledgements"].append(Acknowledgement(OTHER, True, 0))
    assert told.violated() == ["I1"]


def test_recovery_is_that_of_the_last_one() -> None:
    told = story().claimed(A).ran("start").struck((TASK, 1)).rescued().claimed(B).run().became(None)
    record = Record(**told.record)
    assert recovery(record, record.strikes[0]) == 3  # rescued, claimed, started
