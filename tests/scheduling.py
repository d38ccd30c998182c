"""Which process of xdist's runs which tests, in which order, and what happens to them when a process dies."""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

APART: Final = (
    "tests/faults/test_shutdown.py",
    "tests/cli/test_processes.py",
    "tests/postgres/test_plans.py::test_plans_with_many",
    "tests/postgres/test_plans.py::test_pruning",
    "tests/embedded/test_launcher.py",
    "tests/cli/test_cli.py::test_demo",
    "tests/cli/test_cli.py::test_ended_demo",
    "tests/cli/test_cli.py::test_death_of",
    "tests/liveness/test_pools.py",
    "tests/liveness/test_half_open.py",
    "tests/postgres/test_failures.py",
    "tests/waking/test_patience.py",
)
"""What takes long and whose tests share nothing: each test goes to a process that is free, other files as a whole."""

TOGETHER: Final = ("tests/isolation/",)
"""Directories of files that one process runs: what their tests share takes seconds to start in another one."""

IN_TWO: Final = ("tests/faults/test_faults.py",)
"""Whose tests two processes share, half each: what they need takes a second of a processor to start in one more."""

LONG: Final = (
    *IN_TWO,
    *APART,
    "tests/postgres/test_plans.py",
    "tests/cli/",
    "tests/poolers/",
    "tests/conformance/test_pools.py",
    "tests/postgres/migrations/",
    "tests/threaded/test_engines.py",
    "tests/isolation/",
    "tests/moving/",
    "tests/postgres/test_uniqueness.py",
    "tests/postgres/test_grants.py",
    "tests/core/test_typing.py",
    "tests/sqlite/test_races.py",
    "tests/threaded/test_caller_connection.py",
    "tests/waking/",
    "tests/benchmarks/test_driver.py",
    "tests/documents/test_applications.py",
    "tests/servers/",
    "tests/test_examples.py",
    "tests/test_extras.py",
    "tests/web/test_chromium.py",
    "tests/web/test_hostile_rows.py",
    "tests/postgres/test_lane_plans.py",
    "tests/sqlite/test_hostile_file.py",
    "tests/redis/test_spoilt.py",
)
"""What comes first, so that no process is left with a long file when the others have ended."""


class ByFileOrTest(LoadFileScheduling):
    """Gives a process a whole file, half of one ``IN_TWO``, a single test of one ``APART``, or all ``TOGETHER``."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(APART):
            return nodeid
        if nodeid.startswith(IN_TWO):
            return f"half {crc32(nodeid.encode()) % 2} of {super()._split_scope(nodeid)}"
        together = next((directory for directory in TOGETHER if nodeid.startswith(directory)), None)
        return together or super()._split_scope(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        # The process that replaces a dead one has collected nothing yet: it gets work as soon as it has.
        if node in self.registered_collections:
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        # A process begins its last test when it knows what follows: another one, or the end. One that replaces a dead
        # one may have got a single test, and would wait for ever.
        if node in self.registered_collections and self._pending_of(self.assigned_work[node]) == 1:
            super()._reschedule(node)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        super().add_node_collection(node, collection)
        if node not in self.registered_collections:  # it has collected other tests than those before it
            node.shutdown()

    def remove_node(self, node: WorkerController) -> str | None:
        # A unit that is done would be assigned again, and a process that gets nothing to run never asks for more. The
        # test that a process died of would end the next one, too.
        work = self.assigned_work[node]
        crashed = next((test for tests in work.values() for test, done in tests.items() if not done), None)
        for scope, tests in tuple(work.items()):
            if crashed in tests:
                tests[crashed] = True
            if all(tests.values()):
                del work[scope]
        super().remove_node(node)
        return crashed
