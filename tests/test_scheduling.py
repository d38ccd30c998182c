"""The order of the tests under xdist: nothing is lost or repeated when one of its processes dies."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.fixtures import worth_telling
from tests.scheduling import APART, IN_TWO, ByFileOrTest

TESTS: Final = [f"tests/{file}.py::test_{number}" for file in ("first", "second", "third") for number in range(6)]
SINGLE: Final = [f"{APART[0]}::test_{number}" for number in range(8)]


class Process:
    """As the scheduler sees one: runs what it is given, in that order, when a test says so."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def processes(*names: str) -> list[Any]:
    return [Process(name) for name in names]


@pytest.fixture
def scheduler() -> ByFileOrTest:
    config: Any = SimpleNamespace(
        option=SimpleNamespace(loadscopereorder=False),
        getvalue={"tx": ["popen", "popen"]}.__getitem__,
    )
    return ByFileOrTest(config)


def join(scheduler: ByFileOrTest, process: Any) -> None:
    """What xdist does when a process has collected its tests."""
    scheduler.add_node_collection(process, SINGLE + TESTS)
    if scheduler.collection_is_completed:
        scheduler.schedule()


def run(scheduler: ByFileOrTest, process: Any) -> str:
    index = process.given.pop(0)
    scheduler.mark_test_complete(process, index)
    return (SINGLE + TESTS)[index]


def run_all(scheduler: ByFileOrTest, *processes: Any) -> list[str]:
    ran = []
    while any(process.given for process in processes):
        ran += [run(scheduler, process) for process in processes if process.given]
    return ran


def test_all_run_once_and_what_is_apart_is_shared(scheduler: ByFileOrTest) -> None:
    one, two = processes("one", "two")
    for process in (one, two):
        scheduler.add_node(process)
        join(scheduler, process)
    assert {(SINGLE + TESTS)[index] for index in one.given} & set(SINGLE)
    assert {(SINGLE + TESTS)[index] for index in two.given} & set(SINGLE)
    assert sorted(run_all(scheduler, one, two)) == sorted(SINGLE + TESTS)
    assert scheduler.tests_finished


def test_the_tests_of_a_dead_process_run_elsewhere(scheduler: ByFileOrTest) -> None:
    one, two = processes("one", "two")
    for process in (one, two):
        scheduler.add_node(process)
        join(scheduler, process)
    ran = [run(scheduler, one) for _ in range(5)]
    crashed = scheduler.remove_node(one)
    assert crashed == (SINGLE + TESTS)[one.given[0]]
    ran += run_all(scheduler, two)
    assert sorted([*ran, crashed]) == sorted(SINGLE + TESTS)  # what it died of does not run again
    assert scheduler.tests_finished


@pytest.mark.parametrize("left", [0, 1, 2])
def test_who_replaces_the_last_process_is_told_what_follows_its_last_test(scheduler: ByFileOrTest, left: int) -> None:
    one, two, three = processes("one", "two", "three")
    for process in (one, two):
        scheduler.add_node(process)
        join(scheduler, process)
    run_all(scheduler, two)
    while len(one.given) > left + 1:
        run(scheduler, one)
    assert two.shutting_down
    crashed = scheduler.remove_node(one)
    assert crashed is not None
    scheduler.add_node(three)
    join(scheduler, three)
    while len(three.given) > 1:  # the last one is run when nothing can follow any more
        run(scheduler, three)
    assert three.shutting_down


def test_a_process_dies_while_another_is_being_replaced(scheduler: ByFileOrTest) -> None:
    one, two, three, four = processes("one", "two", "three", "four")
    for process in (one, two):
        scheduler.add_node(process)
        join(scheduler, process)
    crashed = [scheduler.remove_node(one)]
    scheduler.add_node(three)
    crashed.append(scheduler.remove_node(two))
    scheduler.add_node(four)
    assert not three.given
    join(scheduler, three)
    join(scheduler, four)
    assert sorted([*run_all(scheduler, three, four), *crashed]) == sorted(SINGLE + TESTS)


def test_a_process_dies_before_all_have_collected(scheduler: ByFileOrTest) -> None:
    one, two, three = processes("one", "two", "three")
    scheduler.add_node(one)
    scheduler.add_node(two)
    join(scheduler, one)
    scheduler.remove_node(one)
    scheduler.add_node(three)
    join(scheduler, two)
    join(scheduler, three)
    assert sorted(run_all(scheduler, two, three)) == sorted(SINGLE + TESTS)


def test_a_file_in_two_has_two_parts_of_much_the_same_length(scheduler: ByFileOrTest) -> None:
    parts = Counter(scheduler._split_scope(f"{IN_TWO[0]}::test_quick[F{number:02}-async]") for number in range(40))
    assert len(parts) == 2
    assert min(parts.values()) >= 12


def report(when: Any, outcome: Any = "passed") -> pytest.TestReport:
    return pytest.TestReport("tests/first.py::test", ("tests/first.py", 1, "test"), {}, outcome, None, when)


def test_of_a_test_that_passed_its_call_is_told_and_of_any_other_all() -> None:
    passed = [report("setup"), report("call"), report("teardown")]
    assert worth_telling(passed) == passed[1:2]
    for other in (
        [report("setup", "failed"), report("teardown")],
        [report("setup", "skipped"), report("teardown")],
        [report("setup"), report("call", "failed"), report("teardown")],
        [report("setup"), report("call"), report("teardown", "failed")],
    ):
        assert worth_telling(other) == other
