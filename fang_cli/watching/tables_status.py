"""Reads the data of ``fang status`` on Postgres, in statements that are each bounded in rows and in time."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from fang_cli.watching.reading import reader_of_tables
from fang_cli.watching.status import Status
from fang_core.monitoring.life import Life
from fang_core.monitoring.problems import told_ago
from fang_core.monitoring.reading import checked_range
from fang_core.monitoring.unserved import unknown_kinds, unserved_schedules, unserved_types
from fang_core.pool.telling.glance import EVERY, Glance
from fang_postgres.monitoring.reading import read_history
from fang_postgres.reports.reports import Reports

_COUNTED: Final = timedelta(hours=1)
"""How far back it tells what pools have counted."""


def read_status_of_tables(url: str, schema: str) -> Status:
    """Reads the status. Takes as long as the statements, and up to 2.5 s more if some pool may be dead.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    reports = Reports(schema)
    with reader_of_tables(url, schema, reports) as reader:
        glance = Glance()
        reader.look(reports, glance)
        running = reader.ask(reports.running())
        counts = reader.run_script(reports.tasks(running))
        retried = reader.run_script(reports.retries(counts))
        oldest = reader.ask(reports.oldest_due()) or []
        failures = reader.ask(reports.last_failures()) or []
        notable = reader.ask(reports.notable_runs()) or []
        types = reader.ask(reports.types()) or []
        paused_schedules = reader.ask(reports.paused_schedules()) or []
        stats = reader.run_whole(read_history(reports, checked_range(_COUNTED, None, None)))
        while not glance.is_over:
            time.sleep(EVERY)
            if not reader.look(reports, glance):
                break
        pools = reader.ask(reports.pools()) or []
        now = datetime.now(UTC) if stats is None else stats.until
        lives = {pool.id: glance.life(pool.id, told_ago(pool, now)) for pool in pools}
        alive = [pool for pool in pools if lives[pool.id] is Life.ALIVE]
        schedules = reader.ask(reports.unserved_schedules([pool.id for pool in alive])) or []
        may_be_hidden = reader.ask(reports.hides_rows()) or False
    return Status(
        counts=counts,
        oldest_due=oldest,
        last_failures=failures,
        retried=retried,
        running=running or (),
        notable=notable,
        pools=pools,
        lives=lives,
        stats=stats,
        types=types,
        paused_schedules=paused_schedules,
        unserved_types=unserved_types(counts, alive),
        unknown_kinds=unknown_kinds(counts, alive),
        unserved_schedules=unserved_schedules(schedules, alive, now),
        unread=reader.unread,
        may_be_hidden=may_be_hidden,
    )
