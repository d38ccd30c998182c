"""Looks at a server before a queue uses it: refuses one that would lose tasks, and says what one may lose.

``CONFIG GET`` may be forbidden: then it is said what is not known.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fang_core.errors import BackendError, ReadOnlyServer, SchemaError
from fang_core.logs import SafeLogger
from fang_redis.connections.connecting import Server
from fang_redis.connections.sending import Sending
from fang_redis.layout import VERSION, Keys
from fang_redis.operations import Operation, Verb

LEAST: Final[Mapping[str, tuple[int, ...]]] = {"Redis": (6, 2), "Valkey": (7, 2)}
"""The oldest versions that have all commands."""

_LOGGER: Final = SafeLogger("fang_redis")

_INFO: Final[Operation[str]] = Operation("INFO", (), ())
_APPENDS: Final[Operation[Any]] = Operation("CONFIG", (), ("GET", "appendfsync"))

_EVICTS: Final = (
    "Redis at {where} evicts keys when its memory is full (maxmemory-policy {policy}), and with them tasks: CONFIG SET"
    " maxmemory-policy noeviction, and the same in its configuration file"
)
_FORGETS: Final = (
    "Redis at {where} writes no append-only file (appendonly no): if it is killed or its machine dies, the tasks since"
    " its last snapshot are lost, or all. CONFIG SET appendonly yes and CONFIG SET appendfsync always, and the same in"
    " its configuration file"
)
_NOT_AT_ONCE: Final = (
    "Redis at {where} writes its append-only file with appendfsync {how}: if its machine dies, {lost} are lost. CONFIG"
    " SET appendfsync always loses none"
)
_LOST: Final = {"everysec": "the inserts of the last two seconds", "no": "the inserts of the last half minute or more"}
_NOT_SEEN: Final = (
    "Redis at {where} writes an append-only file; this user may not see how often (CONFIG GET appendfsync): with"
    " everysec, the default, the inserts of the last two seconds are lost if its machine dies"
)


def check(server: Server, keys: Keys) -> Verb[None]:
    """Looks at the server, and notes in an empty database which layout the queue's keys have.

    Raises ``BackendError``, or a subclass, for a server on which no queue works. What the server may lose is logged.
    """
    where = server.where
    facts = facts_of((yield from _INFO))
    problem = problem_of(facts, where)
    if problem is not None:
        raise problem
    layout, *_ = yield from Sending(keys).script("open", VERSION)
    if layout != str(VERSION):
        raise SchemaError(
            f"the keys of queue {keys.name!r} on Redis have layout {layout}, and this version of Fang knows"
            f" {VERSION}: let all processes run the same release"
        )
    appends = yield from _appends()
    for level, line in warnings_of(facts, appends, where):
        getattr(_LOGGER, level)("%s", line)


def facts_of(info: str) -> dict[str, str]:
    """Returns the fields of what ``INFO`` says."""
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))


def problem_of(facts: Mapping[str, str], where: str) -> BackendError | None:
    """Returns why no queue works on this server; None if one does."""
    kind, version = version_of(facts)
    least = LEAST[kind]
    if facts.get("redis_mode") == "sentinel":
        return BackendError(
            f"{where} is a Sentinel, which has no data: give Sentinel(...).master_for(...) of redis-py as the server"
        )
    if version < least:
        has, needed = (".".join(map(str, each)) for each in (version, least))
        return BackendError(f"{kind} {has} at {where} is too old: a queue needs {kind} {needed} or newer")
    if facts.get("role") == "slave":
        return ReadOnlyServer(f"Redis at {where} is a replica, which takes no writes: give the address of the primary")
    policy = facts.get("maxmemory_policy", "noeviction")
    if not policy.startswith(("noeviction", "volatile-")):  # no key of a queue has a time to live
        return BackendError(_EVICTS.format(where=where, policy=policy))
    return None


def version_of(facts: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    """Returns the name of the server, and its version."""
    kind = "Valkey" if facts.get("server_name") == "valkey" else "Redis"
    text = facts.get("valkey_version" if kind == "Valkey" else "redis_version", "0")
    return kind, tuple(int(part) for part in text.split(".") if part.isdecimal())


def warnings_of(facts: Mapping[str, str], appends: str | None, where: str) -> Iterator[tuple[str, str]]:
    """Yields what the server may lose, each with the level at which it is logged.

    Args:
        appends: its ``appendfsync``; None if we may not see it.
    """
    if facts.get("aof_enabled") == "0":
        yield "warning", _FORGETS.format(where=where)
    elif appends is None:
        yield "info", _NOT_SEEN.format(where=where)
    elif appends in _LOST:
        level = "info" if appends == "everysec" else "warning"
        yield level, _NOT_AT_ONCE.format(where=where, how=appends, lost=_LOST[appends])


def _appends() -> Verb[str | None]:
    try:
        reply: Any = yield from _APPENDS
    except BackendError:  # forbidden to this user, or renamed by a provider
        return None
    return str(reply.get("appendfsync")) if isinstance(reply, dict) and reply else None
