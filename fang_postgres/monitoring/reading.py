"""Reads the history: each script in a few statements, whose snapshots may differ by what is written meanwhile."""

from fang_core.monitoring.reading import Range, Sums, heat_of, stats_of
from fang_core.monitoring.stats import HeatPoint, Stats
from fang_postgres.operations.stats import Stats as StatsOperations
from fang_postgres.operations.stats import StatsReading
from fang_postgres.statement import Script


def read_stats(operations: StatsOperations, asked: Range) -> Script[Stats]:
    """Returns the stats of a range."""
    sums = yield from _counted(operations, asked)
    types = yield operations.read_types(asked.task_types)
    return stats_of(asked, sums._replace(types=types))


def read_history(operations: StatsReading, asked: Range) -> Script[Stats]:
    """Returns the stats of a range, without how task types stand now, which takes longer than all else."""
    return stats_of(asked, (yield from _counted(operations, asked)))


def _counted(operations: StatsReading, asked: Range) -> Script[Sums]:
    sums: Sums = yield operations.read_stats(asked)
    histograms = yield operations.read_histograms(asked)
    by_pair = {
        pair: row._replace(queue=histograms[pair][0], run=histograms[pair][1]) if pair in histograms else row
        for pair, row in sums.by_pair.items()
    }
    return sums._replace(by_pair=by_pair)


def read_heat(operations: StatsOperations, asked: Range) -> Script[tuple[HeatPoint, ...]]:
    """Returns the points of a heat map."""
    found = yield operations.read_heat(asked)
    return heat_of(found)
