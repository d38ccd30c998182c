"""Turns a database error into a typed error that says what to do, by its SQLSTATE, which both drivers report.

Source of the codes: PostgreSQL manual, appendix A.
"""

import re
from functools import cache
from typing import Final

from fang_core.errors import (
    AccessRefused,
    BackendError,
    BackendUnavailable,
    NotConnected,
    NotificationsFull,
    ReadOnlyServer,
    RowsLocked,
    SchemaError,
    StatementRefused,
    TwinExists,
)
from fang_postgres.names import HEAD

# Cardinality, data, integrity, WITH CHECK OPTION, program limits, RAISE: the values are at fault.
_REFUSALS: Final = frozenset({"21", "22", "23", "44", "54", "P0"})
_PROGRAM_LIMIT: Final = "54000"
_UNTRANSLATABLE: Final = "22P05"
_VICTIM: Final = frozenset({"40001", "40P01"})
_REPEATABLE: Final = _VICTIM | {"55P03"}
_TABLE: Final = re.compile(r"\bfang_[a-z_]+(?!\.)\b")
_MISSING: Final = frozenset({"42P01", "3F000"})
# Connection exceptions; statement completion unknown; shut down, crashed, starting, database dropped, too long idle.
_LOST: Final = re.compile("08...|40003|57P0.")
_ENDS_SESSION: Final = frozenset({"FATAL", "PANIC"})
_MISMATCH: Final = frozenset({"42703", "42704", "42883", "42804"})
_INVALID_AUTHORIZATION: Final = "28000"
_PREPARED_ELSEWHERE: Final = frozenset({"26000", "42P05"})
_PROTOCOL_VIOLATION: Final = "08P01"  # a pooler's code for what it refuses
_QUERY_CANCELED: Final = "57014"
TOOK_TOO_LONG: Final = frozenset({"55P03", _QUERY_CANCELED})
"""The codes of a statement that has waited for a lock, or gone on, for longer than its timeouts allow."""
READ_ONLY: Final = "25006"
"""The SQLSTATE of a write on a standby: a connection to one is useless, a new connection may reach another server."""


class TookTooLong(BackendError):
    """The server ended the statement, most likely by its ``statement_timeout``; nothing was written."""


_TYPES: Final = {READ_ONLY: ReadOnlyServer, _QUERY_CANCELED: TookTooLong}
_LACKS_RESOURCES: Final = "53"
_TOO_MANY_CONNECTIONS: Final = "53300"
_NO_ROOM: Final = re.compile(
    r"too many (clients already|connections for)|remaining connection slots|no more connections allowed"
    r"|max client connections reached|max clients reached",  # PgBouncer; Supavisor
    re.IGNORECASE,
)
_REFUSES_SETTINGS: Final = re.compile("unsupported startup parameter|command-line options")  # PgBouncer; RDS Proxy
_REFUSED_BY_POOLER: Final = re.compile(f"no such (database|user)|{_REFUSES_SETTINGS.pattern}")  # with any code
# Messages of libpq, of Python's ssl and of asyncpg, before anything but the request to connect was sent.
_REFUSED_BY_TLS: Final = re.compile(
    r"certificate|private key|key values mismatch|SSL protocol version|protocols available|channel binding"
    r"|does not support SSL|rejected SSL|direct TLS|PEM lib"
    r"|alert (unknown|bad|unsupported|handshake|protocol|no cert|access|decrypt)"
)
_REFUSED_BY_HBA: Final = re.compile(r"pg_hba\.conf")
_REFUSED_SETTING: Final = re.compile(
    r"invalid value for parameter|unrecognized configuration parameter|permission denied to set|cannot be (changed|set)"
    r"|invalid command-line argument|invalid configuration parameter name|-.* requires a value"
)
_REFUSED: Final = re.compile(
    r"authentication failed|authentication method requirement|no password supplied|pg_hba\.conf"
    r"|FATAL:\s+((role|database) .* does not exist|role .* is not permitted to log in|permission denied for database)"
    rf"|FATAL:\s+({_REFUSED_SETTING.pattern})"
    rf"|{_REFUSED_BY_POOLER.pattern}|{_REFUSED_BY_TLS.pattern}"
)
_REFUSES_WHO_CONNECTS: Final = frozenset({"22", "42"})
"""Classes of errors with which the server ends a session that has just begun: it refuses a setting, or the right to
connect."""

_BEFORE_THE_REASON: Final = re.compile(r"^connection failed: .*? failed: (FATAL:\s+)?")  # psycopg; the address is known


def is_repeatable(sqlstate: str | None) -> bool:
    """Returns whether it is a deadlock, a serialization failure or a lock timeout: nothing was written, and a new try
    may succeed."""
    return sqlstate in _REPEATABLE


def is_victim(sqlstate: str | None) -> bool:
    """Returns whether a new try may succeed at once. After a lock timeout that is unlikely: the statement has waited
    for all of it already, and the caller should know."""
    return sqlstate in _VICTIM


def code_of_connect_failure(message: str) -> str | None:
    """Returns the SQLSTATE of a failed connect, which drivers do not report: its message tells a refusal from silence
    (None).

    Only English messages are understood: a server with another ``lc_messages`` counts as one that does not answer.
    """
    if _REFUSED.search(message):
        return _INVALID_AUTHORIZATION
    return _TOO_MANY_CONNECTIONS if _NO_ROOM.search(message) else None


def has_no_room(sqlstate: str | None, message: str) -> bool:
    """Returns whether a connect failed only because the server, the role or the database has no connection left."""
    return sqlstate == _TOO_MANY_CONNECTIONS or (
        sqlstate in {None, _PROTOCOL_VIOLATION} and bool(_NO_ROOM.search(message))
    )


def diagnose(sqlstate: str | None, message: str, *, schema: str, severity: str | None = None) -> BackendError:
    """Returns a typed error of one line. ``message`` is the server's primary message, which holds no values of ours.

    ``severity`` is the server's, not translated. An ERROR means that the statement failed as a whole; an error that
    ends the session may come after a commit was written.
    """
    line = message.strip().splitlines()[0] if message.strip() else "no message"
    match sqlstate:
        case None | "57P03":  # the second: it starts, recovers or stops, for which psycopg reports no code
            return BackendUnavailable(f"the database does not answer: {line}")
        case code if severity == "FATAL" and code[:2] in _REFUSES_WHO_CONNECTS:
            return _access_refused(line)
        case code if is_repeatable(code):
            return RowsLocked(
                f"other transactions used the same rows for too long ({code}); nothing was written, try again"
            )
        case "23505" if "fang_tasks_uniq" in line:
            return TwinExists("an equal unique task is waiting or running")
        case code if code == _PROGRAM_LIMIT and "NOTIFY" in line:  # in every language
            return NotificationsFull(
                "the server's NOTIFY queue is full, and nothing was written: end the oldest transaction of a session "
                "that listens, whose pid is in the server's log; pg_notification_queue_usage() shows how full it is"
            )
        case code if code[:2] in _REFUSALS:
            return _value_refused(code, line)
        case code if code[:2] == "28" or code == "3D000" or _REFUSED_BY_POOLER.search(line):
            return _access_refused(line)
        case "42501":
            return AccessRefused(f"the database refuses: {line}; grant the role its rights on schema {schema}")
        case code if code in _MISSING:
            return SchemaError(_what_is_missing(schema, line))
        case code if code in _MISMATCH:
            return SchemaError(f"schema {schema} does not fit this version ({line}): run `fang migrate`")
        case code if (severity in _ENDS_SESSION and code != _TOO_MANY_CONNECTIONS) or _LOST.fullmatch(code):
            return BackendUnavailable(f"the database ended the connection ({code}): {line}")
        case code:
            error = _TYPES.get(code, BackendError)
            return error(f"the database failed ({code}): {line}; nothing was written: {_what_to_do(code)}")


def _what_is_missing(schema: str, line: str) -> str:
    """Names the table that the server has not found; it says the name in every language."""
    migrates = "fang migrate" if schema == "fang" else f"fang migrate --schema {schema}"
    found = _TABLE.search(line)
    if found is None or found[0] not in _beside_tasks():  # such as the table of the version: there are none then
        return f"table {schema}.fang_tasks is missing: run `{migrates}`"
    return f"table {schema}.{found[0]} is missing: run `{migrates}`, or restore it if the others are at {HEAD}"


@cache
def _beside_tasks() -> frozenset[str]:
    from fang_postgres.schema import tables  # which takes time

    return frozenset(table.name for table in tables().metadata.tables.values()) - {"fang_tasks"}


def _value_refused(code: str, line: str) -> StatementRefused:
    character = _untranslatable(line) if code == _UNTRANSLATABLE else None
    if character is None:
        return StatementRefused(f"the database refused a value ({code}): {line}")
    why = f"the database's encoding does not have the character U+{ord(character):04X}: use one with ENCODING 'UTF8'"
    return StatementRefused(why, character=character)


def _untranslatable(line: str) -> str | None:
    """Returns the character that the server's encoding lacks; the message holds its bytes in every language."""
    found = re.search(r"(0x[0-9a-f]{2}\b ?)+", line)
    try:
        return bytes(int(byte, 16) for byte in found[0].split()).decode() if found else None
    except ValueError:
        return None


def _access_refused(line: str) -> AccessRefused:
    line = _BEFORE_THE_REASON.sub("", line)
    return AccessRefused(f"the database refuses the connection: {line}; {_what_to_mend(line)}")


def _what_to_mend(line: str) -> str:
    if _REFUSES_SETTINGS.search(line):
        return "it is behind a pooler: make the queue with behind_pooler=True, and a URL without options="
    if _REFUSED_BY_HBA.search(line):
        return "let pg_hba.conf accept this user, database and host, or check sslmode of the URL"
    if _REFUSED_BY_TLS.search(line):
        return "check sslmode, sslrootcert, sslcert and sslkey of the URL"
    if _REFUSED_SETTING.search(line):
        return "check options of the URL"
    if line.startswith("permission denied for database"):
        return "grant the role CONNECT on the database"
    return "check the URL's user, password and database"


def _what_to_do(code: str) -> str:
    if code in _PREPARED_ELSEWHERE:
        return (
            "behind a transaction pooler make the queue with behind_pooler=True, an Engine of yours with "
            'connect_args={"prepare_threshold": None}'
        )
    if code == _QUERY_CANCELED:
        return "try again, or less at once"
    if code == READ_ONLY:
        return "connect to a server that takes writes"
    if code == _TOO_MANY_CONNECTIONS:  # only a connect meets it
        return "it has no room for another connection; raise its limit, or use fewer"
    if code[:2] == _LACKS_RESOURCES:
        return "try again when the server has room"
    return "try again; the server's log says more"


def before_sending(error: BackendError) -> BackendError:
    """Returns the error as one that came before anything was sent: nothing can have been written."""
    nothing_written = {BackendUnavailable, BackendError, ReadOnlyServer, TookTooLong}
    return NotConnected(str(error)) if type(error) in nothing_written else error
