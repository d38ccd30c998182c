"""Says how to connect to a server: what the user gives, with the settings that the promises of a queue need.

redis-py's clients repeat a command whose reply was lost, by default ten times: a claim so repeated holds tasks that no
worker runs, and a completion so repeated finds its task gone. So each connection of ours is made for one user alone and
repeats nothing. Only the settings of a client that an application hands in are used, even if that client repeats
commands.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.connection
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError
from redis.retry import Retry

from fang_core.errors import AccessRefused, UsageError
from fang_redis.connections import tls

Client: TypeAlias = redis.Redis
AsyncClient: TypeAlias = redis.asyncio.Redis

CONNECT_WITHIN: Final = 5.0
"""Seconds within which a server has to accept a connection, and to let us in."""

ANSWER_WITHIN: Final = 10.0
"""Seconds within which a server has to answer; then the connection is given up, and with it the reply."""

_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_VALKEY: Final = re.compile("^valkey(s?)$")
_HOW: Final = "redis://localhost:6379/0, rediss:// with TLS, or unix:///path/of/the/socket?db=0"
_Sentinel: Final[Any] = redis.sentinel.Sentinel  # which has no types
_SENTINEL: Final = "hand in the client that redis-py's Sentinel(...).master_for(...) makes, instead of a URL"
_CLUSTER: Final = "give the URL of any one node, redis://host:port: the queue finds the one that has its keys"
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""So that a connection whose other end has gone without a word ends within half a minute, used or not."""

_SETTINGS: Final = frozenset(
    {
        *("host", "port", "db", "path", "username", "password", "credential_provider", "client_name"),
        *("connection_pool", "redis_connect_func", "socket_type", "socket_read_size", "socket_keepalive"),
        *("socket_keepalive_options", "encoder_class", "parser_class"),
    }
)
"""What is taken from a URL or a client, besides the settings of TLS; all else is ours, or its pool's."""

_PARAMETERS: Final = tls.PARAMETERS | {
    *("db", "username", "password", "client_name", "socket_keepalive", "socket_read_size")
}
"""What a URL may say after its question mark."""

_BEGUN: Final = ("OK", "QUEUED")
"""The replies to MULTI, and to the commands between it and EXEC."""

_NO_VALUE: Final = re.compile(r"Invalid value for '(\w+)'")
"""What redis-py says of a parameter of a URL; it does not quote the value."""


@dataclass(frozen=True)
class Server:
    """Makes connections of one colour to a server, unconnected ones.

    Attributes:
        where: names the server in messages, without a password.
        database: the number of the database.
        connection_class: a class of redis-py's.
        settings: its arguments.
        given: what it was made of; a client of Sentinel's has to live on.
        asks: makes the pool through which one asyncio connection asks Sentinels for the primary.
        moved: where the node of a Cluster is that has the queue's slot, if another node has said so.
        left: where it was, while that cannot be reached.
    """

    where: str
    database: int
    connection_class: Any
    settings: Mapping[str, Any]
    given: object = None
    asks: Callable[[], Any] | None = None
    moved: dict[str, Any] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)

    def connection(self, connect_within: float | None, answer_within: float | None) -> Any:
        """Makes a connection; without these times its user has to make sure that nothing is awaited forever.

        Raises ``AccessRefused`` if it needs a file that cannot be read.
        """
        tls.refuse_files(self.settings)
        settings = {**self.settings, **self.moved}
        if self.asks is not None:
            settings["connection_pool"] = self.asks()
        return self.connection_class(**settings, socket_timeout=answer_within, socket_connect_timeout=connect_within)

    @property
    def has_tls(self) -> bool:
        """Returns whether its connections are those of TLS."""
        return issubclass(self.connection_class, redis.SSLConnection | redis.asyncio.SSLConnection)

    def follow(self, replies: Sequence[Any]) -> bool:
        """Returns whether a node of a Cluster has said that another one has the queue's slot: connect to that one.

        It has carried out none of the commands then: the first one that is more than begun was not, nor what follows.
        """
        reply = next((each for each in replies if each not in _BEGUN), None)
        if not isinstance(reply, MovedError):
            return False
        self.moved.update({"host": reply.host} if reply.host else {}, port=int(reply.port))
        self.left.clear()
        return True

    def lose(self, connection: Any) -> None:
        """Notes that a connection cannot be made. The node of the URL knows who has taken over from another one; if it
        is gone itself, that other one may be back."""
        if all(getattr(connection, name, None) == value for name, value in self.moved.items()):  # else others have
            former = dict(self.moved)
            self.moved.clear()
            self.moved.update(self.left)
            self.left.clear()
            self.left.update(former)


def server_of(server: object) -> Server:
    """Returns how threads connect. Raises ``UsageError``."""
    return _made(server, redis.Redis, redis.connection, Retry)


def async_server_of(server: object) -> Server:
    """Returns how asyncio tasks connect. Raises ``UsageError``."""
    return _made(server, redis.asyncio.Redis, redis.asyncio.connection, redis.asyncio.retry.Retry)


def _made(server: object, client_class: Any, connections: Any, retry: Any) -> Server:
    if isinstance(server, str):
        given = _parsed(server, connections)
        connection_class = given.pop("connection_class", connections.Connection)
    elif isinstance(server, client_class):
        pool: Any = server.connection_pool
        given, connection_class = pool.connection_kwargs, pool.connection_class
    else:
        kinds = f"{client_class.__module__.removesuffix('.client')}.Redis"
        raise UsageError(f"give a URL like {_HOW}, or a {kinds}, not {type(server).__name__}")
    settings = _taken(given)
    if issubclass(connection_class, connections.Connection):  # by TCP
        options = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
        settings = {"socket_keepalive": True, "socket_keepalive_options": options, **settings}
    # What another client has written and is not UTF-8 shows as its bytes.
    settings |= {"protocol": 3, "decode_responses": True, "encoding_errors": "backslashreplace"}
    settings |= {"retry": retry(NoBackoff(), 0), "health_check_interval": 0, **_driver()}
    handed_in = getattr(server, "connection_pool", None)
    where = _where(settings, handed_in)
    is_watched = isinstance(handed_in, redis.asyncio.sentinel.SentinelConnectionPool)
    asks = partial(_of_its_own, handed_in) if is_watched else None
    made = Server(where, int(settings.get("db") or 0), connection_class, settings, server, asks)
    tls.refuse_settings(settings)
    try:
        made.connection(None, None)  # which does not connect, and looks at the settings
    except AccessRefused:  # a file that may be there later
        pass
    except (RedisError, TypeError, ValueError) as error:
        raise UsageError(f"a setting of the connection to Redis cannot be used: {error}") from None
    return made


@cache
def _driver() -> Mapping[str, Any]:
    """Returns what the driver tells the server of itself. A redis-py that knows this setting would read its own version
    from the metadata of its package for each connection: 0.5 ms of CPU, where to connect takes 0.2."""
    driver_info = getattr(redis, "DriverInfo", None)
    return {} if driver_info is None else {"driver_info": driver_info()}


def _parsed(url: str, connections: Any) -> dict[str, Any]:
    scheme, separator, rest = url.strip().partition("://")  # one that is read from a file ends in a line break
    scheme = _VALKEY.sub(lambda valkey: f"redis{valkey[1]}", scheme.lower())
    url = f"{scheme}{separator}{rest}"
    try:
        parts = urlsplit(url)
        path = parts.path.removeprefix("/")
        if scheme in _SCHEMES and separator and (scheme == "unix" or not path or path.isdecimal()):
            parsed: dict[str, Any] = connections.parse_url(url)
            _refuse_unknown(parts.query, has_tls=scheme == "rediss")
            str(parsed.get("host", "")).encode("idna")  # raises ValueError of what no host can be called
            return parsed
    except UsageError:
        raise
    except ValueError as error:  # its text may quote the password
        wrong = _NO_VALUE.match(str(error))
        if wrong is not None and wrong[1] in _PARAMETERS:
            raise UsageError(f"{wrong[1]} has a value in the URL of Redis that cannot be used") from None
    for word, how in (("sentinel", _SENTINEL), ("cluster", _CLUSTER)):
        if word in scheme:
            raise UsageError(f"a queue takes no URL of a {word.capitalize()}: {how}")
    if "," in rest.rpartition("@")[2].partition("/")[0]:
        raise UsageError(f"a queue takes the URL of one host; of a Cluster, {_CLUSTER}; of Sentinel, {_SENTINEL}")
    raise UsageError(
        f"the URL of Redis cannot be used: write it like {_HOW}; a password goes before the host, :PASSWORD@, its"
        " special characters as %XX"
    )


def _refuse_unknown(query: str, *, has_tls: bool) -> None:
    """Raises ``UsageError`` for parameters of a URL that would have no effect."""
    said = parse_qs(query, keep_blank_values=True)
    unknown = sorted(said.keys() - _PARAMETERS)
    if unknown:
        if "@" in query:
            raise ValueError("perhaps what follows a ? in a password")
        names = ", ".join(f"{name:.40}" for name in unknown)
        raise UsageError(f"the URL of Redis has parameters that Fang does not take: {names}; leave them out")
    if not has_tls and (of_tls := sorted(said.keys() & tls.PARAMETERS)):
        raise UsageError(
            f"the URL of Redis has settings of TLS, {', '.join(of_tls)}: that needs rediss:// before the host"
        )


def sever(fileno: int) -> None:
    """Replaces what a forked child has of a connection's socket, under the same number.

    So the server sees when the parent dies, and nothing that the child does there reaches the parent's epoll.
    """
    if fileno >= 0:  # else it is closed
        ours, other = socket.socketpair()
        with ours, other:
            os.dup2(ours.fileno(), fileno, inheritable=False)


def threaded(server: Server) -> Server:
    """Returns how a thread connects to the server of an asyncio queue. Raises ``UsageError`` if that is not known."""
    if isinstance(server.given, str):
        return server_of(server.given)
    pool: Any = getattr(server.given, "connection_pool", None)
    if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        return server_of(_asks_sentinels(pool, server))
    connection_class = getattr(redis.connection, server.connection_class.__name__, None)
    if connection_class is None:
        raise UsageError("a queue fetches tasks by hand if it was made of a URL, or of a client of redis-py's own")
    settings = {**server.settings, "retry": Retry(NoBackoff(), 0)}
    return Server(server.where, server.database, connection_class, settings, server.given)


def _of_its_own(pool: Any) -> Any:
    """Returns a pool that asks the same Sentinels as that of an application, on connections that it makes itself.

    Those of the application belong to its event loop; a heart may run on another one.
    """
    manager = copy(pool.sentinel_manager)
    manager.sentinels = _sentinels(manager, redis.asyncio, lambda theirs: theirs)
    how = {"is_master": pool.is_master, "check_connection": pool.check_connection}
    return type(pool)(pool.service_name, manager, connection_class=pool.connection_class, **how)


def _asks_sentinels(pool: Any, server: Server) -> Client:
    """Returns a client that asks the same Sentinels for the same primary, without an event loop."""
    asked = pool.sentinel_manager
    how = {"min_other_sentinels": asked.min_other_sentinels, "force_master_ip": asked._force_master_ip}
    manager: Any = _Sentinel([], **how)
    manager.sentinels = _sentinels(asked, redis, lambda theirs: getattr(redis.connection, theirs.__name__))
    settings = {name: value for name, value in _taken(server.settings).items() if name != "connection_pool"}
    connection_class = getattr(redis.sentinel, server.connection_class.__name__)
    primary: Client = manager.master_for(pool.service_name, connection_class=connection_class, **settings)
    return primary


def _sentinels(manager: Any, mode: Any, class_of: Callable[[Any], Any]) -> list[Any]:
    """Returns new clients of the Sentinels that ``manager`` asks, in a mode of redis-py's.

    None may take so long that no time is left to ask the rest and to connect to the primary.
    """
    longest = CONNECT_WITHIN / (len(manager.sentinels) + 1)
    made = []
    for sentinel in manager.sentinels:
        theirs = sentinel.connection_pool
        given = theirs.connection_kwargs
        within = {
            name: min(given.get(name) or longest, longest) for name in ("socket_timeout", "socket_connect_timeout")
        }
        settings = {**_taken(given), **within, "retry": mode.retry.Retry(NoBackoff(), 0)}
        made.append(mode.Redis.from_pool(mode.ConnectionPool(class_of(theirs.connection_class), **settings)))
    return made


def _taken(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a client or a URL that are taken."""
    return {name: value for name, value in given.items() if name in _SETTINGS or name.startswith("ssl_")}


def _where(settings: Mapping[str, Any], pool: Any) -> str:
    """Names a server in messages; ``pool`` is that of a client that was handed in."""
    if isinstance(pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool):
        return f"the primary {pool.service_name!r} of Sentinel"
    return settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
