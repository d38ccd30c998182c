"""Says which sessions a migration waits for: it has no timeout, and whatever comes after it waits as well."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from fang_core.logs import SafeLogger
from fang_core.words.spans import span
from fang_core.words.texts import cut, printable

logger = SafeLogger("fang_postgres")

TOLD_AFTER = 5.0
"""Seconds that a migration has gone on before its waits are looked for, and between two looks."""

_MOST_TOLD: Final = 5

# The function behind pg_stat_activity, which needs no rights on that view. It hides what the role may not see.
_BLOCKERS: Final = text("""
SELECT DISTINCT blocker.pid, session.application_name, CAST(pg_get_userbyid(session.usesysid) AS text), session.state,
    CAST(extract(epoch FROM clock_timestamp() - session.xact_start) AS double precision) AS age
FROM unnest(pg_blocking_pids(:pid)) AS blocker (pid)
LEFT JOIN pg_stat_get_activity(NULL) AS session ON session.pid = blocker.pid
ORDER BY age DESC NULLS LAST""")


class Blocker(NamedTuple):
    """A session that a migration waits for; ``None`` stands for what the role may not see."""

    pid: int
    application_name: str | None
    user: str | None
    state: str | None
    age: float | None

    def __str__(self) -> str:
        """Names the session for people, with what its transaction does and for how long it has been open."""
        if self.pid == 0:
            return "a prepared transaction (see pg_prepared_xacts)"
        name = f"'{printable(cut(self.application_name, 64))}' " if self.application_name else ""
        whose = f"{name}of {self.user}" if self.user else ""
        doing = f"{self.state} for {span(self.age)}" if self.state and self.age is not None else ""
        details = ", ".join(part for part in (whose, doing) if part)
        return f"pid {self.pid} ({details})" if details else f"pid {self.pid}"


@contextmanager
def told(engine: Engine, pid: int) -> Iterator[None]:
    """Logs a warning when the session ``pid`` waits for other sessions, and again when these change.

    It looks from a thread, over a connection of its own, which the engine must be able to make; if it cannot, it tries
    again later and says nothing.
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(engine, pid, over), name="fang-lock-waits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)  # it may be in a connect that takes long, for which no caller waits


def _watch(engine: Engine, pid: int, over: threading.Event) -> None:
    last: set[int] = set()
    while not over.wait(TOLD_AFTER):
        try:
            with engine.connect() as connection:
                blockers = [Blocker(*row) for row in connection.execute(_BLOCKERS, {"pid": pid})]
        except SQLAlchemyError:
            continue
        found = {blocker.pid for blocker in blockers}
        if found - last:
            logger.warning("%s", _warning(blockers))
        last = found


def _warning(blockers: Sequence[Blocker]) -> str:
    names = ", ".join(str(blocker) for blocker in blockers[:_MOST_TOLD])
    more = f" and {len(blockers) - _MOST_TOLD} more" if len(blockers) > _MOST_TOLD else ""
    ends = f"; SELECT pg_terminate_backend({blockers[0].pid}) ends the first" if blockers[0].pid else ""
    return f"the migration waits for a lock, and whoever comes after it waits too; before it: {names}{more}{ends}"
