"""Defects of what all backends share: the core, the modes, the command, child processes."""

from typing import Final

from tests.faults.mutants.mutant import Edit, InFault, InTest, Mutant

MUTANTS: Final = (
    Mutant(
        "flush dropped: a stop forgets the outcomes that are not written yet",
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
        "give-back charged: a task that goes back unrun loses a retry",
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
        "reconcile off: tasks whose claim's reply was lost stay held",
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
        "waking a pool whose claim is under way has no effect, although that claim may not have seen the new task",
        [
            Edit(
                "fang_core/pool/standby.py", "                self._again = True", "                self._again = False"
            )
        ],
        InTest(
            "tests/core/pool/test_claimer.py::"
            "test_it_claims_again_if_it_is_woken_once_more_while_such_a_claim_is_under_way"
        ),
        r"assert \['send', 'answer'\]",
    ),
    Mutant(
        "after a lost reply, a missing row counts as lost",
        [Edit("fang_core/runs/completion.py", "            if doubtful:\n                continue\n", "")],
        InFault("F20 on completion", "async"),
        r"was taken for lost",
    ),
    Mutant(
        "cursor without the xid rule: it passes rows that commit late",
        [Edit("fang_core/claims/cursor.py", "            self._lower(self._before(min(ended)))", "            pass")],
        InTest("tests/core/claims/test_cursor.py::test_a_row_is_found_by_the_second_claim_after_its_commit"),
        r"assert table\.claimed\[row\.number\] <= after\[1\]",
    ),
    Mutant(
        "cursor without look-backs: it passes rows whose due time was set by hand",
        [Edit("fang_core/claims/cursor.py", "(_Step(10.0, None), _Step(1.0, 10.0), _Step(0.1, 1.0))", "()")],
        InTest("tests/core/claims/test_cursor.py::test_the_ladder_finds_times_that_were_set_by_hand"),
        r"KeyError: 1000",
    ),
    Mutant(
        "after all locks were released at once, a free lock counts as a death before it was seen held again",
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
        "a cached value is computed under a lock: a child that is forked meanwhile never gets that lock",
        [
            Edit(
                "fang_core/interpreter/kept.py",
                "        value = instance.__dict__[self._name] = self._compute(instance)\n",
                "        with self.__dict__.setdefault('_lock', __import__('threading').RLock()):\n"
                "            value = instance.__dict__[self._name] = self._compute(instance)\n",
            )
        ],
        InTest("tests/core/test_kept.py::test_a_child_that_is_forked_while_a_thread_computes_one_computes_it_itself"),
        r"assert -14 == 1",
    ),
    Mutant(
        "prefetch never given back: tasks claimed ahead wait for long runs",
        [Edit("fang_core/claims/prefetch.py", "now - batch.at < PATIENCE", "now - batch.at < 3600 * PATIENCE")],
        InTest("tests/waking/test_patience.py::test_what_waits_behind_long_runs_is_run_by_another_pool"),
        r"only 0 of 20 tasks ran in time",
    ),
    Mutant(
        "free workers count even if the event loop is busy: a pool claims tasks that it must give back",
        [Edit("fang_core/claims/prefetch.py", "if target > most:", "if target > 1_000 * most:")],
        InTest("tests/core/claims/test_sharing.py::test_pools_that_come_later_run_what_waits_in_others"),
        r"assert sum\(table\.claims\) <= len\(computes\)",
    ),
    Mutant(
        "a pool takes signals for itself: the application's handler is not called",
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
        "payloads are not compared at insert: a value that reads back as another one is written",
        [Edit("fang_core/tasks/payloads/changes.py", "if not _is_same(value, read, hints):", "if False:")],
        InTest("tests/core/tasks/test_changes.py::test_what_would_come_back_as_something_else_is_refused"),
        r"DID NOT RAISE",
    ),
    Mutant(
        "a run that returns a coroutine, which nobody runs, has succeeded",
        [Edit("fang_core/runs/returned.py", "case Coroutine():", "case Coroutine() if False:")],
        InTest("tests/core/runs/test_execution.py::test_a_run_that_returns_what_it_should_do_has_failed"),
        r"assert False",
    ),
    Mutant(
        "a validator may change a value without a declared type again in the run",
        [
            Edit(
                "fang_core/tasks/payloads/changes.py",
                "case _ if is_plain and _is_another(value, read):",
                "case _ if False:",
            )
        ],
        InTest("tests/core/tasks/test_changes.py::test_what_a_validator_changes_in_extra_fields_is_seen"),
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
        "wait_for_database: a statement that may have been executed is sent again",
        [Edit("fang_core/turns.py", "isinstance(error, NotConnected |", "isinstance(error, BackendError |")],
        InTest("tests/core/test_turns.py::test_only_what_was_certainly_not_written_waits"),
        r"assert not True",
    ),
    Mutant(
        "interrupt without the handshake: interrupter and worker do not check each other's state",
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
        "an interruption strikes in a callback of the garbage collector, where Python swallows it",
        [Edit("fang_threaded/interrupting.py", "if frame.f_code in of_collector:", "if False:")],
        InTest("tests/threaded/test_interrupting.py::test_callbacks_of_the_garbage_collector_are_not_struck"),
        r"assert \[Success\(\)\] == \[Cancelled|did not come true",  # it may also leave a lock held
    ),
    Mutant(
        "a hung run is never reported",
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
        "a blocked event loop is never reported",
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
        "a time limit charges nothing: a task that timed out is given back",
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
        "a supervisor does not kill a process that holds the GIL",
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
        InTest("tests/cli/supervisor/test_replacing.py::test_a_reload_replaces_one_after_the_other"),
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
        "a fork server that was killed is not replaced: children are new interpreters from then on",
        [Edit("fang_isolation/fork_server.py", "for is_last in (False, True):", "for is_last in (True,):")],
        InFault("F52 fork server", "threaded"),
        r"a server that was killed has no successor",
    ),
    Mutant(
        "children react to SIGHUP, which all processes of a service may be sent",
        [
            Edit("fang_isolation/child.py", "for number in SIGNALS:", "for number in SIGNALS[:2]:"),
            Edit(
                "fang_isolation/fork_server.py",
                "sentinel = os.dup(reads)",
                "sentinel = os.dup(reads); signal.signal(signal.SIGHUP, signal.SIG_DFL)",
            ),
        ],
        InFault("F52 fork server", "async"),
        r"a run did not outlive its server",
    ),
    Mutant(
        "a child keeps the descriptors that its server has for earlier children",
        [
            Edit(
                "fang_isolation/fork_server.py",
                "for each in (writes, *self._children, *(status for _, status in self._children.values())):",
                "for each in (writes,):",
            )
        ],
        InTest("tests/isolation/test_fork_server.py::test_a_child_has_no_descriptor_of_its_server_or_of_another_child"),
        r"assert len\(os\.listdir",
    ),
    Mutant(
        "a child imports the library again: each one gets a new server",
        [
            Edit(
                "fang_isolation/fork_server.py",
                "if self._requests is not None and inherited != self._inherited:",
                "if self._requests is not None:",
            )
        ],
        InTest("tests/isolation/test_fork_server.py::test_a_child_costs_a_fork_and_no_import_of_the_library"),
        r"a child took 0\.\d+ s of a processor",
    ),
    Mutant(
        "a fork server outlives its pool's process while a process that the application forked still runs",
        [Edit("fang_isolation/fork_server.py", "in_child(self, ForkServer._let_go)", "pass")],
        InTest(
            "tests/isolation/test_starting.py"
            "::test_children_and_their_server_end_with_the_process_of_the_pool_though_it_has_forked_another"
        ),
        r"assert server == \"None\" if not is_forked else ends|assert False",
    ),
    Mutant(
        "the programs that a run has started outlive a child that dies by itself",
        [Edit("fang_isolation/fork_server.py", "os.killpg(pid, signal.SIGKILL)", "pass")],
        InTest("tests/isolation/test_deaths.py::test_the_programs_of_a_run_end_with_a_child_that_dies_by_itself"),
        r"assert ends\(|assert False",
    ),
    Mutant(
        "a supervisor never gives up on processes that take long to start and then die",
        [Edit("fang_cli/supervisor/deaths.py", "max(len(self._at), self.in_a_row)", "len(self._at)")],
        InTest(
            "tests/cli/test_deaths.py::test_a_process_that_dies_whenever_it_has_started_is_given_up_however_long_it_takes_to_start"
        ),
        r"assert None == 15",
    ),
    Mutant(
        "the event loop stands still while the first isolated run imports what it needs",
        [Edit("fang_core/runs/isolation.py", 'await self._aside(self._get_if_possible, "fang-isolation")', "pass")],
        InTest("tests/isolation/test_starting.py::test_the_event_loop_goes_on_while_isolation_is_imported"),
        r"assert \[False\] == \[True\]",
    ),
    Mutant(
        "a suspect is charged if no thread can be started for its child",
        [
            Edit(
                "fang_isolation/isolation.py",
                "errand.refuse(error)\n        return errand",
                "raise\n        return errand",
            )
        ],
        InTest(
            "tests/isolation/test_suspects.py"
            "::test_a_suspect_whose_child_cannot_be_started_is_not_charged_and_runs_in_the_pool"
        ),
        r"did not come true in time",
    ),
    Mutant(
        "a worker that could not be replaced keeps counting as free",
        [Edit("fang_threaded/workers.py", "self._do_without(successor)", "pass")],
        InTest(
            "tests/conformance/test_stats_and_resize.py"
            "::test_a_worker_that_could_not_be_replaced_is_not_counted_until_it_is"
        ),
        r"did not come true in time",
    ),
    Mutant(
        "`fang dev` starts its worker only after the database",
        [Edit("fang_cli/supervisor/standby.py", "if self._pid is None or number != NUMBER or", "if True or")],
        InTest("tests/cli/test_dev.py::test_a_task_runs_the_page_shows_it_and_ctrl_c_leaves_nothing"),
        r"assert ticks_at_start\(worker\) <=|assert \d+ <= \d+",
    ),
    Mutant(
        "a worker that is started ahead imports the application at once, and misses later changes",
        [
            Edit(
                "fang_cli/worker/standing_by.py",
                "    with supervisor.dup() as waiting:\n",
                "    sys.path.insert(0, '')\n    __import__('app')\n    with supervisor.dup() as waiting:\n",
            )
        ],
        InTest("tests/cli/test_standby.py::test_it_imports_the_application_as_it_is_when_it_is_told_to"),
        r"assert taken is not None|FileNotFoundError",
    ),
    Mutant(
        "a worker that is started ahead and never used is not waited for at the end",
        [
            Edit(
                "fang_cli/supervisor/standby.py",
                "                os.kill(self._pid, signal.SIGTERM)\n                os.waitpid(self._pid, 0)\n",
                "                pass\n",
            )
        ],
        InTest("tests/cli/test_standby.py::test_it_ends_with_the_block_if_nobody_took_it"),
        r"DID NOT RAISE",
    ),
    Mutant(
        "a key of limits shows the masked field from which it is made",
        [
            Edit(
                "fang_core/masking/keys.py",
                "HIDDEN if task.lane and _tells(task, task.lane, masks) else task.lane",
                "task.lane",
            )
        ],
        InTest("tests/cli/test_tasks.py::test_no_command_shows_a_key_or_a_header_that_is_masked"),
        r"assert \[\('",
    ),
    Mutant(
        "weights show the values of a masked field",
        [
            Edit(
                "fang_core/masking/keys.py",
                "if isinstance(rule, Fair) and _is_masked(rule.by, masks)\n        else",
                "if False\n        else",
            )
        ],
        InTest("tests/cli/test_managing.py::test_weights_do_not_show_a_masked_field"),
        r"assert \[\('",
    ),
    Mutant(
        "the error of a payload that cannot be read quotes it",
        [Edit("fang_core/tasks/payloads/codec.py", 'return error["type"] in _SHOWN', "return True")],
        InTest(
            "tests/core/tasks/test_codec_unreadable.py::test_an_unreadable_payload_names_the_field_and_quotes_nothing"
        ),
        r"assert 'Judged\.by_value: refused",
    ),
    Mutant(
        "the page shows a key of limits that is made from a masked field",
        [
            Edit(
                "fang_web/pages/limiting.py",
                'Counter(shown_key(task, masks[task.kind]) or "" for',
                'Counter(task.lane or "" for',
            )
        ],
        InTest("tests/web/test_actions.py::test_keys_that_tell_a_masked_field_are_shown_nowhere"),
        r"assert not \['/queues/webkeys'\]",
    ),
    Mutant(
        "a double click on the page inserts two tasks: the form's id is not used",
        [Edit("fang_web/pages/tasks/inserting.py", 'id = view.form.id("id") or new_task_id()', "id = new_task_id()")],
        InTest("tests/web/test_inserting_once.py::test_a_double_click_inserts_one_task"),
        r"too many values to unpack",
    ),
    Mutant(
        "the page ignores a condition that it does not know, and changes more tasks than the address asks for",
        [Edit("fang_web/filters.py", "if name not in _CONDITIONS and name not in besides:", "if False:")],
        InTest("tests/web/test_tasks.py::test_a_change_with_a_condition_that_does_not_exist_is_not_made"),
        r"assert \(\d+, 0\) == \(400, 1\)",
    ),
    Mutant(
        "a task of a type with limits waits for a worker, and holds its slot: a run took longer than those before",
        [Edit("fang_core/pool/claimer.py", "isinstance(claim, Claim) or not claim.is_counted", "True")],
        InTest(
            "tests/core/pool/test_claimer.py::"
            "test_a_claim_is_sent_before_runs_that_end_before_its_answer_and_what_no_worker_takes_goes_back"
        ),
        r"assert \[\] == \[",
    ),
    Mutant(
        "a claim that is sent before runs end may go back however often one has: a rate loses a tenth of its starts",
        [Edit("fang_core/claims/overlap.py", " and self._credit >= brought", "")],
        InTest("tests/core/claims/test_overlap.py::test_few_tasks_go_back_whatever_runs_do"),
        r"assert 20 <= \(10 \+ ",
    ),
    Mutant(
        "a pool with limited types rests without having said so, since a reply was lost: inserts do not wake it",
        [
            Edit(
                "fang_core/claims/policy.py",
                "self._is_announced = None\n        self._rests_until = -inf",
                "self._is_announced = None",
            )
        ],
        InTest(
            "tests/core/claims/test_policy.py::test_a_pool_that_lost_the_reply_to_its_last_word_announces_that_it_waits"
        ),
        r"Do.ANNOUNCE: \d+> in \[ClaimLanes",
    ),
    Mutant(
        "workers that got tasks of a type without limits are expected to be idle soon, and are claimed for",
        [Edit("fang_core/claims/policy.py", "                self._overlap.forget()\n", "                pass\n")],
        InTest(
            "tests/core/claims/test_policy.py::"
            "test_workers_that_got_tasks_of_a_type_without_limits_are_not_taken_to_be_idle_soon"
        ),
        r"assert step.task_type == task_type",
    ),
    Mutant(
        "claims bring a quarter of what was asked for as long as each key has one waiting task",
        [Edit("fang_core/claims/claiming.py", "quantum=self.lanes.quantum(task_type),", "")],
        InTest(
            "tests/core/claims/test_claiming.py::test_a_claim_asks_for_more_keys_if_those_of_the_last_one_had_few_tasks"
        ),
        r"assert \(4, 4\) == \(2, 4\)",
    ),
    Mutant(
        "a pool rests though the rate of a key soon allows a start, if the last claim of its round did not see that",
        [Edit("fang_core/claims/lanes.py", "min(each.keys_at, mono + claim.look_in)", "mono + claim.look_in")],
        InTest(
            "tests/core/claims/test_lanes.py"
            "::test_a_round_in_vain_ends_with_the_next_start_that_the_rate_of_any_of_its_keys_allows"
        ),
        r"assert 4\.5 == 1\.5",
    ),
    Mutant(
        "a pool whose close look sees no task that it can take tells no other pool of its unused slots",
        [Edit("fang_core/claims/lanes.py", " or request.looks_closely\n", "\n")],
        InTest(
            "tests/core/claims/test_lanes.py"
            "::test_slots_are_told_though_a_close_look_sees_no_task_that_the_pool_can_take"
        ),
        r"assert \(\) == \('a',\)",
    ),
    Mutant(
        "a drain waits for a slot of a task type with a limit of 0, and never returns",
        [
            Edit(
                "fang_core/backends/managed.py", "None if managed.settings.max_running == 0 else turn.room", "turn.room"
            )
        ],
        InTest(
            "tests/conformance/test_pools.py::TestEveryBackend"
            "::test_a_drain_leaves_what_a_limit_of_0_holds_back[memory-threaded]"
        ),
        r"assert 0 is None",
    ),
    Mutant(
        "all tasks whose key is a SecretStr count under one key, of asterisks",
        [Edit("fang_core/flow/keys.py", "    if not isinstance(value, str):\n", "    if False:\n")],
        InTest("tests/core/flow/test_keys.py::test_what_cannot_be_a_key_is_refused"),
        r"DID NOT RAISE",
    ),
    Mutant(
        "a key of a high priority behind more keys than a claim looks at waits as long as lower priorities have tasks",
        [Edit("fang_core/claims/lanes.py", "return each.detour.begin(each.after_lane)", "return each.after_lane")],
        InTest(
            "tests/postgres/test_priorities.py"
            "::test_a_key_of_a_high_priority_is_served_though_more_keys_than_a_claim_looks_at_come_before_it"
        ),
        r"assert 400 < 100",
    ),
    Mutant(
        "a pool that meets the keys of others goes back each time, and never comes to the other keys",
        [Edit("fang_core/claims/spacing.py", " or self._claims < EVERY", "")],
        InTest(
            "tests/core/claims/test_spacing.py"
            "::test_it_comes_round_all_keys_in_twice_as_many_claims_whatever_the_others_lock"
        ),
        r"assert -?\d+ >= ",
    ),
    Mutant(
        "a pool goes back within a round of claims in vain, which does not end then",
        [Edit("fang_core/claims/lanes.py", "claim.locked if taken else 0", "claim.locked")],
        InTest(
            "tests/core/claims/test_lanes.py"
            "::test_a_claim_that_passed_keys_of_other_pools_is_followed_by_one_further_back"
        ),
        r"assert '\w' == 'h'",
    ),
    Mutant(
        "a pool spins on a full type: it asks for a slot as if it had just missed its turn",
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
        "a lifespan that hangs at its end is not named in the log",
        [Edit("fang_core/pool/lifespan.py", "        timer.start()", "        pass")],
        InTest("tests/conformance/test_stopping.py::test_a_lifespan_that_blocks_the_event_loop_is_named"),
        r"it did not come true in time",
    ),
    Mutant(
        "no beat asks about a run in its first second: without a notification the run learns late that it is cancelled",
        [Edit("fang_core/pool/control.py", "RUNNING_FOR: Final = 0.1", "RUNNING_FOR: Final = 0.7")],
        InTest(
            "tests/core/pool/test_control.py"
            "::test_a_run_hears_within_a_second_and_a_bit_of_a_cancel_that_nobody_notifies_of"
        ),
        r"assert \[\] == \[",
    ),
    Mutant(
        "a beat begins a second after the previous one ended, however long that one took",
        [Edit("fang_core/pool/heartbeat.py", "max(APART, self._tried + EVERY - now)", "EVERY")],
        InTest("tests/core/pool/test_heartbeat.py::test_beats_begin_a_second_apart_however_long_they_take"),
        r"assert 1\.3 == 1\.0",
    ),
    Mutant(
        "an interrupter that could not be started is not tried again until another run needs it",
        [Edit("fang_core/pool/control.py", "        self._workers.look()\n", "")],
        InTest("tests/core/pool/test_control.py::test_the_workers_look_at_each_beat_for_what_is_to_be_tried_again"),
        r"assert 0 == 2",
    ),
    Mutant(
        "a run drains its own pool, and waits for itself",
        [
            Edit(
                "fang_core/pool/base.py",
                '        self._refuse_own("drain")\n        lifetime',
                "        lifetime",
            )
        ],
        InTest("tests/conformance/test_stopping.py::test_a_run_can_neither_start_nor_drain_its_pool"),
        r"Empty",
    ),
    Mutant(
        "a drain ends though a type whose pause has ended was not looked at",
        [Edit("fang_core/pool/drains.py", "            drain.empty.discard(PLAIN)", "            pass")],
        InTest("tests/core/pool/test_claimer.py::test_a_drain_looks_at_plain_types_again_when_a_type_has_become_one"),
        r"assert not True",
    ),
    Mutant(
        "a tick that is inserted ahead is that of the class, whatever was put in its place",
        [
            Edit(
                "fang_core/backends/ticking.py",
                "if info.name == name and info.is_stored)",
                "if info.name != name and info.is_stored)",
            )
        ],
        InTest(
            "tests/conformance/test_pools.py::TestEveryBackend"
            "::test_a_tick_that_is_inserted_ahead_is_that_of_what_was_put_in_place_of_a_classs_schedule[memory-threaded]"
        ),
        r"timedelta",
    ),
    Mutant(
        "tasks of schedules keep the key from when these were put, whatever their class says now",
        [
            Edit(
                "fang_core/tasks/stored.py",
                '    beside["lane"] = _lane_now(info, info.kind, beside["lane"])\n',
                "",
            )
        ],
        InTest("tests/core/backends/test_stored_ticking.py::test_a_tick_has_the_key_that_its_class_makes_now"),
        r"'before' == 'zenith'",
    ),
    Mutant(
        "an insert that meets a task which is due and has expired leaves it expired",
        [Edit("fang_core/backends/conflicts.py", "row.inserted(max(due, asked), now)", "row.inserted(due, now)")],
        InTest(
            "tests/conformance/test_pools.py::TestEveryBackend"
            "::test_a_task_that_is_due_expires_no_sooner_than_a_new_one[memory-threaded]"
        ),
        r"is_near",
    ),
    Mutant(
        "an isolated run that is cancelled while its child starts waits until that has started",
        [
            Edit(
                "fang_isolation/isolation.py",
                "            if self._is_sent:\n                return\n",
                "            if self._starts_by < inf:\n                return\n",
            )
        ],
        InTest(
            "tests/isolation/test_starter.py"
            "::test_a_run_that_is_cancelled_while_its_child_starts_ends_at_once_and_the_child_when_it_has_started"
        ),
        r"it did not come true in time",
    ),
    Mutant(
        "an idle thread that ends late counts as an abandoned run",
        [Edit("fang_threaded/workers.py", "return min(len(workers), busy + self._held())", "return len(workers)")],
        InTest(
            "tests/threaded/test_stopping.py::test_a_thread_without_a_run_that_ends_late_is_not_taken_for_a_run",
        ),
        r"assert 3 == 0",
    ),
    Mutant(
        "a move between two URLs of one queue is not noticed, and removes its tasks",
        [Edit("fang_cli/moving.py", "        if is_same(here, there):", "        if not is_same(here, there):")],
        InTest("tests/moving/test_command.py::test_a_queue_is_not_moved_to_itself_by_another_name"),
        r"assert \(0, ",
    ),
    Mutant(
        "a Ctrl-C that the application catches while a command imports it is forgotten",
        [Edit("fang_cli/ending.py", "        signal.signal(signal.SIGINT, _end)\n", "        pass\n")],
        InTest(
            "tests/cli/test_worker_importing.py::test_a_ctrl_c_during_the_import_ends_it[makes another error of it]"
        ),
        r"assert \(1, ''",
    ),
    Mutant(
        "JSON in rows is read as deep as json.loads reads it: commands that walk through it end with a RecursionError",
        [
            Edit(
                "fang_core/words/stored_json.py",
                "    if _openings(text) > MOST_DEPTH and _is_too_deep(value):",
                "    if False:",
            )
        ],
        InTest(
            "tests/web/test_hostile_rows.py::test_commands_show_the_rows_that_can_be_read"
            "[fang_schedules.declared fang_schedules.last_task_id]"
        ),
        r"RecursionError",
    ),
)
