"""Defects of spans, zones and clocks."""

from typing import Final

from tests.faults.mutants.mutant import Edit, InTest, Mutant

MUTANTS: Final = (
    Mutant(
        "sessions keep the zone of the server: a span that the drivers send in days has 23 or 25 hours more or less",
        [Edit("fang_postgres/connections/connecting.py", '    "TimeZone": "UTC",\n', "")],
        InTest("tests/postgres/test_moved_clocks.py::test_on_own_connections"),
        r"AssertionError: \(datetime.timedelta",
    ),
    Mutant(
        "spans are written in days of the session's zone, on an application's connections and engines",
        [
            Edit(
                "fang_postgres/shapes.py",
                'return f"{hours:+d} hours {seconds:+d} secs',
                'return f"{hours // 24:+d} days {hours % 24:+d} hours {seconds:+d} secs',
            )
        ],
        InTest("tests/postgres/test_moved_clocks.py::test_on_an_engine"),
        r"AssertionError: \(datetime.timedelta",
    ),
    Mutant(
        "a schedule may be in a zone that is another one on each machine",
        [Edit("fang_core/schedules/schedule.py", "    if name in _OF_THE_MACHINE:", "    if name in frozenset():")],
        InTest("tests/core/schedules/test_schedule.py::test_a_zone_that_is_another_one_on_each_machine_is_refused"),
        r"DID NOT RAISE|there is no time zone",
    ),
    Mutant(
        "a schedule may be in a zone that counts leap seconds",
        [Edit("fang_core/schedules/schedule.py", 'name.startswith("right/")', 'name.startswith("wrong/")')],
        InTest("tests/core/schedules/test_schedule.py::test_a_zone_with_leap_seconds_is_refused"),
        r"DID NOT RAISE|there is no time zone",
    ),
    Mutant(
        "a threaded pool does not beat while no thread can be started",
        [
            Edit(
                "fang_threaded/connection_timeouts.py",
                "        thread.start()\n    except RuntimeError:\n        return False\n",
                "        thread.start()\n    except RuntimeError:\n        raise\n",
            )
        ],
        InTest("tests/threaded/test_connections.py::test_a_heart_beats_though_no_thread_can_be_started"),
        r"RuntimeError: can't start new thread",
    ),
    Mutant(
        "a schedule makes up for all ticks that a jump of the database's clock has passed, whatever its window",
        [
            Edit(
                "fang_core/backends/ticking.py",
                "            after = max(after, _before(now, changed.missed_within))\n",
                "            after = max(after, EARLIEST)\n",
            )
        ],
        InTest(
            "tests/core/backends/test_jumping_clocks.py"
            "::test_after_jumps_of_days_it_makes_up_for_no_more_than_its_window_and_ticks_again_where_it_was_before"
        ),
        r"AssertionError",
    ),
)
