"""What ``fang status`` reads, in statements that are bounded each, in what they read and in time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from fang_core.errors import BackendError, SchemaError
from fang_core.glance import EVERY, Glance, Life
from fang_postgres.connecting import SET_FOR_TRANSACTION
from fang_postgres.engine import engine_for
from fang_postgres.reports import (
    LastFailure,
    OldestDue,
    RegisteredPool,
    Reports,
    RetriedKind,
    RunningKind,
    TaskCount,
    UnknownKind,
    UnservedType,
    unknown_kinds,
    unserved_types,
)
from fang_postgres.revisions import schema_problem
from fang_postgres.sql.reports import SETTINGS
from fang_postgres.statement import Conversation, Operation
from fang_threaded.runner import Runner, SessionRunner, sqlstate_of

T = TypeVar("T")

_QUERY_CANCELED: Final = "57014"
_PINNED: Final = "".join(f"set_config('{name}', '{value}', true), " for name, value in SETTINGS.items())


@dataclass(slots=True)
class Patience:
    """How long to wait for a statement: of a database that is cold, locked or overloaded a part is read all the same.

    After each that takes too long it is half as long as before, down to 0.25 s, so that all of them together take 5 s.
    """

    milliseconds: int = 2_000

    def used_up(self) -> None:
        """A statement took too long."""
        self.milliseconds = max(250, self.milliseconds // 2)


@dataclass(frozen=True, slots=True)
class Status:
    """What the command shows.

    Attributes:
        lives: what was seen of each pool.
        unserved_types, unknown_kinds: with regard to the pools that are alive.
        unread: the names of statements that took too long: what they would have told is missing.
    """

    counts: Sequence[TaskCount]
    oldest_due: Sequence[OldestDue]
    last_failures: Sequence[LastFailure]
    retried: Sequence[RetriedKind]
    running: Sequence[RunningKind]
    pools: Sequence[RegisteredPool]
    lives: Mapping[UUID, Life]
    unserved_types: Sequence[UnservedType]
    unknown_kinds: Sequence[UnknownKind]
    unread: Sequence[str]


def read_status(url: str, schema: str) -> Status:
    """Reads it, which takes as long as the statements; and up to 2.5 s if it is not clear at once that all pools live.

    Raises ``SchemaError``, ``AccessRefused`` or ``BackendUnavailable``.
    """
    reports = Reports(schema)
    patience = Patience()
    with _runner(url, schema, patience) as runner:
        problem = schema_problem(schema, runner.run(reports.version()))
        if problem is not None:
            raise SchemaError(problem)
        reader = _Reader(runner, patience)
        glance = Glance()
        reader.look(reports, glance)
        running = reader.ask(reports.running())
        counts = reader.converse(reports.tasks(running))
        retried = reader.converse(reports.retries(counts))
        oldest = reader.ask(reports.oldest_due()) or []
        failures = reader.ask(reports.last_failures()) or []
        while not glance.is_over:
            time.sleep(EVERY)
            if not reader.look(reports, glance):
                break
        pools = reader.ask(reports.pools()) or []
    lives = {pool.id: glance.life(pool.id) for pool in pools}
    alive = [pool for pool in pools if lives[pool.id] is Life.ALIVE]
    return Status(
        counts=counts,
        oldest_due=oldest,
        last_failures=failures,
        retried=retried,
        running=running or (),
        pools=pools,
        lives=lives,
        unserved_types=unserved_types(counts, alive),
        unknown_kinds=unknown_kinds(counts, alive),
        unread=reader.unread,
    )


class _Reader:
    """Asks one statement after the other; one that takes too long is left out."""

    def __init__(self, runner: Runner, patience: Patience) -> None:
        self._runner = runner
        self._patience = patience
        self.unread: list[str] = []
        """The names of those that took too long."""

    def ask(self, operation: Operation[T]) -> T | None:
        """What it returns; None if it took too long."""
        try:
            return self._runner.run(operation)
        except BackendError as error:
            cause = error.__cause__
            if not isinstance(cause, DBAPIError) or sqlstate_of(cause) != _QUERY_CANCELED:
                raise
        self._patience.used_up()
        self.unread.append(operation.statement.name)
        return None

    def converse(self, conversation: Conversation[T]) -> T:
        """What it returns, if it is sent None for each statement that took too long."""
        answer: Any = None
        while True:
            try:
                answer = self.ask(conversation.send(answer))
            except StopIteration as end:
                result: T = end.value
                return result

    def look(self, reports: Reports, glance: Glance) -> bool:
        """Looks at the pools once more; whether that could be done."""
        look = self.ask(reports.look())
        if look is not None:
            glance.look(look, time.monotonic())
        return look is not None


@contextmanager
def _runner(url: str, schema: str, patience: Patience) -> Iterator[Runner]:
    engine = engine_for(url, application_name="fang status", pool_size=1)

    # For each transaction: a pooler would refuse settings at the start, and give its other clients those of a session.
    @event.listens_for(engine, "begin")
    def pin(connection: Any) -> None:
        connection.exec_driver_sql(SET_FOR_TRANSACTION)
        timeout = f"set_config('statement_timeout', '{patience.milliseconds}', true)"
        connection.exec_driver_sql(f"SELECT {_PINNED}{timeout}")

    try:
        yield SessionRunner(engine, schema, is_own=True)
    finally:
        engine.dispose()
