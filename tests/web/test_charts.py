"""Charts: numbers in, few bytes out, and nothing lost."""

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fang_core.monitoring.stats import HeatPoint, StatsPoint
from fang_core.words.texts import percent
from fang_web.charts import LEVELS, MOST_COLUMNS, by_time, heat_map, histogram, in_all, sparkline, throughput
from fang_web.rendering import clock, moment, number, said
from tests.web.telling import NOW


def heat(minutes: int, step: int = 1) -> list[HeatPoint]:
    return [
        HeatPoint(at=NOW - timedelta(minutes=n), kind="Mail", task_type="mails", queue={n % 28 + 1: n, 84: 1}, run={})
        for n in range(step, minutes + 1, step)
    ]


@pytest.mark.parametrize(("minutes", "step"), [(15, 1), (60, 1), (360, 1), (1_440, 60), (43_200, 60)])
def test_a_heat_map_has_few_columns_levels_and_bytes_and_every_run(minutes: int, step: int) -> None:
    points = heat(minutes, step)
    queue, run = by_time(points, NOW - timedelta(minutes=minutes), NOW)
    assert len(queue) == len(run) <= MOST_COLUMNS
    assert sum(in_all(queue).values()) == sum(sum(point.queue.values()) for point in points)
    drawn = heat_map(queue, "times")
    assert len(re.findall(r'<path class="h\d"', drawn)) <= LEVELS
    assert len(drawn) < 140_000
    assert heat_map(run, "times") == ""  # nothing was counted


def test_one_run_among_thousands_is_seen() -> None:
    drawn = heat_map([(NOW, {10: 1, 11: 100_000})], "times")
    assert 'class="h1"' in drawn
    assert 'class="h8"' in drawn


def test_throughput_counts_each_run_once() -> None:
    def point(n: int, seconds: float) -> StatsPoint:
        counts = {"started": 9, "finished": 5, "retried": 2, "failed": 1, "cancelled": 1}
        return StatsPoint(
            at=NOW - timedelta(seconds=n * seconds),
            seconds=seconds,
            run_seconds=1,
            busy_seconds=1,
            worker_seconds=2,
            **counts,
        )

    for seconds, hours in ((60.0, 1), (60.0, 6), (3600.0, 24), (3600.0, 720)):
        points = [point(n, seconds) for n in range(1, int(hours * 3600 / seconds) + 1)]
        drawn = throughput(points, NOW - timedelta(hours=hours), NOW)
        assert f"{len(points) * 9:,} runs ended, {len(points) * 3:,} of them in an error" in drawn
        assert len(drawn) < 12_000
    assert "0 runs ended" in throughput([], NOW - timedelta(hours=1), NOW)


def test_what_lies_outside_of_the_range_stands_at_its_ends() -> None:
    points = heat(10)
    queue, _ = by_time(points, NOW - timedelta(minutes=5), NOW - timedelta(minutes=2))
    assert sum(in_all(queue).values()) == sum(sum(point.queue.values()) for point in points)


@pytest.mark.parametrize("counts", [{}, {0: 3}, {84: 1}, {0: 1, 20: 4, 84: 9}, {5: 0}])
def test_a_histogram_has_a_bar_for_each_bucket(counts: dict[int, int]) -> None:
    drawn = histogram(counts, "times")
    assert drawn.count("z") == sum(bool(count) for count in counts.values()) or not drawn


def test_sparklines_of_nothing_and_of_zeros() -> None:
    assert sparkline([]) == ""
    assert "between 0 and 0" in sparkline([0.0])


def test_figures_are_short() -> None:
    assert [number(value) for value in (None, 0, 1_234_567, 0.12345, 123.4)] == ["–", "0", "1,234,567", "0.123", "123"]
    assert [percent(value) for value in (None, 0, 0.0001, 0.0123, 0.5, 1)] == [
        *("–", "0 %", "< 0.1 %", "1.2 %", "50 %", "100 %"),
    ]


@pytest.mark.parametrize(
    "at",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    ],
)
def test_a_time_at_the_edge_of_all_times_is_shown(at: datetime) -> None:
    assert clock(at) in moment(at)


@pytest.mark.parametrize(
    ("details", "told"),
    [(None, []), ([1], [("details", [1])]), ("x", [("details", "x")]), ({"a": 1, "b": "", "c": None}, [("a", 1)])],
)
def test_details_of_the_audit_that_anybody_wrote_are_shown(details: Any, told: Any) -> None:
    assert said(details) == told
