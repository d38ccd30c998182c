"""Defects of the backend on Postgres."""

from typing import Final

from tests.faults.mutants.mutant import Edit, InFault, InTest, Mutant

MUTANTS: Final = (
    Mutant(
        "fence dropped: an outcome is written even if another pool holds the task",
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
        "rescue by age: a task is taken away after three seconds of its run",
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
                '"crashes": case((is_charged, crashes), else_=c.crashes),',
                '"crashes": c.crashes,',
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
                "c.crashes < _SUSPECT_FROM, and_(",
                "c.crashes >= literal_column('0'), and_(",
            ),
        ],
        InFault("F08 beside innocents, 8", "threaded"),
        r"an innocent was not finished",
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
        "sessions of pools may scan the whole table, and go by bitmaps",
        [
            Edit(
                "fang_postgres/connections/connecting.py",
                '    "enable_seqscan": "off",\n    "enable_bitmapscan": "off",\n}\n\n_OF',
                "}\n\n_OF",
            )
        ],
        InTest("tests/postgres/test_guard.py::TestInTheTrap::test_the_sessions_of_pools_stay_out_of_the_trap"),
        r"AssertionError",
    ),
    Mutant(
        "claims lock as many keys as there are, and fill the lock table of the server",
        [Edit("fang_postgres/texts/claim_lanes.sql", "          room.stripes)))", "          1000000007)))")],
        InTest("tests/postgres/test_lanes.py::test_claims_of_many_types_leave_half_of_the_lock_table_to_others"),
        r"assert \d+ <= \d+",
    ),
    Mutant(
        "plan guard off: slow claims are noticed, but plans do not change",
        [Edit("fang_postgres/planner_guard.py", "return now < self._until", "return False")],
        InTest("tests/postgres/test_guard.py::TestInTheTrap::test_claims_come_out_of_the_trap"),
        r"ValueError: .* is not in list",
    ),
    Mutant(
        "a null in a list is sent as the text NULL, as with array_nulls off",
        [Edit("fang_postgres/shapes.py", "[as_text(each) for", "[as_text(each) or 'NULL' for")],
        InTest("tests/threaded/test_engines.py::test_a_heart_beats_and_rescues_on_a_hostile_engine"),
        r'invalid input syntax for type .*"NULL"',
    ),
    Mutant(
        "on a full server callers fail instead of waiting for one of the queue's connections",
        [Edit("fang_postgres/connections/places.py", "if self.taken <= 1:", "if self.taken:")],
        InTest("tests/postgres/test_places.py::test_on_a_full_server_callers_wait_for_the_connections_that_there_are"),
        r"assert False",
    ),
    Mutant(
        "a kind that the database cannot hold is sent, and its pool does not start",
        [Edit("fang_postgres/pool/unheld.py", "self._characters |= {character}", "raise refusal")],
        InTest("tests/postgres/test_encodings.py::test_a_pool_leaves_out_what_cannot_be_stored_and_runs_the_others"),
        r"does not have the character U\+1F680",
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
        "own snapshot: a claim counts runs by the snapshot from its own beginning",
        [
            Edit("alembic/versions/0005_flow.py", "LANGUAGE plpgsql VOLATILE AS", "LANGUAGE plpgsql STABLE AS"),
            Edit("alembic/versions/0006_monitoring.py", "LANGUAGE plpgsql VOLATILE AS", "LANGUAGE plpgsql STABLE AS"),
        ],
        InFault("F56 in small", "threaded"),
        r"the limits of limited were exceeded",
    ),
    Mutant(
        "a dead pool keeps its slots: a crashed task counts until it has ended",
        [
            Edit(
                "alembic/versions/0005_flow.py",
                "AND r.state = 'in_progress' AND {lanes}",
                "AND (r.state = 'in_progress' OR r.crashes > 0) AND {lanes}",
            ),
            Edit(
                "alembic/versions/0006_monitoring.py",
                "AND r.state = 'in_progress' AND r.lane",
                "AND (r.state = 'in_progress' OR r.crashes > 0) AND r.lane",
            ),
        ],
        InTest("tests/postgres/test_slots.py::test_its_slot_is_free_in_the_next_claim"),
        r"assert \[\] == \[UUID",
    ),
    Mutant(
        "only pools heed a pause: the claim statement still takes tasks of a paused type",
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
        "the form of a claim without rates takes tasks of types that have rates",
        [Edit("fang_postgres/sql/flow.py", '"<OF_FORM>": "NOT s.is_rated AND ",', '"<OF_FORM>": "",')],
        InTest(
            "tests/postgres/test_lane_gates.py::test_a_claim_that_knows_nothing_of_rates_takes_nothing_of_a_type_with_one"
        ),
        r"assert \(\[ClaimedTask",
    ),
    Mutant(
        "a claim whose keys other pools have filled meanwhile reports that there is nothing to claim",
        [
            Edit(
                "fang_postgres/sql/flow.py",
                "(SELECT count(*) FROM usable) > (SELECT count(*) FROM fair)",
                "false",
            )
        ],
        InTest("tests/postgres/test_lane_gates.py::test_a_claim_whose_keys_others_have_filled_meanwhile_looks_again"),
        r"assert \(\[\], 1\) == \(\[\], ",
    ),
    Mutant(
        "a key starts one task more than its rate allows, by a clock that was read before another pool used it up",
        [
            Edit(
                "fang_postgres/sql/flow.py",
                '_conforming("k.tat", "k.at", "room.key_full", "room.key_every")} AS tat FROM',
                '_conforming("k.tat", "room.at", "room.key_full", "room.key_every")} AS tat FROM',
            )
        ],
        InTest(
            "tests/postgres/test_lane_gates.py::test_a_claim_whose_keys_others_have_put_out_of_rate_meanwhile_looks_again"
        ),
        r"assert \(\[ClaimedTask.* == \(\[\], ",
    ),
    Mutant(
        "a tick goes by a stale timetable: the statement does not check whether the schedule has changed",
        [
            Edit(
                "fang_postgres/sql/stored_ticks.py",
                "s.kind.is_not(None), is_as_read(s), not_(",
                "s.kind.is_not(None), true(), not_(",
            ),
            Edit(
                "fang_postgres/sql/stored_ticks.py",
                "s.name == NAME, is_as_read(s), s.last_tick",
                "s.name == NAME, true(), s.last_tick",
            ),
        ],
        InTest("tests/postgres/test_stored_ticks.py::test_a_tick_that_meets_a_change_is_not_made"),
        r"assert \('ticked'",
    ),
    Mutant(
        "the period of a unique task is looked up without an index that decides between two inserts",
        [
            Edit(
                "alembic/versions/0005_flow.py",
                """until timestamptz NOT NULL,
        PRIMARY KEY (hash)""",
                "until timestamptz NOT NULL",
            )
        ],
        InTest("tests/postgres/test_unique.py::test_of_many_clients_that_insert_one_task_at_once_one_wins"),
        r"assert|did not",
    ),
    Mutant(
        "an insert that takes back its own period also takes back that of another hash",
        [
            Edit(
                "fang_postgres/sql/uniques.py",
                "delete(t.uniques).where(t.uniques.c.hash == any_(_GIVEN_HASHES))",
                "delete(t.uniques).where(t.uniques.c.task_id.in_(select(t.uniques.c.task_id).correlate(None)"
                ".where(t.uniques.c.hash == any_(_GIVEN_HASHES))))",
            )
        ],
        InTest("tests/postgres/test_uniqueness.py::test_a_period_that_is_taken_back_leaves_another_of_the_same_task"),
        r"assert \[\] ==",
    ),
    Mutant(
        "a migration that waits for a lock does not say which session holds it",
        [Edit("fang_postgres/lock_waits.py", "        if found - last:\n", "        if last - found:\n")],
        InTest("tests/postgres/test_lock_waits.py::test_it_says_who_holds_the_lock_and_waits_on"),
        r"did not come true|Timeout|assert",
    ),
    Mutant(
        "texts cross a caller's connection in its own encoding: one that lacks a character refuses the task",
        [
            Edit(
                "fang_postgres/textform.py",
                "if text is None or (text.isascii() and",
                "if text is None or (text and",
            )
        ],
        InTest("tests/threaded/test_caller_connection.py::test_every_verb_on_every_connection"),
        r"UnicodeEncodeError",
    ),
    Mutant(
        "a map of schemas that the application has set for its own tables moves ours",
        [Edit("fang_postgres/statement.py", ', "schema_translate_map": None}', "}")],
        InTest("tests/threaded/test_caller_connection.py::test_every_verb_on_every_connection[Session of a tenant]"),
        r'relation "tenant\.fang_tasks" does not exist',
    ),
)
