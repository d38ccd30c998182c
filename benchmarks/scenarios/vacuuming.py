"""Measures whether the task table needs autovacuum settings of its own: one database for each, at once, under the same
traffic."""

from contextlib import ExitStack
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.driver import Driver
from benchmarks.figures import percentile
from benchmarks.report import Table
from benchmarks.scenarios.draining import FILL
from benchmarks.scenarios.lane import Lane

SETTINGS: Final = {
    "the server's": "",
    "of its own": "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, "
    "autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0",
    "never": "autovacuum_enabled = off",  # the most that any settings could gain is the distance to this
}
CLIENTS: Final = 4
ROWS: Final = 20
"""The tasks of each transaction."""

EACH_SECOND: Final = 15
"""About how many transactions a client makes in a second."""

OF_TABLE: Final = """SELECT autovacuum_count, n_dead_tup, pg_table_size(relid) / 1e6, pg_indexes_size(relid) / 1e6
FROM pg_stat_user_tables WHERE relname = 'fang_tasks'"""


def autovacuum(bench: Bench) -> Table:
    """Measures tasks that come and go while many rows are kept: by default autovacuum waits for a fifth of them."""
    columns = (
        "settings",
        "tasks",
        "tasks a second",
        "p50",
        "p99",
        "worst",
        "autovacuums",
        "dead rows left",
        "table, indexes, MB",
        "first claim of a new pool, ms",
        "its drain, tasks a second",
    )
    table = Table("autovacuum", "From commit to run with kept rows in the table, ms", columns)
    kept, seconds = bench.tasks(10**6), max(10.0, 240 * bench.scale)
    traffic = {
        "clients": CLIENTS,
        "transactions": int(seconds * EACH_SECOND),
        "rows": ROWS,
        "held": None,
        "gap": 2 / EACH_SECOND,
    }
    with ExitStack() as stack:
        lanes = {name: stack.enter_context(Lane(bench, "fang_async")) for name in SETTINGS}
        for lane, settings in zip(lanes.values(), SETTINGS.values(), strict=True):
            bench.server.query(lane.url, FILL.format(kind="Noop", state="finished", rows=kept))
            if settings:
                bench.server.query(lane.url, f"ALTER TABLE fang.fang_tasks SET ({settings})")
            bench.server.query(lane.url, "VACUUM ANALYZE fang.fang_tasks")
        for seed, lane in enumerate(lanes.values()):
            lane.begin([traffic], seed=seed)
        seen = {name: lane.result() for name, lane in lanes.items()}
        for name, lane in lanes.items():
            (waits,) = seen[name].waits
            vacuums, dead, heap, indexes = bench.server.query(lane.url, OF_TABLE)[0]
            fresh = _new_pool(bench, lane)
            table.rows.append(
                (
                    name,
                    f"{len(waits):,}",
                    seen[name].rate,
                    *(percentile(waits, percent) for percent in (50, 99, 100)),
                    str(vacuums),
                    f"{dead:,}",
                    f"{heap:.0f}, {indexes:.0f}",
                    1000 * fresh["starting"],
                    bench.tasks(20_000) / fresh["seconds"],
                )
            )
            table.raw[name] = {"settings": SETTINGS[name], "waits": [percentile(waits, n) for n in range(101)]}
    table.notes += [
        f"{kept:,} rows are kept on each database, all at once; {CLIENTS} clients insert {ROWS} tasks in each "
        "transaction",
        *(f"{name}: {settings}" for name, settings in SETTINGS.items() if settings),
    ]
    return table


def _new_pool(bench: Bench, lane: Lane) -> Any:
    """Measures how a new pool in another process drains tasks inserted now; its first claims start at the front."""
    with Driver("fang_async", lane.url, setting={"workers": 10}) as driver:
        driver.ask("insert", tasks=bench.tasks(20_000))
        return driver.ask("drain", tasks=bench.tasks(20_000))
