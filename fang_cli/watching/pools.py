"""Defines ``fang pools``: the registered pools, and what they do now."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from fang_cli.options import DATABASE, JSON, options, queue_at
from fang_core.monitoring.figures import NotableRun
from fang_core.monitoring.notable import notable_runs
from fang_core.monitoring.problems import hung_runs
from fang_core.record import LiveRun, PoolInfo


@click.command()
@options(JSON, *DATABASE)
def pools(*, as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show the pools, how busy they are, and which runs hang or have taken longest.

    Each pool writes this once a second if it has changed, and every ten seconds otherwise. `fang status` shows which of
    them live.
    """
    from fang_cli.json_text import as_json as document

    with queue_at(database_url, schema) as queue:
        found = queue.pools()
    if as_json:
        click.echo(document([_as_object(pool) for pool in found]))
    else:
        _show(found)


def _as_object(pool: PoolInfo) -> dict[str, Any]:
    hung = [
        {"id": run.task_id, "kind": run.kind, "attempt": run.attempt, "since": run.since, "place": run.place}
        for run in _hung(pool)
    ]
    return {name: value for name, value in pool._asdict().items() if name != "runs"} | {"hung": hung}


def _show(found: Sequence[PoolInfo]) -> None:
    from fang_cli.tables import Number, print_table, stdout
    from fang_cli.tasks.showing import progress_in_words
    from fang_cli.texts import time_of
    from fang_core.words.spans import span

    console = stdout()
    print_table(
        console,
        "pools",
        ("id", "mode", "host", "pid", "task types", "busy", "workers", "waiting", "as of", "started"),
        [
            (
                pool.id,
                f"{pool.mode}, stopping" if pool.stopping else pool.mode,
                pool.host,
                str(pool.pid),
                ", ".join(pool.task_types),
                "" if pool.busy is None else str(pool.busy),
                Number(pool.workers, False),
                "" if pool.waiting is None else str(pool.waiting),
                time_of(pool.seen_at),
                time_of(pool.started_at),
            )
            for pool in found
        ],
    )
    print_table(
        console,
        "runs that hang",
        ("pool", "since", "kind", "attempt", "stands at", "id"),
        [
            (run.pool_id, time_of(run.since), run.kind, Number(run.attempt, False), run.place or "", run.task_id)
            for pool in found
            for run in _hung(pool)
        ],
    )
    print_table(
        console,
        "runs that go on for more than a second",
        ("pool", "for", "kind", "attempt", "progress", "id"),
        [
            (
                pool.id,
                span(run.seconds),
                run.kind,
                Number(run.attempt, False),
                "" if run.progress is None else progress_in_words(run.progress),
                run.id,
            )
            for pool, run in _longest_first(found)
        ],
    )


def _longest_first(found: Sequence[PoolInfo]) -> Iterator[tuple[PoolInfo, LiveRun]]:
    runs = [(pool, run) for pool in found for run in pool.live]
    yield from sorted(runs, key=lambda each: -each[1].seconds)


def _hung(pool: PoolInfo) -> list[NotableRun]:
    """Returns the runs of a pool that hang; the clock is of no account, as their ages are not shown."""
    return hung_runs(notable_runs([(pool.id, datetime.now(UTC), pool.runs)]))
