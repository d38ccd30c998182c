"""Holds what a database URL says, and turns it into the arguments of each driver."""

import getpass
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fang_core.errors import AccessRefused, UsageError
from fang_postgres.connections.connecting import CONNECT_TIMEOUT, SETTINGS, TCP
from fang_postgres.urls.parameters import AS_ASYNCPG_DOES, FILES, LIBPQ_ALONE, named


class Host(NamedTuple):
    """A server: a name, an address or the directory of a Unix socket."""

    name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL says, for both drivers.

    Attributes:
        hosts: the servers in the order in which they are tried; empty for the driver's default.
        port: the port of the default host; None for 5432.
        user, password, database: None if the driver finds them, in ``PGUSER`` and so on.
        connect_timeout: seconds in which a host has to answer; None if Fang decides.
        options: settings of the session, as libpq's ``options``.
        others: parameters that the drivers read themselves, under libpq's names.
    """

    hosts: tuple[Host, ...] = ()
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    application_name: str | None = None
    connect_timeout: int | None = None
    options: str = ""
    others: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def connects_within(self) -> float:
        """Returns the seconds within which one of its servers has answered a connect, if any does."""
        return self.host_connects_within * max(1, len(self.hosts))

    @property
    def host_connects_within(self) -> float:
        """Returns the seconds that each of its servers has to answer a connect."""
        return self.connect_timeout or CONNECT_TIMEOUT

    def for_psycopg(self, *, application_name: str = "fang", settings: str = "") -> dict[str, Any]:
        """Returns the arguments of ``psycopg.connect``. ``settings``, written as ``options``, follow the URL's."""
        arguments: dict[str, Any] = {
            **TCP,
            **self.others,
            "application_name": self.application_name or application_name,
            "client_encoding": SETTINGS["client_encoding"],
            "connect_timeout": self.host_connects_within,
            "options": " ".join(filter(None, (self.options, settings))),
        }
        given: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "port": self.port,
        }
        if self.hosts:
            given["host"] = ",".join(host.name for host in self.hosts)
            given["port"] = ",".join(str(host.port) for host in self.hosts)
        return arguments | {name: value for name, value in given.items() if value is not None}

    def for_asyncpg(self, hosts: Sequence[Host], settings: Mapping[str, str]) -> dict[str, Any]:
        """Returns the arguments of ``asyncpg.connect`` for some of its hosts; ``hosts`` is empty if it has none."""
        others = dict(self.others)
        system_roots = others.get("sslrootcert") == "system"
        if system_roots:
            del others["sslrootcert"], others["sslmode"]
        own = {"application_name": self.application_name or "fang"}
        arguments: dict[str, Any] = {
            "dsn": f"postgresql://?{urlencode(others)}" if others else None,
            "host": [host.name for host in hosts] or None,
            "port": [host.port for host in hosts] or self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": True if system_roots else None,
            "server_settings": ({"options": self.options} if self.options else {}) | dict(settings) | own,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def login(self, environ: Mapping[str, str] | None = None) -> str:
        """Returns the user who logs in: the URL's, that of ``PGUSER``, or the process's, as libpq finds it.

        Raises ``UsageError`` if the process's user has no name, as in a container with a made-up user id.
        """
        named_by = os.environ if environ is None else environ
        user = self.user or named_by.get("PGUSER") or _user_of_process()
        if user is None:
            raise UsageError("the database URL names no user, and that of this process has no name: write user@host")
        return user

    def refuse_what_is_missing(self, exists: Callable[[str], bool] = os.path.exists) -> None:
        """Raises ``AccessRefused`` if a file is missing: libpq would connect without it, if the server allows that.

        Raises ``UsageError`` if no user is named. Call it before each connect: the files of a container's secrets come
        and go.
        """
        self.login()
        for name in sorted(FILES & self.others.keys()):
            path = self.others[name]
            if path != "system" and not exists(path):
                raise AccessRefused(f"{name} of the database URL names a file that does not exist: {path}")

    def refuse_beyond_asyncpg(self) -> "Address":
        """Returns the address without parameters that ask for asyncpg's only behaviour.

        Raises ``UsageError`` if asyncpg cannot do what the URL asks.
        """
        others = {
            name: value
            for name, value in self.others.items()
            if name not in AS_ASYNCPG_DOES or value not in AS_ASYNCPG_DOES[name]
        }
        unknown = sorted(LIBPQ_ALONE & others.keys())
        if others.get("sslrootcert") == "system":
            unknown += sorted(others.keys() & {"sslcert", "sslkey", "sslcrl"})
        if unknown:
            names = ", ".join(map(named, unknown))
            raise UsageError(f"asyncpg cannot honour {names}: leave that out of the database URL")
        return replace(self, others=others)


def _user_of_process() -> str | None:
    """Returns the name of this process's user, whatever ``USER`` says; None if the user id has none."""
    if sys.platform == "win32":
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None
