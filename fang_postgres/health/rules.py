"""Says what is wrong, and what mends it. Pure: each rule judges facts that it is given."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from fang_core.monitoring.checks import SHOWN, Check, Level, some, unknown
from fang_core.words.spans import span
from fang_core.words.texts import counted
from fang_postgres.grants import PRIVILEGES
from fang_postgres.health.facts import Clock, Holder, Pooler, Rights, Server, TaskTable
from fang_postgres.revisions import Revision, schema_problem

CLOCK_WARNING: Final = 1.0
CLOCK_ERROR: Final = 60.0
"""Seconds between the clocks of this host and of the database. What an application computes by its own clock, such as
``scheduled_at=``, is wrong by them."""

CONNECTIONS_WARNING: Final = 0.80
CONNECTIONS_ERROR: Final = 0.95
"""The parts of the connections that are taken."""

SHORT_TIMEOUT: Final = 5_000
"""Milliseconds of a ``statement_timeout`` that ends statements which are only slow."""

DEAD_ROWS: Final = 100_000
"""Dead rows from which on they are many, if they are more than twice the others."""

BLOATED_SIZE: Final = 256 * 2**20
BLOATED: Final = 5.0
"""From how many bytes on a table is bloated if it is so many times as large as its rows."""

ROW_OVERHEAD: Final = 40.0
"""Bytes of a row besides its values: its header, its pointer, and what alignment costs."""

LONG: Final = 600.0
VERY_LONG: Final = 86_400.0
"""Seconds for which a transaction is open."""

FEW_TRANSACTIONS: Final = 10_000
MANY_TRANSACTIONS: Final = 1_000_000
TOO_MANY_TRANSACTIONS: Final = 200_000_000
"""How many transactions VACUUM is held back by: few are harmless however long it lasts, many are not however short.
The largest is the default of ``autovacuum_freeze_max_age``."""


# The database and the way to it ---------------------------------------------------------------------------------------


def schema(name: str, found: Revision | None) -> Check:
    """Judges the revision of the tables."""
    problem = schema_problem(name, found)
    if problem is None:
        return Check("schema", Level.OK, f"the tables are at revision {found.number if found else ''}")
    text, _, remedy = problem.partition(": ")
    return Check("schema", Level.ERROR, text, remedy.removeprefix("run `").removesuffix("`"))


def server(found: Server) -> Check:
    """Judges whether the server takes writes."""
    if found.is_standby:
        return Check(
            "server",
            Level.ERROR,
            "this server is a standby, which accepts no writes",
            "give the URL of the primary, or all hosts with target_session_attrs=read-write",
        )
    return Check("server", Level.OK, "the server accepts writes")


def clock(found: Clock) -> Check:
    """Judges the difference of the clocks."""
    off = max(0.0, abs(found.ahead) - found.uncertainty)
    if off < CLOCK_WARNING:
        at_most = abs(found.ahead) + found.uncertainty
        text = f"the clocks of this host and the database differ by at most {at_most:.1f} s"
        return Check("clock", Level.OK, text)
    way = "behind" if found.ahead > 0 else "ahead of"
    level = Level.ERROR if off >= CLOCK_ERROR else Level.WARNING
    text = f"this host's clock is {off:.1f} s {way} the database's: times computed by applications here are off by that"
    return Check("clock", level, text, "synchronise the clocks of both hosts with NTP: timedatectl set-ntp true")


def pooler(found: Pooler) -> Check:
    """Judges whether each connection has a session of its own."""
    if found.own == found.other:
        return Check(
            "pooler",
            Level.WARNING,
            "this URL goes through a pooler in transaction mode: two connections took turns on one session",
            "make queues on it with behind_pooler=True, and have workers connect to the server directly",
        )
    if found.own != found.announced:
        return Check(
            "pooler", Level.OK, "there is a pooler or a proxy, but no two connections were seen to share a session"
        )
    return Check("pooler", Level.OK, "each connection has its own session")


def settings(role: str, found: Mapping[str, str]) -> Check:
    """Judges the settings with which sessions of the role begin."""
    wrong = {}
    isolation = found.get("default_transaction_isolation", "read committed")
    if isolation != "read committed":
        wrong["default_transaction_isolation"] = isolation
    if found.get("default_transaction_read_only") == "on":
        wrong["default_transaction_read_only"] = "on"
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        if 0 < int(found.get(name, 0)) < SHORT_TIMEOUT:
            wrong[name] = f"{found[name]}ms"
    if not wrong:
        return Check("settings", Level.OK, "the role's sessions start with suitable settings")
    told = ", ".join(f"{name} = {value}" for name, value in wrong.items())
    return Check(
        "settings",
        Level.WARNING,
        f"sessions start with {told}: Fang's own connections override that, those of your Engine do not",
        "; ".join(f"ALTER ROLE {quoted(role)} SET {name} = {_SUITABLE[name]}" for name in wrong),
    )


_SUITABLE: Final = {
    "default_transaction_isolation": "'read committed'",
    "default_transaction_read_only": "off",
    "statement_timeout": "'60s'",
    "idle_in_transaction_session_timeout": "'60s'",
}


def connections(found: Server, given: Mapping[str, str]) -> Check:
    """Judges how many connections are left."""
    most = int(given["max_connections"]) - int(given.get("superuser_reserved_connections", 0))
    share = found.connections / max(1, most)
    text = f"{found.connections} of {most} connections are in use"
    if share < CONNECTIONS_WARNING:
        return Check("connections", Level.OK, text)
    level = Level.ERROR if share >= CONNECTIONS_ERROR else Level.WARNING
    return Check("connections", level, text, "lower the queues' max_pool_size, use a pooler, or raise max_connections")


def privileges(role: str, schema_name: str, found: Rights) -> Check:
    """Judges what the role may do."""
    if found.policed:
        tables = some(found.policed)
        text = (
            f"row-level security decides which rows of {tables} role {role} sees and writes: it may silently hide tasks"
        )
        first = f'"{schema_name}".{found.policed[0]}'
        return Check("privileges", Level.WARNING, text, f"ALTER TABLE {first} DISABLE ROW LEVEL SECURITY")
    lacks = {purpose: _lacks(rights, found) for purpose, rights in PRIVILEGES.items() if purpose != "scaling"}
    able = [purpose for purpose, missing in lacks.items() if not missing]
    where = "" if schema_name == "fang" else f" --schema {schema_name}"
    remedy = f"fang migrate --grants {role} --for worker{where}"
    if "worker" in able:
        return Check("privileges", Level.OK, f"role {role} can run pools; it has the rights for {', '.join(able)}")
    missing = "; ".join(lacks["worker"][:SHOWN]) + (" ..." if len(lacks["worker"]) > SHOWN else "")
    if able:
        text = f"role {role} has the rights for {', '.join(able)}, but not for a worker: it lacks {missing}"
        return Check("privileges", Level.OK, text, f"to let it run pools: {remedy}")
    return Check("privileges", Level.ERROR, f"role {role} cannot use the tables: it lacks {missing}", remedy)


def _lacks(rights: Mapping[str, Sequence[str]], found: Rights) -> list[str]:
    none: frozenset[str] = frozenset()
    return [
        f"{', '.join(missing)} on {table}"
        for table, privileges_ in rights.items()
        if (missing := [each for each in privileges_ if each in found.missing.get(table, none)])
    ]


# The task table -------------------------------------------------------------------------------------------------------


def vacuum(schema_name: str, given: Mapping[str, str], table: TaskTable) -> Check:
    """Judges whether dead rows are removed."""
    name = f"{schema_name}.fang_tasks"
    if given.get("autovacuum") == "off":
        remedy = "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()"
        return Check("vacuum", Level.ERROR, "autovacuum is off: tables and indexes grow without limit", remedy)
    if "autovacuum_enabled=false" in table.options or "autovacuum_enabled=off" in table.options:
        return Check(
            "vacuum",
            Level.ERROR,
            f"autovacuum is off for {name}, which grows without limit",
            f"ALTER TABLE {name} RESET (autovacuum_enabled)",
        )
    if given.get("track_counts") == "off":
        remedy = "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()"
        return Check("vacuum", Level.ERROR, "track_counts is off, so autovacuum does nothing", remedy)
    text = f"{table.dead:,} dead rows, {table.live:,} live ones; {_vacuumed(table.vacuumed_at)}"
    if table.dead >= DEAD_ROWS and table.dead > 2 * table.live:
        return Check("vacuum", Level.WARNING, text, f"VACUUM {name}, unless something holds it back: see horizon")
    return Check("vacuum", Level.OK, text)


def bloat(schema_name: str, table: TaskTable) -> Check:
    """Judges how much of the table is empty."""
    size = f"{table.size / 2**20:,.0f} MiB"
    if table.size < BLOATED_SIZE:
        return Check("bloat", Level.OK, f"the task table takes up {size}")
    if table.width is None or table.rows < 0:
        return unknown("bloat", f"the task table takes up {size}, and this role sees no statistics of it")
    filled = max(table.rows, table.live, 1) * (table.width + ROW_OVERHEAD)
    if table.size < BLOATED * filled:
        return Check("bloat", Level.OK, f"the task table takes up {size}, with {filled / 2**20:,.0f} MiB of rows")
    return Check(
        "bloat",
        Level.WARNING,
        f"the task table takes up {size} for {filled / 2**20:,.0f} MiB of rows; new rows will reuse the space",
        f"run pg_repack; or stop the pools and run VACUUM FULL {schema_name}.fang_tasks",
    )


def indexes(schema_name: str, broken: Sequence[str]) -> Check:
    """Judges whether the server uses all indexes."""
    if not broken:
        return Check("indexes", Level.OK, "all indexes are valid")
    remedy = "; ".join(f"REINDEX INDEX CONCURRENTLY {schema_name}.{name}" for name in broken)
    return Check("indexes", Level.ERROR, f"invalid, and so not used: {', '.join(broken)}", remedy)


def horizon(found: Server, holders: Sequence[Holder]) -> Check:
    """Judges what holds back VACUUM, so that dead rows stay: the one that does so most."""
    most = max((each for each in holders if each.transactions is not None), key=_age, default=None)
    blind = "" if found.sees_sessions else "; this role cannot see since when (grant it pg_read_all_stats)"
    if most is None:
        return Check("horizon", Level.OK, "nothing holds back VACUUM")
    count, seconds = most.transactions or 0, most.seconds or 0.0
    text = f"{_holder(most)} holds back VACUUM by {counted(count, 'transaction')}"
    if count < FEW_TRANSACTIONS or (count < MANY_TRANSACTIONS and seconds < LONG):
        return Check("horizon", Level.OK, text + (blind if most.seconds is None and most.kind == "session" else ""))
    is_error = count >= TOO_MANY_TRANSACTIONS or seconds >= VERY_LONG
    return Check("horizon", Level.ERROR if is_error else Level.WARNING, text, _end_of(most))


def transactions(found: Server, holders: Sequence[Holder]) -> Check:
    """Judges transactions that are open for long."""
    timed = [each for each in holders if each.seconds is not None and each.kind != "slot"]
    long = sorted((each for each in timed if (each.seconds or 0) >= LONG), key=lambda each: -(each.seconds or 0))
    if not long:
        blind = (
            ""
            if found.sees_sessions
            else " among those that this role can see (to see all, grant it pg_read_all_stats)"
        )
        return Check("transactions", Level.OK, f"no transaction has been open for {span(LONG)}{blind}")
    level = Level.ERROR if (long[0].seconds or 0) >= VERY_LONG else Level.WARNING
    return Check("transactions", level, some([_holder(each) for each in long]), _end_of(long[0]))


def _age(holder: Holder) -> tuple[int, float]:
    return holder.transactions or 0, holder.seconds or 0.0


def _holder(holder: Holder) -> str:
    since = "" if holder.seconds is None else f", open for {span(holder.seconds)}"
    if holder.kind == "slot":
        return f"the {holder.state} replication slot {holder.name}"
    if holder.kind == "prepared":
        return f"the prepared transaction {holder.name!r} of {holder.user}{since}"
    who = f"{holder.user}, {holder.application}" if holder.application else holder.user
    state = "" if holder.state in {None, "active"} else f", {holder.state}"
    return f"session {holder.name} ({who}{state}{since})"


def _end_of(holder: Holder) -> str:
    if holder.kind == "slot":
        return f"if it is no longer needed: SELECT pg_drop_replication_slot('{_literal(holder.name)}')"
    if holder.kind == "prepared":
        return f"ROLLBACK PREPARED '{_literal(holder.name)}', or COMMIT PREPARED"
    return f"SELECT pg_terminate_backend({holder.name}); and give its role an idle_in_transaction_session_timeout"


# Words ----------------------------------------------------------------------------------------------------------------


def _vacuumed(at: datetime | None) -> str:
    return "never vacuumed" if at is None else f"last vacuumed at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _literal(name: str) -> str:
    return name.replace("'", "''")


def quoted(name: str) -> str:
    """Returns the name of a role as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
