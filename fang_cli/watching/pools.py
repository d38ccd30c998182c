"""Defines ``fang pools``: the registered pools, and what they do now."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from fang_cli.options import DATABASE, JSON, options, queue_at
from fang_core.record import LiveRun, PoolInfo


@click.command()
@options(JSON, *DATABASE)
def pools(*, as_json: bool, schema: str | None, database_url: str | None) -> None:
    """Show the pools, how busy they are, and the runs that have been going on for longest.

    Each tells that once a second if it has changed, and every ten seconds otherwise. `fang status` shows which of them
    live.
    """
    from fang_cli.json_text import as_json as document

    with queue_at(database_url, schema) as queue:
        found = queue.pools()
    if as_json:
        click.echo(document([_as_object(pool) for pool in found]))
    else:
        _show(found)


def _as_object(pool: PoolInfo) -> dict[str, Any]:
    return {name: value for name, value in pool._asdict().items() if name != "runs"}


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
