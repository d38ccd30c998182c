"""What an error of the database means: by its SQLSTATE, or by libpq's words where connecting fails."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from fang_core.errors import (
    AccessRefused,
    BackendError,
    BackendUnavailable,
    NotConnected,
    ReadOnlyServer,
    RowsLocked,
    SchemaError,
    is_refusal,
)
from fang_postgres.connections.diagnosis import (
    TookTooLong,
    before_sending,
    code_of_connect_failure,
    diagnose,
    has_no_room,
)

AT = 'connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "words",
    [
        'FATAL:  password authentication failed for user "me"',
        'FATAL:  Peer authentication failed for user "me"',
        "fe_sendauth: no password supplied",
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "me", database "app", no encryption',
        'FATAL:  role "me" does not exist',
        'FATAL: database "app" does not exist',
        'FATAL:  role "me" is not permitted to log in',
        'FATAL:  permission denied for database "app"\nDETAIL:  User does not have CONNECT privilege.',
    ],
)
def test_a_refusal_is_told_by_its_words(words: str) -> None:
    refusal = diagnose(code_of_connect_failure(AT + words), AT + words, schema="fang")
    assert isinstance(refusal, AccessRefused)
    advice = "let pg_hba.conf accept" if "pg_hba" in words else "check the URL's user, password and database"
    assert f"; {advice}" in str(refusal) or words.startswith("FATAL:  permission denied")


@pytest.mark.parametrize(
    "words",
    [
        "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        "No such file or directory",
        "timeout expired",
        "FATAL:  the database system is starting up",
        'FATAL:  database "app" is not currently accepting connections',
        "server closed the connection unexpectedly",
    ],
)
def test_what_may_pass_counts_as_silence(words: str) -> None:
    silence = diagnose(code_of_connect_failure(AT + words), AT + words, schema="fang")
    assert isinstance(silence, BackendUnavailable)


@pytest.mark.parametrize("sqlstate", ["08P01", None])
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("unsupported startup parameter: options", "make the queue with behind_pooler=True"),
        ("unsupported startup parameter in options: lock_timeout", "make the queue with behind_pooler=True"),
        ("RDS Proxy currently doesn't support command-line options.", "make the queue with behind_pooler=True"),
        ("no such database: app", "check the URL's user, password and database"),
    ],
)
def test_what_a_pooler_refuses_is_told_by_its_words(sqlstate: str | None, words: str, advice: str) -> None:
    """Its code is that of any of its errors."""
    words = words if sqlstate else f"{AT}FATAL:  {words}"
    refusal = diagnose(sqlstate or code_of_connect_failure(words), words, schema="fang", severity="FATAL")
    assert isinstance(refusal, AccessRefused)
    assert advice in str(refusal)


@pytest.mark.parametrize("words", ["query_wait_timeout", "no more connections allowed", "server conn crashed?"])
def test_what_may_pass_with_a_pooler_counts_as_silence(words: str) -> None:
    assert type(diagnose("08P01", words, schema="fang", severity="FATAL")) is BackendUnavailable


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_what_was_given_up_for_others_was_not_written(sqlstate: str) -> None:
    """So an insert's outcome is known, and a completion is no refusal."""
    error = diagnose(sqlstate, "deadlock detected", schema="fang")
    assert type(error) is RowsLocked


@pytest.mark.parametrize(
    ("sqlstate", "words"),
    [
        ("57014", "canceling statement due to statement timeout; nothing was written: try again, or less at once"),
        ("53100", "try again when the server has room"),
        ("25006", "connect to a server that takes writes"),
        ("XX000", "try again; the server's log says more"),
        ("25P02", "nothing was written"),
        ("26000", "make the queue with behind_pooler=True"),
        ("42P05", "make the queue with behind_pooler=True"),
    ],
)
def test_a_failure_that_the_server_replies_with_has_written_nothing(sqlstate: str, words: str) -> None:
    """It is no refusal either: a completion that meets it is tried again as it is."""
    error = diagnose(sqlstate, "canceling statement due to statement timeout", schema="fang", severity="ERROR")
    assert type(error) is {"25006": ReadOnlyServer, "57014": TookTooLong}.get(sqlstate, BackendError)
    assert str(error).endswith(words) or words in str(error)
    assert not is_refusal(error)
    assert type(before_sending(error)) is NotConnected


@pytest.mark.parametrize(
    ("sqlstate", "severity"),
    [
        *((code, "ERROR") for code in ("08006", "08P01", "40003")),
        *((code, "FATAL") for code in ("57P01", "57P02", "57P03", "57P05", "25P03", "XX000")),
        ("57P01", None),
        ("58030", "PANIC"),
        (None, None),
    ],
)
def test_what_ends_the_session_leaves_it_open_what_was_written(sqlstate: str | None, severity: str | None) -> None:
    error = diagnose(sqlstate, "terminating connection", schema="fang", severity=severity)
    assert type(error) is BackendUnavailable
    assert type(before_sending(error)) is NotConnected


def test_a_server_that_starts_does_not_answer_yet_in_the_words_of_both_drivers() -> None:
    """asyncpg reports the code, psycopg only the message."""
    line = "the database system is not yet accepting connections"
    told = {str(diagnose(code, line, schema="fang", severity="FATAL")) for code in ("57P03", None)}
    assert told == {f"the database does not answer: {line}"}


@pytest.mark.parametrize(
    ("words", "has_room"),
    [
        ("FATAL:  sorry, too many clients already", False),
        ("FATAL:  remaining connection slots are reserved for non-replication superuser connections", False),
        ('FATAL:  too many connections for role "app"', False),
        ('FATAL:  too many connections for database "app"', False),
        ("FATAL:  no more connections allowed (max_client_conn)", False),
        ("FATAL:  the database system is starting up", True),
        ("Connection refused", True),
    ],
)
def test_a_server_without_room_for_a_connection_is_told_by_its_words(words: str, has_room: bool) -> None:
    """libpq hands on no code if a connect fails."""
    assert has_no_room(None, f"{AT}{words}") is not has_room
    assert has_no_room("53300", "in any language")
    code = code_of_connect_failure(f"{AT}{words}")
    assert (code == "53300") is not has_room
    error = before_sending(diagnose(code, words, schema="fang"))
    assert type(error) is NotConnected
    assert ("no room" in str(error)) is not has_room


@pytest.mark.parametrize("part", ["username", "database"])
def test_the_words_of_a_real_server(server_url: str, part: str) -> None:
    changed: dict[str, Any] = {part: "nothing_of_that_name"}
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(make_url(server_url).set(**changed).render_as_string(hide_password=False))
    assert code_of_connect_failure(str(caught.value)) is not None


@pytest.mark.parametrize(
    ("words", "schema", "says"),
    [
        ('relation "fang.fang_tasks" does not exist', "fang", "fang.fang_tasks is missing: run `fang migrate`"),
        (
            'relation "fang.fang_alembic_version" does not exist',
            "fang",
            "fang.fang_tasks is missing: run `fang migrate`",
        ),
        (
            'schema "fang_x" does not exist',
            "fang_x",
            "fang_x.fang_tasks is missing: run `fang migrate --schema fang_x`",
        ),
        (
            "la relation « fang_x.fang_stats » n'existe pas",
            "fang_x",
            "fang_x.fang_stats is missing: run `fang migrate --s",
        ),
        (
            "Relation »fang.fang_live« existiert nicht",
            "fang",
            "fang.fang_live is missing: run `fang migrate`, or restore",
        ),
    ],
)
def test_the_table_that_is_missing_is_named(words: str, schema: str, says: str) -> None:
    problem = diagnose("3F000" if words.startswith("schema") else "42P01", words, schema=schema)
    assert isinstance(problem, SchemaError)
    assert str(problem).startswith(f"table {says}")
