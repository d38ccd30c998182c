"""Turns errors of redis-py and replies of a server into those of ``fang_core.errors``: one line that says what to do.

A server's first word tells what is wrong; under Redis 6 an error within a script has it in the middle of the text.
"""

import re
from collections.abc import Mapping
from typing import Final

from redis import exceptions
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError

from fang_core.errors import AccessRefused, BackendError, BackendUnavailable, NotConnected, ReadOnlyServer
from fang_redis.connections import tls
from fang_redis.connections.connecting import Server

ELSEWHERE: Final = ("READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "LOADING")
"""Words after which a new connection may reach another server, or the same one in another state."""

_WORDS: Final = (
    *("OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM", "NOAUTH", "WRONGPASS", "LOADING", "BUSY", "UNKILLABLE"),
    *("CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "MASTERDOWN", "WRONGTYPE"),
)
_WORD: Final = re.compile(rf"(?<![A-Za-z])({'|'.join(_WORDS)})(?![A-Za-z])")
_CLASSES: Final[Mapping[type[Exception], str]] = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
}
"""redis-py cuts these words off the text."""

_REFUSES: Final = "refuses this user or password, or wants one, as in redis://USER:PASSWORD@host"
_NO_LOGIN: Final = (AccessRefused, f"Redis {_REFUSES}")
_BUSY: Final = (
    BackendError,
    "Redis runs some client's script for long, and nothing else meanwhile: SCRIPT KILL ends one that has written"
    " nothing",
)
_HANDED_OVER: Final = (
    NotConnected,
    "the Redis Cluster hands the queue's slot over to another node, and answers when it has",
)
_WITHOUT_NODE: Final = (
    NotConnected,
    "the Redis Cluster lacks the node that has the queue's slot, until that is back or a replica of it has taken over",
)
_REFUSALS: Final[Mapping[str, tuple[type[BackendError], str]]] = {
    "OOM": (
        BackendError,
        "Redis' memory is full (maxmemory), and takes no inserts until tasks have ended: let pools run, remove tasks,"
        " or raise maxmemory",
    ),
    "MISCONF": (
        BackendError,
        "Redis cannot write to its disk, and takes no writes until it can: make room on the disk, or see its log",
    ),
    "READONLY": (
        ReadOnlyServer,
        "this Redis is a replica, which takes no writes: give the address of the primary",
    ),
    "NOREPLICAS": (
        BackendError,
        "Redis takes no writes while so few replicas follow it (min-replicas-to-write)",
    ),
    "NOPERM": (
        AccessRefused,
        "this user of Redis lacks a right that a queue needs; docs/redis.md lists them for ACL SETUSER",
    ),
    "NOAUTH": _NO_LOGIN,
    "WRONGPASS": _NO_LOGIN,
    "LOADING": (NotConnected, "Redis reads its data, and answers when it has"),
    "BUSY": _BUSY,
    "UNKILLABLE": _BUSY,
    "ASK": _HANDED_OVER,
    "TRYAGAIN": _HANDED_OVER,
    "MOVED": _HANDED_OVER,
    "CLUSTERDOWN": _WITHOUT_NODE,
    "MASTERDOWN": _WITHOUT_NODE,
    "CROSSSLOT": (BackendError, "the Redis Cluster wants all keys of a call in one slot"),
    "WRONGTYPE": (
        BackendError,
        "a key of this queue holds what Fang has not written: delete it, or give the queue a name= of its own",
    ),
}
"""The error that each word is, and what it says before the server's text."""

_NO_DATABASE: Final = re.compile("DB index is out of range|SELECT is not allowed", re.IGNORECASE)
_OTHER_DATABASE: Final = (
    "a node of a Cluster has number 0 alone, others as many as their setting databases says, counted from 0: give the"
    " URL one of these, and tell queues apart by name="
)
_NO_ROOM: Final = re.compile("max number of clients", re.IGNORECASE)
_KILLED: Final = re.compile("script killed by user|Script attempted|killed", re.IGNORECASE)
_NOT_IN_SCRIPT: Final = re.compile("user executing the script can't|ACL failure in script", re.IGNORECASE)
"""What a script's ACL refusal says under Redis 7, and under Valkey 8 and later; the reply begins with no word then."""
_UNKNOWN: Final = re.compile("unknown (sub)?command", re.IGNORECASE)


def refused(error: BaseException) -> BackendError:
    """Returns the typed error for a server's refusal of one command, which has had no effect then.

    A script is refused at its first write, or at none: nothing of it stays.
    """
    text = one_line(error)
    if (known := _REFUSALS.get(word_of(error))) is not None:
        kind, what = known
        return kind(f"{what}: {text}")
    if _UNKNOWN.search(text):
        return BackendError(f"this server lacks a command that a queue needs; Redis 6.2 and Valkey 7.2 have it: {text}")
    if _KILLED.search(text):
        return BackendError(f"a script of the queue was ended (SCRIPT KILL): try again: {text}")
    return BackendError(f"Redis refused, or failed: {text}")


def lost(error: BaseException, where: str) -> BackendUnavailable:
    """Returns the typed error for a connection that broke, or a reply that did not come, after a command was sent."""
    if isinstance(error, BusyLoadingError):
        return NotConnected(f"Redis at {where} reads its data, and answers when it has: {one_line(error)}")
    return BackendUnavailable(
        f"Redis at {where} closed the connection, or did not answer, after a command was sent that it may have carried"
        f" out: {one_line(error)}"
    )


def not_connected(error: BaseException, server: Server) -> BackendError:
    """Returns the typed error for a connect that failed: nothing was sent."""
    text, where = one_line(error), server.where
    if server.has_tls and (advice := tls.advice_on(error)):
        return AccessRefused(f"no connection by TLS with Redis at {where}: {text}: {advice}")
    if server.has_tls and (advice := tls.advice_after_handshake(error)):
        return NotConnected(f"Redis at {where} closed the connection after the handshake of TLS; {advice}: {text}")
    if _NO_ROOM.search(text):
        return NotConnected(f"Redis at {where} has no connection left (maxclients): {text}")
    if isinstance(error, BusyLoadingError):
        return NotConnected(f"Redis at {where} reads its data, and answers when it has: {text}")
    if _NO_DATABASE.search(text):
        return AccessRefused(f"Redis at {where} has no database {server.database}: {_OTHER_DATABASE}: {text}")
    if word_of(error) == "NOPERM":
        return refused(error)
    if isinstance(error, AuthenticationError) or word_of(error) in ("NOAUTH", "WRONGPASS"):
        return AccessRefused(f"Redis at {where} {_REFUSES}: {text}")
    if isinstance(error, RedisError) and _UNKNOWN.search(text):
        return BackendError(f"the server at {where} is too old: a queue needs Redis 6.2 or Valkey 7.2: {text}")
    return NotConnected(f"Redis at {where} cannot be reached; see that it runs, and that the URL names it: {text}")


def word_of(error: BaseException) -> str:
    """Returns the word by which the server names what is wrong; empty if it is none that is known here."""
    for of_it, word in _CLASSES.items():
        if isinstance(error, of_it):
            return word
    if _NOT_IN_SCRIPT.search(str(error)):
        return "NOPERM"
    found = _WORD.search(str(error))
    return found[1] if found else ""


def one_line(error: BaseException) -> str:
    """Returns the text of an error; redis-py's and a server's hold neither values nor passwords."""
    return " ".join(str(error).split())[:300] or type(error).__name__
