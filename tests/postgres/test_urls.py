"""What a database URL says: the same to both modes and to the command, or it is refused by its name."""

import asyncio
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PostgresDsn
from sqlalchemy import make_url

from fang_async.connector import Connector as AsyncConnector
from fang_core import UsageError
from fang_postgres.connections.engine import engine_for
from fang_postgres.urls.address import Address, Host
from fang_postgres.urls.parameters import ENVIRONMENT, LIBPQ_ALONE
from fang_postgres.urls.passfile import from_passfile
from fang_postgres.urls.urls import address
from fang_threaded.connector import Connector

FANG: Final = str(Path(sys.executable).parent / "fang")


def read(url: str, **environ: str) -> Address:
    return address(url, environ)


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_any_scheme_of_postgres_is_read(scheme: str) -> None:
    url = f"{scheme}://me:secret@host/app"
    assert read(url) == Address(hosts=(Host("host", 5432),), user="me", password="secret", database="app")
    assert address(make_url(url), {}) == read(url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "nonsense", "postgresql://me@host:secret/app", "postgresql://me:p@secret@host/app"),
        *("postgresql://host/app?sslmode=secret", "postgresql://host/app?a%20secret%3D=1"),
        *("postgresql://host/app?target_session_attrs=secret", "postgresql://host/app?client_encoding=secret"),
        *("postgresql://host/app?connect_timeout=secret", "postgresql://host:99999/app"),
        *("postgresql://me:sec\udcffret@host/app", "postgresql://sec\udcffret/app", "postgresql://sec%00ret/app"),
        *("postgresql://me@sec..ret/app", f"postgresql://me@one,{64 * 's'}ec/app", "postgresql://me@/app?host=.sec"),
    ],
)
def test_what_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(url)
    assert "sec" not in str(refused.value).replace("seconds", "")
    assert "\n" not in str(refused.value)


def test_an_object_that_is_no_url_is_named_by_its_class() -> None:
    for other, name in ((None, "NoneType"), (PostgresDsn("postgresql://me:secret@h/app"), "pydantic.PostgresDsn")):
        with pytest.raises(UsageError, match=f"a database URL is a text like postgresql://.*, not {name}"):
            address(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} "])
def test_a_url_that_was_read_from_a_file_may_end_in_a_line_break(around: str) -> None:
    url = "postgresql://me@one,two/app"
    assert read(around.format(url)) == read(url)


def test_another_database_is_refused() -> None:
    with pytest.raises(UsageError, match="not mysql"):
        read("mysql://me:secret@host/app")


TEXT: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(user=TEXT, password=TEXT, database=TEXT)
def test_whatever_is_percent_encoded_is_read_back(user: str, password: str, database: str) -> None:
    parts = [quote(part, safe="") for part in (user, password, database)]
    found = read("postgresql://{}:{}@host/{}".format(*parts))
    assert (found.user, found.password, found.database) == (user, password, database)
    assert repr(found) == repr(replace(found, password=None))


@pytest.mark.parametrize("url", ["me:se/cr,et@host/app", "me:aB,3#x@host/app", "me:12,ab?x@host/app", "me:5%@host/app"])
def test_a_password_that_should_have_been_encoded_is_taken_as_it_stands(url: str) -> None:
    found = read(f"postgresql://{url}")
    assert (found.hosts[0].name, found.database) == ("host", "app")
    assert found.password == url.split(":")[1].split("@", maxsplit=1)[0]


TWO: Final = (Host("one", 5001), Host("two", 5002))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("me:a,b@one:5001,two:5002/app", TWO),
        ("one:5001,two:5002/app?sslmode=require", TWO),
        ("me@/app?host=one:5001&host=two:5002", TWO),
        ("me@/app?host=one,two&port=5001,5002", TWO),
        ("me@one,two/app?port=5001,5002", TWO),
        ("me@one,two:5002/app", (Host("one", 5432), TWO[1])),
        ("me@one,two?port=5001", (TWO[0], Host("two", 5001))),
        ("me@[::1]:5001,[::2]/app", (Host("::1", 5001), Host("::2", 5432))),
        ("me@[::1]:5001/app", (Host("::1", 5001),)),
        ("me@[::1]/app", (Host("::1", 5432),)),
        ("me@/app?host=::1", (Host("::1", 5432),)),
        ("me@one,two", (Host("one", 5432), Host("two", 5432))),
        ("me@/app?host=/run/pg&port=5001", (Host("/run/pg", 5001),)),
        ("me@%2Frun%2Fpg:5001/app", (Host("/run/pg", 5001),)),
        ("/app?host=/run/pg,one", (Host("/run/pg", 5432), Host("one", 5432))),
        ("me@/app", ()),
    ],
)
def test_hosts_are_read_in_every_form(url: str, hosts: tuple[Host, ...]) -> None:
    assert read(f"postgresql://{url}").hosts == hosts


@pytest.mark.parametrize(
    "url",
    [
        *("me:secret@one:x,two:5002/app", "me:secret@/app?host=one,two&port=1,2,3", "me@one:1,two:2/app?port=3"),
        *("me:secret@/app?host=one&port=x", "me@one:1/app?port=2", "me@one/app?host=two"),
    ],
)
def test_hosts_that_cannot_be_told_apart_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"written host:port,host:port|names its host twice") as refused:
        read(f"postgresql://{url}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("query", ["ssl=require", "sslmode=require", "ssl=require&sslmode=require"])
def test_either_spelling_of_the_ssl_mode(query: str) -> None:
    assert read(f"postgresql://host/app?{query}").others == {"sslmode": "require"}


@pytest.mark.parametrize("query", ["ssl=true", "ssl=require&sslmode=disable", "ssl=prefer&ssl=allow"])
def test_an_ssl_mode_that_cannot_be_translated(query: str) -> None:
    with pytest.raises(UsageError, match="sslmode= with one of disable, allow, prefer"):
        read(f"postgresql://me:secret@host/app?{query}")


# Refusing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("pgbouncer=true", "pgbouncer (make the queue with behind_pooler=True)"),
        ("prepared_statement_cache_size=0", "behind_pooler=True"),
        ("connection_limit=1", "connection_limit (give the queue max_pool_size=)"),
        ("schema=public", "schema= of the queue, and --schema of the command"),
        ("supa=base-pooler.x", "supa (leave it out"),
        ("search_path=app", "search_path ("),
        ("work_mem=1MB", "work_mem (leave it out; a setting of the server is written options=-c name=value)"),
        ("replication=database", "replication ("),
        ("database=app", "write dbname="),
        ("sslmode=require&pool_timeout=3&a=1", "a (leave it out; "),
        ("options=-c statement_timeout=5min", "options sets statement_timeout"),
        ("options=-clock_timeout=5min -c role=me", "options sets lock_timeout"),
        ("options=--default-transaction-isolation=serializable", "options sets default_transaction_isolation"),
        ("options=-c transaction_timeout=1", "options sets transaction_timeout"),
        ("options=-c DATESTYLE=german", "options sets datestyle"),
        ("client_encoding=latin1", "client_encoding must be UTF8"),
        ("target_session_attrs=master", "target_session_attrs must be one of any"),
        ("connect_timeout=0", "connect_timeout must be whole seconds, from 1 to 600"),
        ("connect_timeout=2.5", "connect_timeout must be"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system needs sslmode=verify-full"),
        ("application_name=a&application_name=b", "says application_name twice"),
        ("pgbouncer", "pgbouncer (make the queue with behind_pooler=True)"),
        ("sslmode=require&schema=", "schema= of the queue"),
        ("sslnegotiation=always", "sslnegotiation must be one of direct, postgres"),
        ("sslnegotiation=direct", "sslnegotiation=direct needs sslmode=require or verify-ca or verify-full"),
        ("sslnegotiation=direct&sslmode=prefer", "sslnegotiation=direct needs sslmode="),
        ("ssl_min_protocol_version=1.2", "ssl_min_protocol_version must be one of TLSv1, "),
        ("tcp_user_timeout=10s", "tcp_user_timeout must be a whole number"),
        ("keepalives=on", "keepalives must be a whole number"),
        ("application_name=%00", "NUL character (%00)"),
        ("options=-c%20role=me%00", "NUL character"),
        ("application_name=\udcff", "bytes that are not UTF-8"),
    ],
)
def test_what_cannot_be_honoured_is_named(query: str, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(f"postgresql://me:secret@host/app?{query}")
    assert named in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "query",
    [
        *("client_encoding=utf8", "client_encoding=UTF-8", "options=-c statement_timeout=60s", "options=endpoint=ep-x"),
        *("sslmode=", "application_name=a?b", "sslnegotiation=direct&sslmode=require"),
        *("options=-c%20DateStyle=iso%20-c%20role=me", "options=-c search_path=a\\ b", "channel_binding=prefer"),
    ],
)
def test_what_says_no_more_than_fang_does_is_taken(query: str) -> None:
    read(f"postgresql://host/app?{query}").refuse_beyond_asyncpg()


def test_what_libpq_alone_can_do_is_refused_for_asyncpg() -> None:
    found = read("postgresql://host/app?sslmode=require&channel_binding=require")
    with pytest.raises(UsageError, match="asyncpg cannot honour channel_binding: leave that out"):
        found.refuse_beyond_asyncpg()
    assert found.for_psycopg()["channel_binding"] == "require"


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="an older libpq does not know them all")
async def test_the_list_of_what_libpq_alone_can_do(server_url: str) -> None:
    """asyncpg sends them on as settings of the server, which knows one of them, but as its own end's."""
    assert {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} >= LIBPQ_ALONE
    for name in LIBPQ_ALONE - {"tcp_user_timeout"}:
        url = server_url + ("&" if "?" in server_url else "?") + f"{name}=1"
        with pytest.raises(asyncpg.PostgresError, match=f'unrecognized configuration parameter "{name}"'):
            await asyncpg.connect(url)


def test_the_environment_is_libpqs() -> None:
    """Each variable that libpq reads is read, or left to both drivers, or neither."""
    of_libpq = {
        option.keyword.decode(): option.envvar.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.envvar is not None
    }
    left_to_the_drivers = {"user", "password", "passfile", "dbname"}
    assert {name: key for name, key in of_libpq.items() if name not in left_to_the_drivers} == ENVIRONMENT


def test_the_password_file_names_hosts_as_libpq_does(tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.touch(0o600)
    file.write_text(
        "one:5432:*:me:of one\n\\:\\:1:5432:*:me:of ipv6\n/run/a:5432:*:me:of a socket\n"
        "localhost:5432:*:you:of the rest\n"
    )

    def found(url: str, **environ: str) -> Any:
        said = read(url)
        return from_passfile(said, said.hosts, {"PGPASSFILE": str(file), **environ}).get("password")

    assert found("postgresql://me@two,one/app") == "of one"
    assert found("postgresql://me@[::1]/app") == "of ipv6"
    assert found("postgresql://me@/app?host=/run/a") == "of a socket"
    assert found("postgresql:///app?host=/run/b", PGUSER="you") == "of the rest"
    assert found("postgresql://you@/app") == "of the rest"
    assert found("postgresql://me@three/app") is None
    assert found("postgresql://me@one/app", PGPASSWORD="given") is None
    assert found("postgresql://me:given@one/app") is None


def test_a_process_without_a_name_needs_a_user_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many containers run under an id that no user has."""
    nameless = read("postgresql://host/app")
    assert nameless.login({}) == pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setenv("USER", "other")
    assert nameless.login({}) != "other"
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    monkeypatch.delenv("PGUSER", raising=False)
    with pytest.raises(UsageError, match=r"^the database URL names no user, and that of this process has no name"):
        nameless.refuse_what_is_missing()
    assert nameless.login({"PGUSER": "me"}) == "me"
    read("postgresql://me@host/app").refuse_what_is_missing()


# Where the URL says nothing -------------------------------------------------------------------------------------------


def test_the_environment_speaks_where_the_url_is_silent() -> None:
    environ = {"PGHOST": "one,two", "PGPORT": "5001,5002", "PGOPTIONS": "-c role=me", "PGAPPNAME": "shop"}
    found = read("postgresql:///app", **environ, PGSSLMODE="require", PGCONNECT_TIMEOUT="7")
    assert (found.hosts, found.options, found.application_name, found.connect_timeout) == (TWO, "-c role=me", "shop", 7)
    assert found.others == {"sslmode": "require"}
    said = read("postgresql://three/app?options=-c role=you&application_name=x&sslmode=disable", **environ)
    assert (said.hosts, said.options, said.application_name) == ((Host("three", 5432),), "-c role=you", "x")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PGDATESTYLE": "German"}, "PGDATESTYLE"),
        ({"PGCLIENTENCODING": "LATIN1"}, "client_encoding"),
        ({"PGOPTIONS": "-c statement_timeout=0"}, "statement_timeout"),
        ({"PGSERVICE": "shop"}, "service 'shop' is in none of"),
    ],
)
def test_an_environment_that_cannot_be_honoured_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        address("postgresql://host/app", environ, read_text=_missing)


def _missing(path: Path) -> str:
    raise FileNotFoundError(path)


def test_a_service_is_read() -> None:
    text = "# ours\n[other]\nhost=no\n\n[shop]\nhost=one\nport=5001\nuser=me\npassword=100%#;x\noptions=-c role=me\n"
    found = address(
        "postgresql:///app?service=shop",
        {"PGHOST": "no", "PGPORT": "1", "PGSERVICEFILE": "/f"},
        read_text=lambda _: text,
    )
    assert found == Address(hosts=TWO[:1], user="me", password="100%#;x", database="app", options="-c role=me")
    with pytest.raises(UsageError, match="cannot be read"):
        address("postgresql:///?service=shop", {}, read_text=lambda _: "host=one")
    with pytest.raises(UsageError, match=r"does not know: ldap"):
        address("postgresql:///?service=shop", {}, read_text=lambda _: "[shop]\nldap=x")


# With a real server, in all four ways ---------------------------------------------------------------------------------


def by_threads(url: str, question: str) -> Any:
    with Connector(url, None, "fang", keeps_session=True)() as connection:
        return connection.execute(question.encode()).fetchone()


def behind_pooler(url: str, question: str) -> Any:
    with Connector(url, None, "fang", keeps_session=False)() as connection:
        return connection.execute(question.encode()).fetchone()


def by_asyncio(url: str, question: str) -> Any:
    async def ask() -> Any:
        connection = await AsyncConnector(url, None, "fang", keeps_session=True)()
        try:
            return tuple(await connection.fetchrow(question))
        finally:
            await connection.close()

    return asyncio.run(ask())


def by_command(url: str, question: str) -> Any:
    engine = engine_for(url)
    try:
        with engine.connect() as connection:
            return tuple(connection.exec_driver_sql(question).one())
    finally:
        engine.dispose()


WAYS: Final = [by_threads, behind_pooler, by_asyncio, by_command]


@pytest.fixture
def role(server_url: str) -> Iterator[str]:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE t_owner NOLOGIN")
        connection.execute("CREATE ROLE t_token LOGIN NOINHERIT IN ROLE t_owner")
        yield "t_token"
        connection.execute("DROP ROLE t_token, t_owner")


@pytest.mark.parametrize("ask", WAYS)
def test_what_a_url_says_holds(ask: Callable[[str, str], Any], server_url: str, role: str) -> None:
    url = make_url(server_url).set(username=role)
    query = {
        "options": "-c role=t_owner -c work_mem=123kB -c search_path=a,\\ b",
        "application_name": "shop",
        "connect_timeout": "9",
        "target_session_attrs": "read-write",
        "sslmode": "prefer",
        "client_encoding": "utf8",
    }
    settings = "current_setting('work_mem'), current_setting('search_path'), current_setting('application_name')"
    asked = f"SELECT session_user::text, current_user::text, {settings}, current_setting('client_encoding')"
    found = ask(url.update_query_dict(query).render_as_string(hide_password=False), asked)
    assert found == (role, "t_owner", "123kB", "a, b", "shop", "UTF8")


@pytest.mark.parametrize("ask", WAYS)
def test_what_the_environment_says_holds(
    ask: Callable[[str, str], Any], server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = make_url(server_url)
    at = address(server_url).hosts[0]
    file = tmp_path / "services"
    file.write_text(f"[shop]\nhost={at.name}\nport={at.port}\nuser={url.username}\ndbname={url.database}\n")
    for name, value in {"PGOPTIONS": "-c work_mem=123kB", "PGAPPNAME": "shop", "PGSERVICEFILE": str(file)}.items():
        monkeypatch.setenv(name, value)
    asked = "SELECT current_setting('work_mem'), current_setting('application_name'), current_database()::text"
    assert ask("postgresql://?service=shop", asked) == ("123kB", "shop", url.database)
    for name, value in {
        "PGHOST": at.name,
        "PGPORT": at.port,
        "PGUSER": url.username,
        "PGDATABASE": "template1",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert ask("postgresql://", asked) == ("123kB", "shop", "template1")
    assert ask("postgresql://?sslmode=prefer", asked) == ("123kB", "shop", "template1")
