"""``make mutants``: shows that the faults can fail. Each mutant is the product with one defect, in a copy of its own.

The fault, or the test, that is named must then fail, and say why in the words that are expected: a mutant that merely
cannot start shows nothing, and neither does a trial that fails without a defect. Arguments choose among the mutants by
how their defect begins (``"fence dropped"``), and leave the page alone.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.report import write_mutants

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = (
    "fang_core",
    "fang_isolation",
    "fang_postgres",
    "fang_threaded",
    "fang_async",
    "fang_sqlite",
    "fang_redis",
    "fang_embedded",
    "fang_cli",
    "alembic",
)


WITHIN: Final = 300.0
"""Seconds within which a trial must end, with a defect or without."""


@dataclass(frozen=True)
class Edit:
    """A text that stands exactly once in a file, and what takes its place."""

    file: str
    text: str
    instead: str


class InFault(NamedTuple):
    """Shown by one fault in one mode."""

    fault: str
    mode: str

    @property
    def command(self) -> Sequence[str]:
        return ("tests.faults", "--exact", self.fault, self.mode)

    def __str__(self) -> str:
        return f"{self.fault}, {self.mode}"


class InTest(NamedTuple):
    """Shown by one test."""

    node: str

    @property
    def command(self) -> Sequence[str]:
        return ("pytest", "-q", "-p", "no:cacheprovider", self.node)

    def __str__(self) -> str:
        return self.node


Trial = InFault | InTest
"""A command exits with 0 where all holds, and with 1 where something does not."""


@dataclass(frozen=True)
class Mutant:
    """A defect; what must show it; and what is then said, a regular expression."""

    defect: str
    edits: Sequence[Edit]
    trial: Trial
    says: str


_SENT_AGAIN: Final = """\
        from fang_core.errors import BackendUnavailable
        try:
            replies = link.send(commands)
        except BackendUnavailable:
            replies = Link(self.server).send(commands)
        if self.server.follow"""

MUTANTS: Final = (
    Mutant(
        "fence dropped: an outcome is written whoever holds the task",
        [
            Edit(
                "fang_postgres/sql/outcomes.py",
                "is None else ids)),\n        c.pool_id == POOL,",
                "is None else ids)),\n        (c.pool_id == POOL) | (c.pool_id != POOL),",
            ),
            Edit(
                "fang_postgres/sql/outcomes.py",
                "Grouping(ATTEMPTS)[place] == c.attempt,",
                "Grouping(ATTEMPTS)[place] <= c.attempt,",
            ),
        ],
        InFault("F04", "threaded"),
        r"I4 \(fenced\): .* while its run went on",
    ),
    Mutant(
        "rescue by age: a run of three seconds is taken away",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "all_(array_of(select(t.pools.c.id)))",
                "all_(array_of(select(t.pools.c.id)"
                """.where(t.pools.c.started_at > func.now() - cast(literal_column("'3 s'"), Interval))))""",
            ),
            Edit("fang_core/pool/heartbeat.py", "SWEEP_EVERY: Final = 15", "SWEEP_EVERY: Final = 1"),
        ],
        InFault("F11", "threaded"),
        r"AssertionError: a live run was taken away",
    ),
    Mutant(
        "flush dropped: what waits to be written at a stop is forgotten",
        [
            Edit(
                "fang_core/pool/completer.py",
                "        self._put_end(flushed)\n        await self._runtime.wait(flushed, within)",
                "        self._items.clear()",
            )
        ],
        InFault("F05", "threaded"),
        r"left tasks held",
    ),
    Mutant(
        "a repeated flush adds: history grows each time that a pool writes its minute",
        [
            Edit(
                "fang_postgres/sql/stats.py",
                'overwritten = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)',
                'overwritten = ", ".join(f"{name} = s.{name} + excluded.{name}" for name in _NUMBERS)',
            )
        ],
        InFault("F60", "threaded"),
        r"AssertionError: it did not come true",
    ),
    Mutant(
        "claim in two statements: rows are chosen without a lock, and marked later",
        [
            Edit(
                "fang_postgres/sql/fragments.py",
                "            .with_for_update(key_share=True, skip_locked=True, of=task)\n        )",
                "        )",
            )
        ],
        InFault("F37", "threaded"),
        r"I4 \(fenced\): .* was claimed while it was in_progress",
    ),
    Mutant(
        "crash not counted",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "crashes=case((is_charged, crashes), else_=c.crashes),",
                "crashes=c.crashes,",
            )
        ],
        InFault("F03", "threaded"),
        r"I5 \(counted\)",
    ),
    Mutant(
        "a group of suspects is charged whole",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "c.crashes < suspect_from, and_(",
                "c.crashes >= literal_column('0'), and_(",
            ),
        ],
        InFault("F08 beside innocents, 8", "threaded"),
        r"an innocent was not finished",
    ),
    Mutant(
        "give-back charged",
        [
            Edit(
                "fang_core/lifecycle.py",
                "        case NotRun():\n            "
                "return Outcome(task.id, task.attempt, waiting_state(task.retries, task.crashes))",
                "        case NotRun():\n            return Outcome(task.id, task.attempt, TaskState.RETRIED, None, 1)",
            )
        ],
        InFault("F05", "threaded"),
        r"I4 \(fenced\).* failed without a run",
    ),
    Mutant(
        "reconcile off: what a lost reply had claimed stays held",
        [
            Edit(
                "fang_core/pool/claimer.py",
                "count = await self._store.reconcile(self._identity.id, self._in_flight.known())",
                "count = 0",
            )
        ],
        InFault("F20 on claim", "async"),
        r"did not come true",
    ),
    Mutant(
        "complete() outside of the caller's transaction: the pool writes it when the run has ended",
        [
            Edit(
                "fang_postgres/verbs.py",
                "            await callers.run(self.operations.complete_one(self.run))",
                "            pass",
            )
        ],
        InFault("F02 as one", "threaded"),
        r"one effect of each task",
    ),
    Mutant(
        "after a lost reply, a missing row counts as lost",
        [Edit("fang_core/runs/completion.py", "            if doubtful:\n                continue\n", "")],
        InFault("F20 on completion", "async"),
        r"was taken for lost",
    ),
    Mutant(
        "cursor without the xid rule: what commits late is behind it",
        [Edit("fang_core/claims/cursor.py", "            self._lower(self._before(min(ended)))", "            pass")],
        InTest("tests/core/claims/test_cursor.py::test_a_row_is_found_by_the_second_claim_after_its_commit"),
        r"assert table\.claimed\[row\.number\] <= after\[1\]",
    ),
    Mutant(
        "cursor without look-backs: a due time that was set by hand is behind it",
        [Edit("fang_core/claims/cursor.py", "(_Step(10.0, None), _Step(1.0, 10.0), _Step(0.1, 1.0))", "()")],
        InTest("tests/core/claims/test_cursor.py::test_the_ladder_finds_times_that_were_set_by_hand"),
        r"KeyError: 1000",
    ),
    Mutant(
        "a free lock is believed after all were let go, without having been seen held since",
        [
            Edit(
                "fang_core/liveness.py",
                "self._undoubted(beat) >= pulse.lease or held.get(pulse.pool_id, -inf) > started",
                "True",
            )
        ],
        InTest("tests/core/test_liveness.py::test_when_all_locks_were_let_go_each_may_be_away_for_its_own_lease"),
        r"assert not \{UUID",
    ),
    Mutant(
        "prefetch never given back: what was claimed ahead waits for long runs",
        [Edit("fang_core/claims/prefetch.py", "now - batch.at < PATIENCE", "now - batch.at < 3600 * PATIENCE")],
        InTest("tests/waking/test_patience.py::test_what_waits_behind_long_runs_is_run_by_another_pool"),
        r"only 0 of 20 tasks ran in time",
    ),
    Mutant(
        "a free worker is believed: a pool whose loop computes claims on what it cannot start, and gives it back",
        [Edit("fang_core/claims/prefetch.py", "if target > most:", "if target > 1_000 * most:")],
        InTest("tests/core/claims/test_sharing.py::test_pools_that_come_later_run_what_waits_in_others"),
        r"assert sum\(table\.claims\) <= len\(computes\)",
    ),
    Mutant(
        "plan guard off: slow claims are noticed, and plans stay as they are",
        [Edit("fang_postgres/planner_guard.py", "return now < self._until", "return False")],
        InTest("tests/postgres/test_guard.py::TestInTheTrap::test_claims_come_out_of_the_trap"),
        r"ValueError: .* is not in list",
    ),
    Mutant(
        "signals are a pool's alone: an application's handler is not called",
        [
            Edit(
                "fang_core/pool/signals.py",
                "if is_shared or _outer(former) is not None:",
                "if _outer(former) is not None:",
            )
        ],
        InTest("tests/core/pool/test_signals.py::test_handlers_of_the_application_are_called_too_and_decide"),
        r"\['wake'\], \[\]",
    ),
    Mutant(
        "payloads are not compared at insert: a value that comes back as another is written",
        [Edit("fang_core/tasks/payloads/changes.py", "if not _is_same(value, read, hints):", "if False:")],
        InTest("tests/core/tasks/test_changes.py::test_what_would_come_back_as_something_else_is_refused"),
        r"DID NOT RAISE",
    ),
    Mutant(
        "a queue takes its connections along to another event loop",
        [
            Edit(
                "fang_async/loop_binding.py",
                "            if loop is not self._loop:\n                self._move()\n",
                "",
            )
        ],
        InTest("tests/async/test_loops.py::test_loops_that_stand_still_are_left_behind"),
        r"RuntimeError|different loop",
    ),
    Mutant(
        "a null in a list is sent as the text NULL, as with array_nulls off",
        [Edit("fang_postgres/textform.py", "[as_text(each) for", "[as_text(each) or 'NULL' for")],
        InTest("tests/threaded/test_engines.py::test_a_heart_beats_and_rescues_on_a_hostile_engine"),
        r'invalid input syntax for type .*"NULL"',
    ),
    Mutant(
        "on a full server callers fail instead of waiting for the connections that there are",
        [Edit("fang_postgres/connections/places.py", "if self.taken <= 1:", "if self.taken:")],
        InTest("tests/postgres/test_places.py::test_on_a_full_server_callers_wait_for_the_connections_that_there_are"),
        r"assert False",
    ),
    Mutant(
        "wait_for_database: what may have been written is sent again",
        [Edit("fang_core/turns.py", "isinstance(error, NotConnected |", "isinstance(error, BackendError |")],
        InTest("tests/core/test_turns.py::test_only_what_was_certainly_not_written_waits"),
        r"assert not True",
    ),
    Mutant(
        "a kind that the database cannot hold is sent, and its pool does not start",
        [Edit("fang_postgres/pool/unheld.py", "self._characters |= {character}", "raise refusal")],
        InTest("tests/postgres/test_encodings.py::test_a_pool_leaves_out_what_cannot_be_stored_and_runs_the_others"),
        r"does not have the character U\+1F680",
    ),
    Mutant(
        "interrupt without the handshake: neither side looks what the other does",
        [
            Edit("fang_threaded/interrupting.py", "if worker.current is run and not run.held_back and", "if"),
            Edit(
                "fang_threaded/interrupting.py",
                """        while self.is_sending:
            time.sleep(0)
        _set_async_exc(threading.get_ident(), _NOTHING)""",
                "        pass",
            ),
        ],
        InTest(
            "tests/threaded/test_interrupting.py"
            "::test_a_run_that_ends_while_the_exception_is_on_its_way_waits_and_the_next_one_is_not_struck"
        ),
        r"assert \[Success\(\)\] == \[\]",
    ),
    Mutant(
        "cancel without the fence: the row of a running task is cancelled under its run",
        [
            Edit(
                "fang_postgres/sql/cancelling.py",
                "    is_waiting = c.state.in_(state_literals(DUE_STATES))",
                "    is_waiting = c.state.is_not(None)",
            )
        ],
        InFault("F53", "threaded"),
        r"I4 \(fenced\): .* cancelled while its run went on",
    ),
    Mutant(
        "a hung run is never told of",
        [
            Edit(
                "fang_core/pool/telling/hung.py",
                "return run not in self._told and (",
                "return run in self._told and (",
            )
        ],
        InTest("tests/conformance/test_hung_runs.py::test_each_hung_run_is_told_of_once_with_its_place"),
        "Empty",
    ),
    Mutant(
        "a blocked event loop is never told of",
        [
            Edit(
                "fang_core/pool/telling/hung.py",
                "            self._tell_of_blocked(seconds)\n",
                "",
            )
        ],
        InTest("tests/conformance/test_hung_runs.py::test_a_blocked_loop_is_told_of_while_it_is_blocked"),
        "did not come true in time",
    ),
    Mutant(
        "a message is removed by the beat that brings it: a lost reply loses it",
        [
            Edit(
                "fang_postgres/sql/liveness.py",
                "t.messages.c.pool_id == POOL, t.messages.c.id == handled).cte(",
                "t.messages.c.pool_id == POOL).cte(",
            )
        ],
        InFault("F53 messages", "threaded"),
        r"it did not come true within 6 s",
    ),
    Mutant(
        "a limit that is not charged: what timed out is given back",
        [
            Edit(
                "fang_core/runs/interrupted.py",
                """    if run.interrupt is Interrupt.TIME_LIMIT:
        timed_out""",
                """    if run.interrupt is None:
        timed_out""",
            )
        ],
        InFault("F51", "threaded"),
        r"I5 \(counted\): .* ran, and its end charged nothing",
    ),
    Mutant(
        "a supervisor kills nobody who holds the GIL",
        [Edit("fang_cli/supervisor/process.py", "self.silent >= report.lease", "self.silent >= 1_000 * report.lease")],
        InFault("F54 hung", "threaded"),
        r"it did not come true",
    ),
    Mutant(
        "a reload stops a process before the new one is ready",
        [
            Edit(
                "fang_cli/supervisor/process_group.py",
                "place.successor = self._start(place, now)\n",
                "place.successor = self._start(place, now)\n                place.process.stop(now)\n",
            )
        ],
        InTest("tests/cli/test_supervisor.py::test_a_reload_replaces_one_after_the_other"),
        r"assert \[<Signals.SIGTERM",
    ),
    Mutant(
        "the death of a child is not charged: the run goes back as if its pool had stopped",
        [
            Edit(
                "fang_isolation/isolation.py",
                "return Crashed(ended.exit_code) if ended.has_begun else None",
                "return NOT_RUN if ended.has_begun else None",
            ),
            Edit(
                "fang_isolation/isolation.py",
                "import Crashed, Failure, Result",
                "import NOT_RUN, Crashed, Failure, Result",
            ),
        ],
        InTest(
            "tests/isolation/test_deaths.py::test_the_death_of_a_child_is_charged_to_its_task_and_to_no_other",
        ),
        r"it did not come true in time",
    ),
    Mutant(
        "a suspect in a child process is charged with the death of its pool",
        [
            Edit(
                "fang_postgres/scripts.py",
                "max_crashes=max_crashes, isolated_kinds=isolated_kinds",
                "max_crashes=max_crashes, isolated_kinds=()",
            )
        ],
        InTest("tests/isolation/test_suspects.py::test_a_suspect_is_not_charged_with_the_death_of_its_pool"),
        r"AssertionError",
    ),
    Mutant(
        "own snapshot: a claim counts what runs as it was when the claim began",
        [Edit("alembic/versions/0005_flow.py", "LANGUAGE plpgsql VOLATILE AS", "LANGUAGE plpgsql STABLE AS")],
        InFault("F56 in small", "threaded"),
        r"the limits of limited were exceeded",
    ),
    Mutant(
        "a slot is kept by a dead pool: what crashed counts until it has ended",
        [
            Edit(
                "alembic/versions/0005_flow.py",
                "AND r.state = 'in_progress' AND {lanes}",
                "AND (r.state = 'in_progress' OR r.crashes > 0) AND {lanes}",
            )
        ],
        InFault("F56", "threaded"),
        r"it did not come true within",
    ),
    Mutant(
        "a pool spins on a full type: it asks for a slot as if it had only missed its turn",
        [
            Edit(
                "fang_core/claims/lanes.py",
                "each.wait_until(mono + seconds, is_timed=True, helped_by_inserts=False)",
                "each.wait_until(mono + TURN, is_timed=True, helped_by_inserts=False)",
            )
        ],
        InTest("tests/async/test_flow_in_virtual_time.py::test_an_idle_pool_hardly_looks_at_managed_types"),
        r"assert \d+ <= 45",
    ),
    Mutant(
        "a pause is the pools' alone: claims that they make all the same take tasks",
        [
            Edit(
                "fang_postgres/sql/flow.py",
                "FROM setting s WHERE s.is_managed AND NOT s.is_stopped AND",
                "FROM setting s WHERE s.is_managed AND",
            )
        ],
        InFault("F57", "threaded"),
        r"claimed during a pause",
    ),
    Mutant(
        "a rate charges claims, not the tasks that they take",
        [
            Edit(
                "fang_postgres/sql/flow.py",
                "room.tat + (SELECT count(*) FROM claimed) * room.every",
                "room.tat + (SELECT least(count(*), 1) FROM claimed) * room.every",
            )
        ],
        InFault("F58", "threaded"),
        r"the rate was exceeded by",
    ),
    Mutant(
        "a tick is judged by a stale timetable: nobody looks whether its schedule was changed",
        [
            Edit(
                "fang_postgres/sql/stored_schedules.py",
                """twin = t.tasks.alias("twin")
    is_as_read = _is_as_read(s)""",
                """twin = t.tasks.alias("twin")
    is_as_read = true()""",
            )
        ],
        InTest("tests/postgres/test_stored_ticks.py::test_a_tick_that_meets_a_change_is_not_made"),
        r"assert \('ticked'",
    ),
    Mutant(
        "the period of a unique task is looked up, and no index decides between two inserts",
        [
            Edit(
                "alembic/versions/0005_flow.py",
                """until timestamptz NOT NULL,
        PRIMARY KEY (hash)""",
                "until timestamptz NOT NULL",
            )
        ],
        InTest("tests/postgres/test_unique.py::test_of_64_clients_that_insert_one_task_at_once_one_wins"),
        r"assert|did not",
    ),
    Mutant(
        "SQLite, fence dropped: an outcome is written whoever holds the task",
        [
            Edit(
                "fang_sqlite/tasks/completing.py",
                """FENCE: Final = "id = ? AND attempt = ? AND pool_id = ? AND state = 'in_progress'\"""",
                """FENCE: Final = "id = ? AND attempt >= ? AND pool_id <> x'' || ? AND state = 'in_progress'\"""",
            )
        ],
        InFault("S07", "threaded"),
        r"I4 \(fenced\)|lost",
    ),
    Mutant(
        "SQLite, a pool that has beaten since it was looked at is rescued all the same",
        [
            Edit(
                "fang_sqlite/pools/rescuing.py",
                "if record is None or count(pulse.pool_id) != pulse.beats:",
                "if record is None:",
            )
        ],
        InTest("tests/sqlite/test_pulse.py::test_a_pool_that_has_beaten_since_it_was_looked_at_is_not_dead"),
        r"assert",
    ),
    Mutant(
        "SQLite, a heart waits for whoever writes, and does not beat meanwhile",
        [Edit("fang_sqlite/pools/heart.py", "WRITES_WITHIN: Final = 0.2", "WRITES_WITHIN: Final = 3600.0")],
        InTest("tests/sqlite/test_pulse.py::test_a_pool_beats_while_somebody_writes_and_says_later_what_it_has_to_say"),
        r"assert not True",
    ),
    Mutant(
        "SQLite, a child of a fork keeps its parent's lock file open",
        [Edit("fang_sqlite/pools/pulse.py", "        in_child(self, PulseFile._close)\n", "")],
        InTest("tests/sqlite/test_pulse.py::test_a_child_of_a_pool_that_has_died_does_not_keep_its_lock"),
        r"assert not True",
    ),
    Mutant(
        "SQLite, a child of a fork connects beside its copies of its parent's connections",
        [
            Edit(
                "fang_sqlite/connections/file.py",
                """        if not self._unsafe:
            for connection in connections:
                connection.close()""",
                "        self._keeps = connections",
            )
        ],
        InTest("tests/sqlite/test_file.py::test_what_a_child_commits_is_kept_when_its_parent_closes_the_file"),
        r"assert 1 == 0",
    ),
    Mutant(
        "SQLite, a gate that keeps nobody waiting",
        [
            Edit(
                "fang_sqlite/connections/gate.py",
                """        try:
            fcntl.flock(self._writer, fcntl.LOCK_EX | fcntl.LOCK_NB)""",
                """        try:
            fcntl.flock(self._writer, fcntl.LOCK_SH | fcntl.LOCK_NB)""",
            )
        ],
        InTest("tests/sqlite/test_gate.py::test_one_at_a_time_has_the_gate"),
        r"assert not True",
    ),
    Mutant(
        "SQLite, nobody looks whether the file is still where it was",
        [
            Edit(
                "fang_sqlite/connections/file.py",
                "        try:\n            found = self._found()",
                "        return\n        try:\n            found = self._found()",
            )
        ],
        InFault("S11", "threaded"),
        r"I1 \(nothing lost\)|did not come true",
    ),
    Mutant(
        "SQLite, pools are woken by the processes of others only when they look at the file",
        [Edit("fang_sqlite/listening/waking.py", "        if reached:\n", "        if not reached:\n")],
        InTest("tests/sqlite/test_waking.py::test_what_pools_are_told_reaches_all_who_listen"),
        r"assert False",
    ),
    Mutant(
        "SQLite, no look at the file: what an application's own transaction inserts wakes nobody",
        [
            Edit(
                "fang_sqlite/listening/ear.py",
                "                if version != before:",
                "                if version is None:",
            )
        ],
        InTest("tests/sqlite/test_waking.py::test_an_applications_transaction_wakes_a_pool_that_waits"),
        r"assert False",
    ),
    Mutant(
        "SQLite, what a run wrote is committed although it has lost its task",
        [
            Edit(
                "fang_sqlite/connections/callers.py",
                """        tx.run("ROLLBACK")
        raise
    except BaseException:""",
                """        raise
    except BaseException:""",
            )
        ],
        InTest("tests/sqlite/test_callers.py::test_what_a_run_wrote_that_has_lost_its_task_cannot_be_committed"),
        r"assert \(.*\) == \(0, 0\)",
    ),
    Mutant(
        "SQLite, a call that fails leaves a half of it in its caller's transaction",
        [Edit("fang_sqlite/connections/callers.py", """            tx.run(f"ROLLBACK TO {_SAVEPOINT}")\n""", "")],
        InTest("tests/sqlite/test_callers.py::test_a_call_that_fails_leaves_the_rest_of_the_transaction_as_it_was"),
        r"assert \(2, 1\) == \(1, 1\)",
    ),
    Mutant(
        "SQLite, orphans stay orphans: a rescue takes nothing back",
        [
            Edit(
                "fang_sqlite/pools/rescuing.py",
                "        rescued += _take_back(tx, pulse.pool_id, judged)",
                "        pass",
            )
        ],
        InFault("S05", "threaded"),
        r"I7 \(bounded recovery\)|did not come true",
    ),
    Mutant(
        "Redis, fence dropped: an outcome is written whoever holds the task",
        [
            Edit(
                "fang_redis/scripts/complete.lua",
                "if v and v.P == pool and tostring(v.a) == ARGV[i + 1] then kept",
                "if v and v.s == 'in_progress' then kept",
            )
        ],
        InFault("R02", "threaded"),
        r"a loser's word counted|did not come true",
    ),
    Mutant(
        "Redis, orphans stay orphans: a rescue takes nothing back",
        [
            Edit(
                "fang_redis/pools/liveness.py",
                "            if held.counter != counter:",
                "            if held.counter is not None:",
            )
        ],
        InFault("R01", "threaded"),
        r"I7 \(bounded recovery\)|did not come true",
    ),
    Mutant(
        "Redis, a pool that has beaten since it was looked at is rescued all the same",
        [
            Edit(
                "fang_redis/pools/liveness.py",
                "            if held.counter != counter:",
                "            if held.counter is None:",
            ),
            Edit("fang_redis/scripts/rescue.lua", "or '') ~= seen then", "or '') == nil then"),
        ],
        InTest("tests/redis/test_heart.py::test_a_pool_that_has_beaten_since_it_was_looked_at_is_not_dead"),
        r"assert \[",
    ),
    Mutant(
        "Redis, a command whose reply is lost is sent again",
        [
            Edit(
                "fang_redis/connections/links.py",
                "        replies = link.send(commands)\n        if self.server.follow",
                _SENT_AGAIN,
            )
        ],
        InTest("tests/redis/test_links.py::test_a_command_whose_reply_is_lost_is_not_sent_again"),
        r"DID NOT RAISE|assert '2' == '1'",
    ),
    Mutant(
        "Redis, a connection whose reply is late is used again",
        [Edit("fang_redis/aio/links.py", "        self._cause = cause\n        for waiting", "        for waiting")],
        InTest("tests/redis/test_links.py::test_a_reply_that_comes_too_late_is_nobodys_in_asyncio"),
        r"AssertionError|assert not",
    ),
    Mutant(
        "Redis, a beat begins with a write that a full memory refuses",
        [Edit("fang_redis/scripts/beat.lua", "admit()\n", "call('HSET', P..'meta', '-', 1)\n")],
        InTest("tests/redis/test_heart.py::test_a_full_memory_stops_no_heart"),
        r"memory is full",
    ),
    Mutant(
        "Redis, a restart of the server is not noticed",
        [Edit("fang_redis/scripts/beat.lua", "if known[1] ~= run then", "if not known[1] then")],
        InTest("tests/redis/test_heart.py::test_a_restart_casts_doubt_on_free_locks"),
        r"assert .* < 60",
    ),
    Mutant(
        "Redis, lost data are not noticed",
        [Edit("fang_redis/pools/heart.py", "if former is not None and former != epoch:", "if former == '':")],
        InFault("R10", "threaded"),
        r"did not come true",
    ),
    Mutant(
        "Redis, replicas are not waited for",
        [
            Edit("fang_redis/operations.py", '("WAIT", replicas,', '("WAIT", 0,'),
            Edit("fang_redis/operations.py", "if confirmed < self.replicas:", "if confirmed < 0:"),
        ],
        InFault("R11", "threaded"),
        r"\d+ inserts had returned, and the failover has lost them",
    ),
    Mutant(
        "Redis, what a pool holds and does not know is held for ever",
        [Edit("fang_redis/scripts/reconcile.lua", "if not known[id] then", "if known[id] == 0 then")],
        InFault("R14", "threaded"),
        r"did not come true within 60 s",
    ),
    Mutant(
        "Redis, a server that evicts keys is taken",
        [
            Edit(
                "fang_redis/connections/checking.py",
                'startswith(("noeviction", "volatile-"))',
                'startswith(("noeviction", "volatile-", "all"))',
            )
        ],
        InTest("tests/redis/test_checking.py::test_a_server_that_evicts_keys_is_refused"),
        r"DID NOT RAISE",
    ),
)


def main() -> int:
    words = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not words or any(mutant.defect.startswith(word) for word in words)]
    if not mutants:
        print(f"no defect begins with {' or '.join(words)}; there are:")
        print(*(mutant.defect for mutant in MUTANTS), sep="\n")
        return 2
    holding = {trial for trial in dict.fromkeys(mutant.trial for mutant in mutants) if _holds(trial)}
    caught = [mutant for mutant in mutants if mutant.trial in holding and _is_caught(mutant)]
    print(f"{len(caught)} of {len(mutants)} were caught")
    if not words and caught == mutants:
        write_mutants([(mutant.defect, str(mutant.trial)) for mutant in mutants])
    return 0 if caught == mutants else 1


def _holds(trial: Trial) -> bool:
    """Whether all holds without a defect; else the trial shows nothing with one."""
    code, said = _try(trial, [])
    print(f"{'holds' if code == 0 else 'FAILS'} without a defect: {trial}", flush=True)
    if code != 0:
        print(said)
    return code == 0


def _is_caught(mutant: Mutant) -> bool:
    code, said = _try(mutant.trial, mutant.edits)
    is_caught = code == 1 and re.search(mutant.says, said) is not None
    print(f"{'caught' if is_caught else 'SURVIVED'} by {mutant.trial}: {mutant.defect}", flush=True)
    if not is_caught:
        print(said)
    return is_caught


def _try(trial: Trial, edits: Sequence[Edit]) -> tuple[int | None, str]:
    """The exit code of the trial on a copy of the product, and all that it said; None if it did not end in time."""
    with tempfile.TemporaryDirectory() as copy:
        for name in COPIED:
            shutil.copytree(ROOT / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            _apply(edit, Path(copy))
        with subprocess.Popen(
            [sys.executable, "-P", "-m", *trial.command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([copy, str(ROOT)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()  # and all that it started ends with it
                said, _ = process.communicate()
                return None, f"{said}\nit did not end within {WITHIN:.0f} s"
    return process.returncode, said


def _apply(edit: Edit, copy: Path) -> None:
    path = copy / edit.file
    source = path.read_text()
    assert source.count(edit.text) == 1, f"{edit.file} has {source.count(edit.text)} times: {edit.text}"
    path.write_text(source.replace(edit.text, edit.instead))


if __name__ == "__main__":
    sys.exit(main())
