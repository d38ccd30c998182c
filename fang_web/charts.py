"""Draws charts as SVG: numbers in, markup out. No text of a task or a person ever enters it but as escaped labels.

Colours are classes of the style sheet, as the policy forbids inline styles. A heat map has one path for each of eight
levels of darkness: a rectangle for each cell would take four times as many bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil, log
from typing import Final, NamedTuple

from markupsafe import Markup

from fang_core.monitoring.buckets import BOUNDS, Histogram, merged
from fang_core.monitoring.stats import HeatPoint, StatsPoint
from fang_core.words.spans import span
from fang_core.words.texts import counted

LEVELS: Final = 8
MOST_COLUMNS: Final = 120
"""A chart with more columns than this joins neighbours."""

_LEFT: Final = 66
_CELL: Final = 10  # height of a row of a heat map


class Column(NamedTuple):
    """Holds what a chart of throughput shows of one stretch of time."""

    at: datetime
    good: float
    bad: float


def throughput(points: Sequence[StatsPoint], since: datetime, until: datetime) -> Markup:
    """Draws how many runs ended in each stretch of time, and how many of them went wrong."""
    columns = _columns(points, since, until)
    most = max((column.good + column.bad for column in columns), default=0.0)
    width, height = 720, 120
    step = (width - _LEFT) / max(1, len(columns))
    high = most or 1.0
    tops, bars = [f"M{_LEFT} {height}"], []
    for n, column in enumerate(columns):
        left = _LEFT + n * step
        top = height - (column.good + column.bad) / high * (height - 8)
        tops.append(f"L{left:.1f} {top:.1f}H{left + step:.1f}")
        if column.bad:
            bars.append(f"M{left:.1f} {height}v-{column.bad / high * (height - 8):.1f}h{step:.1f}V{height}z")
    line = "".join(tops)
    ended = sum(column.good + column.bad for column in columns)
    went_wrong = sum(column.bad for column in columns)
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{label}"><path class="area" d="{line}V{b}z"/>'
        '<path class="stroke" d="{line}"/><path class="fails" d="{bars}"/><path class="axis" d="M{l} {b}H{w}"/>'
        '<text x="{x}" y="12" text-anchor="end">{most}</text><text x="{l}" y="{t}">{since}</text>'
        '<text x="{w}" y="{t}" text-anchor="end">{until}</text></svg>'
    ).format(
        w=width,
        h=height + 16,
        b=height,
        l=_LEFT,
        x=_LEFT - 6,
        t=height + 12,
        line=line,
        bars="".join(bars),
        most=f"{most:,.0f}",
        label=f"{counted(round(ended), 'run')} ended, {went_wrong:,.0f} of them in an error; "
        f"{most:,.0f} at most at a time",
        since=f"{since:%Y-%m-%d %H:%M}",
        until=f"{until:%H:%M %Z}",
    )


def sparkline(values: Sequence[float]) -> Markup:
    """Draws a small curve of values, without axes."""
    if not values:
        return Markup("")
    high = max(values) or 1
    step = 160 / max(1, len(values) - 1)
    curve = "L".join(f"{n * step:.1f} {31 - value / high * 29:.1f}" for n, value in enumerate(values))
    return Markup(
        '<svg class="spark" viewBox="0 0 160 32" role="img" aria-label="{label}">'
        '<path class="area" d="M0 32L{curve}L160 32z"/><path class="stroke" d="M{curve}"/></svg>'
    ).format(curve=curve, label=f"between {min(values):,.0f} and {max(values):,.0f}, last {values[-1]:,.0f}")


def heat_map(columns: Sequence[tuple[datetime, Histogram]], label: str) -> Markup:
    """Draws times by buckets: to the right the time of day, upwards how long it took, darker where more runs are."""
    used = sorted({index for _, histogram in columns for index, count in histogram.items() if count})
    if not used:
        return Markup("")
    low, high = used[0], used[-1]
    most = max(count for _, histogram in columns for count in histogram.values())
    width, height = 720, (high - low + 1) * _CELL
    step = (width - _LEFT) / len(columns)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for n, (_, histogram) in enumerate(columns):
        for index, count in histogram.items():
            if count:
                left, top = _LEFT + n * step, (high - index) * _CELL
                paths[_level(count, most)].append(f"M{left:.1f} {top}h{step:.1f}v{_CELL}h-{step:.1f}z")
    drawn = Markup("").join(
        Markup('<path class="h{}" d="{}"/>').format(level + 1, "".join(cells))
        for level, cells in enumerate(paths)
        if cells
    )
    # A label each decade, on the lower edge of its bucket, and at the ends.
    labels = Markup("").join(
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            _LEFT - 6, (high - index) * _CELL + 9, _lower_bound(index)
        )
        for index in sorted({low, high, *(index for index in range(low + 3, high - 2) if index % 8 == 1)})
    )
    return Markup(
        '<svg class="heat" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{drawn}{labels}'
        '<path class="axis" d="M{l} {b}H{w}"/><text x="{l}" y="{t}">{since}</text>'
        '<text x="{w}" y="{t}" text-anchor="end">{until}</text></svg>'
    ).format(
        w=width,
        h=height + 16,
        b=height,
        l=_LEFT,
        t=height + 12,
        label=label,
        drawn=drawn,
        labels=labels,
        since=f"{columns[0][0]:%Y-%m-%d %H:%M}",
        until=f"{columns[-1][0]:%H:%M %Z}",
    )


def histogram(counts: Histogram, label: str) -> Markup:
    """Draws how many runs took how long."""
    used = sorted(index for index, count in counts.items() if count)
    if not used:
        return Markup("")
    low, high = used[0], used[-1]
    width, height = 360, 100
    step = width / max(8, high - low + 1)
    most = max(counts.values())
    bars = "".join(
        f"M{(index - low) * step:.1f} {height}v-{max(1.0, counts[index] / most * (height - 4)):.1f}"
        f"h{step - 1:.1f}V{height}z"
        for index in used
    )
    return Markup(
        '<svg class="hist" viewBox="0 0 {w} {h}" role="img" aria-label="{label}"><path class="bar" d="{bars}"/>'
        '<path class="axis" d="M0 {b}H{w}"/><text x="0" y="{t}">{low}</text>'
        '<text x="{x:.1f}" y="{t}" text-anchor="end">{high}</text></svg>'
    ).format(
        w=width,
        h=height + 16,
        b=height,
        t=height + 12,
        x=max(70.0, (high - low + 1) * step),
        label=label,
        bars=bars,
        low=_lower_bound(low),
        high=_lower_bound(high + 1),
    )


def by_time(
    points: Iterable[HeatPoint], since: datetime, until: datetime
) -> tuple[list[tuple[datetime, Histogram]], list[tuple[datetime, Histogram]]]:
    """Returns the histograms of the time in the queue and of the runs, for each stretch of time, of all task types."""
    found = list(points)
    step = _step([point.at for point in found], since, until)
    count = max(1, ceil((until - since) / step))
    queue: list[list[Histogram]] = [[] for _ in range(count)]
    run: list[list[Histogram]] = [[] for _ in range(count)]
    for point in found:
        n = min(count - 1, max(0, (point.at - since) // step))
        queue[n].append(point.queue)
        run[n].append(point.run)
    moments = [since + n * step for n in range(count)]
    return (
        [(at, merged(each)) for at, each in zip(moments, queue, strict=True)],
        [(at, merged(each)) for at, each in zip(moments, run, strict=True)],
    )


def in_all(columns: Iterable[tuple[datetime, Histogram]]) -> Mapping[int, int]:
    """Returns the histogram of all stretches of time together."""
    return merged(histogram for _, histogram in columns)


def _columns(points: Sequence[StatsPoint], since: datetime, until: datetime) -> list[Column]:
    step = _step([point.at for point in points], since, until)
    if points:
        step = max(step, timedelta(seconds=max(point.seconds for point in points)))
    count = max(1, min(MOST_COLUMNS, ceil((until - since) / step)))
    columns = [Column(since + n * step, 0.0, 0.0) for n in range(count)]
    for point in points:
        n = min(count - 1, max(0, (point.at - since) // step))
        column = columns[n]
        bad = point.retried + point.failed
        columns[n] = Column(column.at, column.good + point.finished + point.cancelled, column.bad + bad)
    return columns


def _step(moments: Sequence[datetime], since: datetime, until: datetime) -> timedelta:
    """Returns how long a column is: whole minutes, or hours, so that there are not too many."""
    is_hourly = until - since > timedelta(hours=2) and all(at.minute == 0 for at in moments)
    unit = timedelta(hours=1) if is_hourly else timedelta(minutes=1)
    return unit * max(1, ceil((until - since) / unit / MOST_COLUMNS))


def _lower_bound(index: int) -> str:
    """Returns the shortest time of a bucket, in words."""
    return span(BOUNDS[min(index, len(BOUNDS)) - 1]) if index > 0 else "0"


def _level(count: int, most: int) -> int:
    """Returns how dark a cell is: by the logarithm, so that one run among thousands is still seen."""
    return min(LEVELS - 1, int(log(count + 1) / log(most + 1) * LEVELS))
