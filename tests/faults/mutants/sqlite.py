"""Defects of the backend on SQLite."""

from typing import Final

from tests.faults.mutants.mutant import Edit, InFault, InTest, Mutant

MUTANTS: Final = (
    Mutant(
        "SQLite, fence dropped: an outcome is written even if another pool holds the task",
        [
            Edit(
                "fang_sqlite/tasks/completing.py",
                """FENCE: Final = "id = ? AND attempt = ? AND pool_id = ? AND state = 'in_progress'\"""",
                """FENCE: Final = "id = ? AND attempt >= ? AND pool_id <> x'' || ? AND state = 'in_progress'\"""",
            )
        ],
        InFault("S07", "threaded"),
        r"an outcome was written over the run of another pool",
    ),
    Mutant(
        "SQLite, a claim does not replace the rows that it fails: its pool waits although tasks are due",
        [Edit("fang_sqlite/tasks/claiming.py", "if len(taken) == len(found):", "if True:")],
        InTest("tests/sqlite/test_spoilt_rows.py::test_a_claim_takes_others_in_place_of_those_that_it_fails"),
        r"assert",
    ),
    Mutant(
        "SQLite, one text that is not UTF-8 stops every reader of its row",
        [Edit("fang_sqlite/connections/transaction.py", "if not _is_undecodable(error):", "if True:")],
        InTest("tests/sqlite/test_spoilt_rows.py::test_upkeep_and_completions_go_on_beside_text_that_is_no_utf8"),
        r"Could not decode to UTF-8",
    ),
    Mutant(
        "SQLite, one corrupt schedule stops the ticks of all other schedules",
        [Edit("fang_core/backends/schedule_rows.py", "spoilt[name] = error", "raise")],
        InTest("tests/sqlite/test_spoilt_rows.py::test_a_class_whose_schedule_is_spoilt_makes_no_tick"),
        r"cannot be read",
    ),
    Mutant(
        "SQLite, a pool is rescued although it has beaten since the watcher's last look",
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
        "SQLite, a heart waits for the writer of the file, and does not beat meanwhile",
        [Edit("fang_sqlite/pools/heart.py", "WRITES_WITHIN: Final = 0.2", "WRITES_WITHIN: Final = 3600.0")],
        InTest("tests/sqlite/test_pulse.py::test_a_pool_beats_while_somebody_writes_and_says_later_what_it_has_to_say"),
        r"assert not True",
    ),
    Mutant(
        "SQLite, a forked child keeps its parent's lock file open",
        [Edit("fang_sqlite/pools/pulse.py", "        in_child(self, PulseFile._close)\n", "")],
        InTest("tests/sqlite/test_pulse.py::test_a_child_of_a_pool_that_has_died_does_not_keep_its_lock"),
        r"assert not True",
    ),
    Mutant(
        "SQLite, a forked child connects while it has copies of its parent's connections",
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
        "SQLite, a gate that lets all writers pass at once",
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
        "SQLite, transactions do not check whether the file is still at its path",
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
        "SQLite, inserts of other processes wake no pool: each waits for its next look at the file",
        [Edit("fang_sqlite/listening/waking.py", "        if reached:\n", "        if not reached:\n")],
        InTest("tests/sqlite/test_waking.py::test_what_pools_are_told_reaches_all_who_listen"),
        r"assert False",
    ),
    Mutant(
        "SQLite, no look at the file: inserts in an application's own transaction wake no pool",
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
        "SQLite, the writes of a run that has lost its task are committed",
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
        "SQLite, a call that fails leaves half of its writes in its caller's transaction",
        [Edit("fang_sqlite/connections/callers.py", """            tx.run(f"ROLLBACK TO {_SAVEPOINT}")\n""", "")],
        InTest("tests/sqlite/test_callers.py::test_a_call_that_fails_leaves_the_rest_of_the_transaction_as_it_was"),
        r"assert \(2, 1\) == \(1, 1\)",
    ),
    Mutant(
        "SQLite, a rescue takes nothing back: the tasks of a dead pool stay held",
        [
            Edit(
                "fang_sqlite/pools/rescuing.py",
                "        rescued += _take_back(tx, pulse.pool_id.bytes, judged)",
                "        pass",
            )
        ],
        InFault("S05", "threaded"),
        r"I7 \(bounded recovery\)|did not come true",
    ),
    Mutant(
        "SQLite, the queue does not notice that the log was removed while in use",
        [Edit("fang_sqlite/connections/file.py", "self._log is None or self._found_log() == self._log", "True")],
        InTest(
            "tests/sqlite/test_file.py"
            "::test_what_is_acknowledged_is_kept_though_this_process_has_let_go_of_the_locks_of_sqlite"
        ),
        r"DID NOT RAISE",
    ),
    Mutant(
        "SQLite, in a copy of the file, pools that ran when it was made count as alive until their leases end",
        [Edit("fang_sqlite/pools/pulse.py", "        return NO_FILE", "        return Seen()")],
        InTest(
            "tests/sqlite/test_pulse.py::test_in_a_copy_of_the_database_the_pools_are_dead_that_ran_when_it_was_made"
        ),
        r"assert \[\[\], \[\], \[\]\] ==",
    ),
    Mutant(
        "SQLite, a beat during which its pool is deregistered creates the pool's file again",
        [
            Edit(
                "fang_sqlite/pools/heart.py",
                """            if self._raise_counter(request.pool_id):
                self._remove_if_ended(request.pool_id)
""",
                """            self._raise_counter(request.pool_id)
""",
            )
        ],
        InTest("tests/sqlite/test_pulse.py::test_a_beat_during_which_its_pool_is_deregistered_leaves_no_file"),
        r"assert \[UUID.* == \[\]",
    ),
)
