"""Looks at a server for ``fang doctor``: what it may lose, and how much room it has."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from redis.exceptions import ResponseError

from fang_core.monitoring.checks import Check, Level, unknown
from fang_core.words.texts import counted
from fang_redis.connections.connecting import server_of
from fang_redis.connections.links import Links

MIB: Final = 2**20
NEARLY_FULL: Final = 0.80
FULL: Final = 0.95
"""The parts of the memory that are taken."""


def examine(url: str) -> Iterator[Check]:
    """Gives what there is to say of a server. Raises ``UsageError`` for a URL that cannot be read, ``BackendError``."""
    with closing(Links(server_of(url))) as links:
        info, appends = links.send([("INFO",), ("CONFIG", "GET", "appendfsync")])
    if isinstance(info, ResponseError):
        yield unknown("server", "this user may not call INFO")
        return
    facts = _facts(info)
    yield _server(facts)
    yield _eviction(facts)
    yield _memory(facts)
    yield _persistence(facts, None if isinstance(appends, ResponseError) else _setting(appends))


def _facts(info: Any) -> dict[str, str]:
    """Returns the fields of what ``INFO`` says."""
    if isinstance(info, Mapping):
        return {str(name): str(value) for name, value in info.items()}
    text = info.decode() if isinstance(info, bytes) else str(info)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def _setting(reply: Any) -> str | None:
    values = list(reply.values()) if isinstance(reply, Mapping) else list(reply)[1:]
    value = values[0] if values else None
    return value.decode() if isinstance(value, bytes) else value


def _server(facts: Mapping[str, str]) -> Check:
    name, version = "Redis", facts.get("redis_version", "?")
    if facts.get("server_name") == "valkey":
        name, version = "Valkey", facts.get("valkey_version", "?")
    if facts.get("role") == "slave":
        text = f"this {name} is a replica, which accepts no writes"
        return Check("server", Level.ERROR, text, "give the URL of the primary")
    replicas = int(facts.get("connected_slaves", 0))
    told = f", with {counted(replicas, 'replica')}" if replicas else ""
    return Check("server", Level.OK, f"{name} {version} accepts writes{told}")


def _eviction(facts: Mapping[str, str]) -> Check:
    """Judges what becomes of keys when the memory is full."""
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy.startswith(("noeviction", "volatile-")):  # no key of a queue has a time to live
        return Check("eviction", Level.OK, f"no task is evicted when memory is full ({policy})")
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
    return Check("eviction", Level.ERROR, f"tasks are evicted when memory is full ({policy})", remedy)


def _memory(facts: Mapping[str, str]) -> Check:
    used, most = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if not most:
        return Check("memory", Level.OK, f"{used // MIB:,} MiB of memory are in use; maxmemory sets no limit")
    share = used / most
    text = f"{used // MIB:,} of {most // MIB:,} MiB of memory are in use"
    level = Level.ERROR if share >= FULL else Level.WARNING if share >= NEARLY_FULL else Level.OK
    return Check("memory", level, text, "" if level is Level.OK else "raise maxmemory: a full Redis accepts no inserts")


def _persistence(facts: Mapping[str, str], appends: str | None) -> Check:
    """Judges what is lost if the server, or its machine, dies."""
    remedy = "CONFIG SET appendonly yes and CONFIG SET appendfsync always, and the same in its configuration file"
    if facts.get("aof_enabled") == "0":
        text = "there is no append-only file: if the server is killed, tasks since the last snapshot, or all, are lost"
        return Check("persistence", Level.WARNING, text, remedy)
    if facts.get("aof_last_write_status", "ok") != "ok":
        return Check("persistence", Level.ERROR, "the append-only file cannot be written", "check its disk")
    if appends is None:
        return unknown("persistence", "this user may not call CONFIG GET; there is an append-only file")
    if appends == "always":
        return Check(
            "persistence", Level.OK, "each write is in the append-only file before it is acknowledged (always)"
        )
    lost = "the last two seconds of writes" if appends == "everysec" else "half a minute of writes or more"
    level = Level.OK if appends == "everysec" else Level.WARNING
    text = f"appendfsync is {appends}: if the machine dies, {lost} may be lost"
    return Check("persistence", level, text, "" if level is Level.OK else remedy)
