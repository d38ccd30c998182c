"""Defects of the backend on Redis."""

from typing import Final

from tests.faults.mutants.mutant import Edit, InFault, InTest, Mutant

_SENT_AGAIN: Final = """\
        from fang_core.errors import BackendUnavailable
        try:
            replies = link.send(commands)
        except BackendUnavailable:
            replies = Link(self.server).send(commands)
        return self._settled(link, replies, commands)
"""

MUTANTS: Final = (
    Mutant(
        "Redis, fence dropped: an outcome is written even if another pool holds the task",
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
        "Redis, a rescue takes nothing back: the tasks of a dead pool stay held",
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
        "Redis, a pool is rescued although it has beaten since the watcher's last look",
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
                "        return self._settled(link, link.send(commands), commands)\n",
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
        "Redis, a beat begins with a write that is refused when the memory is full",
        [Edit("fang_redis/scripts/beat.lua", "admit()\n", "call('HSET', P..'meta', '-', 1)\n")],
        InTest("tests/redis/test_heart.py::test_a_full_memory_stops_no_heart"),
        r"memory is full",
    ),
    Mutant(
        "Redis, a pool does not notice a restart of the server",
        [Edit("fang_redis/scripts/beat.lua", "if known[1] ~= run or not whole", "if not known[1] or not whole")],
        InTest("tests/redis/test_heart.py::test_a_restart_casts_doubt_on_free_locks"),
        r"assert .* < 60",
    ),
    Mutant(
        "Redis, a pool does not notice that the data are lost",
        [Edit("fang_redis/pools/heart.py", "if former is not None and former != epoch:", "if former == '':")],
        InFault("R10", "threaded"),
        r"did not come true",
    ),
    Mutant(
        "Redis, inserts do not wait for replicas",
        [
            Edit("fang_redis/operations.py", '("WAIT", replicas,', '("WAIT", 0,'),
            Edit("fang_redis/operations.py", "if confirmed < self.replicas:", "if confirmed < 0:"),
        ],
        InFault("R11", "threaded"),
        r"\d+ inserts had returned, and the failover has lost them",
    ),
    Mutant(
        "Redis, tasks that a pool holds without knowing it stay held",
        [Edit("fang_redis/scripts/reconcile.lua", "if not known[id] then", "if known[id] == 0 then")],
        InFault("R14", "threaded"),
        r"did not come true within 60 s",
    ),
    Mutant(
        "Redis, an insert that claims for one pool wakes none of the other pools",
        [Edit("fang_redis/scripts/prelude.lua", "return number > 1 or number == 1 and", "return number > 0 and")],
        InTest("tests/redis/test_handing.py::test_other_pools_that_wait_are_woken"),
        r"assert 0 == 1",
    ),
    Mutant(
        "Redis, a child that was forked claims for a pool of its parent",
        [
            Edit(
                "fang_redis/connections/handing.py",
                "        self._offers = {}  # the pools",
                "        pass  # the pools",
            )
        ],
        InTest("tests/redis/test_handing.py::test_a_child_that_was_forked_speaks_for_no_pool_of_its_parent"),
        r"assert 1 == 0",
    ),
    Mutant(
        "Redis, a pool waits for the reply to an insert with its claim that was never sent",
        [Edit("fang_redis/connections/handing.py", "        link.interrupt()\n", "")],
        InTest(
            "tests/redis/test_handing.py"
            "::test_a_thread_that_is_stopped_when_it_has_taken_a_claim_over_leaves_no_pool_waiting"
        ),
        r"assert 'Timeout' not in",
    ),
    Mutant(
        "Redis, a task that is inserted as claimed goes before tasks that waited",
        [Edit("fang_redis/scripts/insert.lua", "'LIMIT', 0, 1) > 0 then", "'LIMIT', 0, 1) > 1 then")],
        InTest("tests/redis/test_handing.py::test_tasks_that_waited_before_go_first"),
        r"assert \[UUID",
    ),
    Mutant(
        "Redis, a server that evicts keys is accepted",
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
    Mutant(
        "Redis, a unique task that was removed by hand keeps equal ones out",
        [
            Edit(
                "fang_redis/scripts/prelude.lua",
                "return id and call('EXISTS', row(id)) == 1 and id",
                "return id and id",
            )
        ],
        InTest("tests/redis/test_spoilt.py::test_a_unique_task_whose_hash_was_removed_by_hand_keeps_no_equal_one_out"),
        r"TwinExists|not enough values to unpack",
    ),
    Mutant(
        "Redis, tasks of ticks and of moves are inserted although the memory is full",
        [
            Edit(
                "fang_redis/scripts/write.lua",
                "if call('EXISTS', row(id)) == 1 then call('DEL', row(id)) end",
                "call('DEL', row(id))",
            )
        ],
        InTest(
            "tests/redis/test_scripts.py"
            "::test_when_the_memory_is_full_tasks_of_ticks_and_of_other_queues_are_refused_as_well"
        ),
        r"DID NOT RAISE",
    ),
    Mutant(
        "Redis, an insert that fails in the middle leaves what it has written",
        [Edit("fang_redis/scripts/insert.lua", "if r.is_new then take_back(r) end", "if not r then take_back(r) end")],
        InTest("tests/redis/test_spoilt.py::test_an_insert_that_fails_at_such_a_key_has_written_nothing"),
        r"assert \d+ == ",
    ),
    Mutant(
        "Redis, scripts write to tasks before they have looked at all keys that they will write to",
        [Edit("fang_redis/scripts/prelude.lua", "if is ~= wanted and is ~= 'none' then", "if is == 'another' then")],
        InTest("tests/redis/test_wrong_types.py::test_what_fails_at_a_key_of_another_type_leaves_each_task_whole"),
        r"assert not \['",
    ),
    Mutant(
        "Redis, while a slot is handed over, a connection is closed under all who share it when one is refused",
        [
            Edit(
                "fang_redis/aio/links.py",
                "for reply in replies):\n        link.retire()",
                "for reply in replies):\n        link.close()",
            )
        ],
        InTest("tests/redis/test_handover.py::test_of_calls_at_once_each_hears_that_nothing_was_written"),
        r"OutcomeUnknown",
    ),
    Mutant(
        "Redis, an insert fails because its claim fails",
        [Edit("fang_redis/scripts/insert.lua", "pcall(claim, own)", "true, claim(own)")],
        InTest("tests/redis/test_handing.py::test_a_claim_that_fails_says_nothing_of_the_insert"),
        r"WRONGTYPE",
    ),
)
