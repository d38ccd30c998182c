"""How many processes a supervisor keeps, and what they report, told the time."""

import signal
from typing import Any

from fang_cli.supervisor.answering import Asked
from fang_cli.supervisor.report import Report
from tests.cli.supervisor.told import GRACE, LEASE, replaces

# More, fewer, none ----------------------------------------------------------------------------------------------------


def test_one_more_and_one_less(make: Any) -> None:
    told = make(1)
    told.all_ready()
    told.group.add()
    (added,) = told.all_ready()
    assert added.number == 2
    told.group.remove(told.now)
    assert added.sent == [signal.SIGTERM]
    told.ends(added)
    told.group.remove(told.now)  # the last one stays
    told.look()
    assert len(told.started) == 2
    assert told.started[0].sent == []


def test_removing_a_place_in_the_middle_of_its_replacement(make: Any) -> None:
    told = make()
    _, second = told.all_ready()
    told.group.reload(told.now)
    first_again = replaces(told, told.started[0])
    (new,) = told.starts()
    told.group.remove(told.now)
    assert second.sent == new.sent == [signal.SIGTERM]
    new.tells()
    told.look()
    told.ends(new)
    told.ends(second)
    assert told.starts() == []
    assert first_again.sent == []


def test_a_stop_reaches_all_of_them(make: Any) -> None:
    told = make()
    told.all_ready()
    told.group.reload(told.now)
    (new,) = told.starts()
    told.group.stop(told.now)
    assert all(process.sent == [signal.SIGTERM] for process in told.started)
    new.tells()
    assert told.starts() == []
    for process, code in zip(told.started, (0, 75, 0), strict=True):
        assert not told.group.has_ended
        told.ends(process, code)
    assert told.group.has_ended
    assert told.group.code == 75
    assert told.starts() == []


def test_processes_of_others_are_none_of_its_own(make: Any) -> None:
    assert make().group.ended(1, 0, 0.0) is None


# Reports --------------------------------------------------------------------------------------------------------------


def test_reports_may_come_in_pieces_and_from_a_later_version(make: Any) -> None:
    told = make(1)
    (process,) = told.starts()
    line = Report(True, False, 7, LEASE, GRACE).line()
    process.theirs.sendall(b'what is this?\n{"ready": true}\n' + line[:10])
    assert process.read(0.0)
    assert process.report is None
    process.theirs.sendall(line[10:].replace(b"}", b', "news": [1]}') + b'{"re')
    assert process.read(0.0)
    assert process.report == Report(True, False, 7, LEASE, GRACE)
    assert process.read(0.0)  # nothing is there
    process.theirs.close()
    assert not process.read(0.0)


def test_who_is_asked_about_metrics_and_probes(make: Any) -> None:
    told = make(2)
    first, second = told.starts()
    first.tells(port=7)
    assert told.group.asked() == [Asked("1", 7, True), Asked("2", 0, True)]
    second.tells(port=8)
    told.look()
    told.group.reload(told.now)
    (successor,) = told.starts()
    assert told.group.asked() == [Asked("1", 7, True), Asked("2", 8, True)]  # that of the successor says nothing yet
    successor.tells(port=9)
    told.look()
    assert told.group.asked() == [Asked("1", 9, True), Asked("2", 8, True), Asked("1 ending", 7, False)]
    told.ends(first)
    assert told.group.asked() == [Asked("1", 9, True), Asked("2", 8, True)]
