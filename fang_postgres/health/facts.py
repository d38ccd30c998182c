"""Defines the facts that ``fang doctor`` judges, and makes the operations that read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fang_postgres.grants import PRIVILEGES
from fang_postgres.schema import tables
from fang_postgres.sql import health as sql
from fang_postgres.statement import Operation, Rows


class Server(NamedTuple):
    """The server, as the role sees it.

    Attributes:
        now: its clock.
        is_standby: whether it takes no writes.
        connections: how many there are, to all databases.
        sees_sessions: whether the role sees what the sessions of other roles do.
    """

    now: datetime
    role: str
    is_standby: bool
    connections: int
    sees_sessions: bool


class Clock(NamedTuple):
    """The database's clock less that of this host, in seconds; the truth is within ``uncertainty`` of it."""

    ahead: float
    uncertainty: float


class Pooler(NamedTuple):
    """Process ids of backends, by which a pooler between shows.

    Attributes:
        announced: the one that a connection was told when it began.
        own: the one that runs the statements of that connection.
        other: the one that runs those of a second connection, opened while the first is idle.
    """

    announced: int
    own: int
    other: int


class Holder(NamedTuple):
    """Describes a session, transaction or slot that may hold back VACUUM.

    Attributes:
        kind: a "session", a "prepared" transaction or a "slot" of replication.
        name: the process id, or its name.
        state: of a session or a slot; None if it is not shown to the role.
        seconds: how long its transaction has been open; None if it is not shown, and for slots.
        transactions: how many transactions have begun since the oldest one that it may still see; None if none.
    """

    kind: str
    name: str
    user: str
    application: str
    state: str | None
    seconds: float | None
    transactions: int | None


class TaskTable(NamedTuple):
    """The task table.

    Attributes:
        options: its storage parameters, as in ``pg_class``.
        size: bytes, without indexes and TOAST.
        rows: as of the last VACUUM or ANALYZE; negative if there was none.
        live, dead: rows by the server's statistics.
        vacuumed_at: when that was done last.
        width: the average bytes of a row's values; None if they are unknown, or not shown to the role.
    """

    options: str
    size: int
    rows: float
    live: int
    dead: int
    vacuumed_at: datetime | None
    width: float | None


@dataclass(frozen=True, slots=True)
class Rights:
    """The privileges that the role has not: by table, those of ``grants.PRIVILEGES`` that are missing.

    Attributes:
        policed: the tables of which policies decide which rows the role sees and writes.
    """

    missing: Mapping[str, frozenset[str]]
    policed: Sequence[str] = ()


class HealthFacts:
    """Makes the operations that read facts on the tables under one schema name."""

    def __init__(self, schema: str) -> None:
        self._tables = tables(schema)

    def server(self) -> Operation[Server]:
        """Returns what the server is."""
        return Operation(sql.server(), {}, lambda rows: Server(*rows[0]))

    def settings(self) -> Operation[Mapping[str, str]]:
        """Returns the settings of ``sql.health.SETTINGS`` that the server has, as texts."""
        return Operation(sql.settings(), {}, lambda rows: {row[0]: row[1] for row in rows})

    def rights(self) -> Operation[Rights]:
        """Returns what the role may not do."""
        wanted = sorted(
            {
                (table, privilege)
                for rights in PRIVILEGES.values()
                for table, privileges in rights.items()
                for privilege in privileges
            }
        )
        params = {"p_tables": [table for table, _ in wanted], "p_privileges": [privilege for _, privilege in wanted]}

        def decode(rows: Rows) -> Rights:
            missing: dict[str, set[str]] = {}
            for table, privilege, is_held, _ in rows:
                if not is_held:
                    missing.setdefault(table, set()).add(privilege)
            policed = sorted({table for table, _, _, is_policed in rows if is_policed})
            return Rights({table: frozenset(privileges) for table, privileges in missing.items()}, policed)

        return Operation(sql.privileges(self._tables), params, decode)

    def holders(self) -> Operation[Sequence[Holder]]:
        """Returns what may hold back VACUUM."""
        return Operation(sql.holders(), {}, lambda rows: [Holder(*row) for row in rows])

    def table(self) -> Operation[TaskTable | None]:
        """Returns the task table; None if there is none."""
        return Operation(sql.table(self._tables), {}, lambda rows: TaskTable(*rows[0]) if rows else None)

    def broken_indexes(self) -> Operation[Sequence[str]]:
        """Returns the names of indexes that the server does not use."""
        return Operation(sql.broken_indexes(self._tables), {}, lambda rows: [row[0] for row in rows])
