"""Defines what is sent to Redis as values: an operation knows its script or command, its arguments, and how its reply
is read. Verbs are generators that yield operations and get replies; a runner of either colour drives them.

A verb of both colours reads so::

    def find(self, task_id: UUID) -> Verb[Task | None]:
        read = yield from self.operations.read([task_id])
        return read.tasks.get(task_id)
"""

import hashlib
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from fang_core.backends.claims import Serves
from fang_core.errors import BackendUnavailable

T = TypeVar("T")

_WORD: Final = re.compile(r"\w+")
_DEFINITION: Final = re.compile(r"(?m)^(local (?:function )?([\w, ]+).*\n(?:(?!local |--).*\n)*)")

REPLICATED_WITHIN: Final = 1.0
"""Seconds within which replicas have to confirm an insert, if the queue wants that."""

_MARK: Final = "redis.call('HDEL', KEYS[1], '-') redis.call('HSET', KEYS[1], 'inserted', 1)"
"""A write behind an insert that replicas have to confirm. ``WAIT`` waits for what its own connection wrote last.
Redis 7.0 counts a script that wrote nothing, Valkey 9.1 does not: there a repeated insert, which finds its task,
would be confirmed at once. The first command has a full memory let the second one through, and is nothing else."""

Argument: TypeAlias = str | int
"""What is sent; other values are written as texts first."""


class Script(NamedTuple):
    """A Lua script: its text, and the SHA-1 by which a server knows it once it has run."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Returns the script in ``scripts/NAME.lua``, with those definitions of the prelude that it uses.

    A line ``-- include NAME`` stands for the text of another one. A line ``-- prelude`` has the definitions follow that
    only what is below it uses: a server makes all functions of a script whenever it runs that, which takes as long as
    everything else that a short one does.
    """
    text = re.sub(r"(?m)^-- include (\w+)\n", lambda line: _text_of(line[1]), _text_of(name))
    there: set[_Definition] = set()
    parts = []
    for part in text.split("-- prelude\n"):
        used = [definition for definition in _used_by(part) if definition not in there]
        there.update(used)
        parts += [*(definition.text for definition in used), part]
    text = "".join(parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class _Definition(NamedTuple):
    """A statement of the prelude, the names that it defines, and the words in it."""

    text: str
    names: frozenset[str]
    words: frozenset[str]


@cache
def _prelude() -> Sequence[_Definition]:
    return [
        _Definition(text, frozenset(_WORD.findall(head)), _words_in(text))
        for text, head in _DEFINITION.findall(_text_of("prelude"))
    ]


def _words_in(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(re.sub(r"--.*", "", text)))


def _used_by(text: str) -> Sequence[_Definition]:
    """Returns the definitions of the prelude that a text uses, itself or through other ones."""
    words, used = set(_words_in(text)), []
    for definition in reversed(_prelude()):  # each uses only those above it
        if not words.isdisjoint(definition.names):
            words |= definition.words
            used.append(definition)
    return used[::-1]


@cache
def _text_of(name: str) -> str:
    return (files("fang_redis") / "scripts" / f"{name}.lua").read_text()


def as_it_is(reply: Any) -> Any:
    """Reads a reply that needs no reading."""
    return reply


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One script or command. ``reply = yield from operation`` sends it in a verb.

    Attributes:
        what: the script, or the name of a command.
        keys: its keys; those of a script are the prefix of all names and the queue's channel.
        args: its arguments.
        parse: reads the reply.
    """

    what: Script | str
    keys: tuple[str, ...]
    args: Sequence[Argument]
    parse: Callable[[Any], T] = field(default=as_it_is)

    def __iter__(self) -> Generator["Operation[T]", Any, T]:
        return self.parse((yield self))


@dataclass(frozen=True)
class Insert(Operation[T]):
    """A script that inserts tasks which are due at once, and then may claim for a pool of this process.

    Attributes:
        rows: the task types and kinds of the tasks.
        place: which argument says how many arguments the insert has, if those of a claim follow; it is ``''`` else.
    """

    rows: Sequence[Serves] = ()
    place: int = 0

    def along(self, claim: Operation[Any]) -> tuple[Argument, ...]:
        """Returns the command that also claims. Its reply has that of the claim, or its error, and that of the
        insert."""
        args = [*self.args, *claim.args]
        args[self.place] = len(self.args)
        return command_of(Operation(self.what, self.keys, args))


@dataclass(frozen=True)
class Together(Generic[T]):
    """Several operations between MULTI and EXEC: nothing of other clients runs between them.

    ``replies = yield from together`` sends it. Nothing is rolled back if one of them fails, so none of them may fail
    where another one has written.
    """

    operations: Sequence[Operation[T]]

    def __iter__(self) -> Generator["Together[T]", Any, list[T]]:
        replies = yield self
        return [each.parse(reply) for each, reply in zip(self.operations, replies, strict=True)]


@dataclass(frozen=True)
class Replicated:
    """Writes, after which the connection waits until this many replicas have them. ``yield from`` returns the reply as
    it is.

    Raises ``BackendUnavailable`` if they have not within ``REPLICATED_WITHIN``; what was written stays nevertheless.
    """

    step: Operation[Any] | Together[Any]
    replicas: int

    def __iter__(self) -> Generator["Replicated", Any, Any]:
        reply, confirmed = yield self
        if confirmed < self.replicas:
            raise BackendUnavailable(
                f"Redis has written it, but {confirmed} of {self.replicas} replicas have confirmed that within"
                f" {REPLICATED_WITHIN:g} s, so that a failover may lose it"
            )
        return reply


Step: TypeAlias = Operation[Any] | Together[Any] | Replicated

Verb: TypeAlias = Generator[Step, Any, T]
"""What a queue or a pool asks of the backend, in as many operations as it takes."""


def sent(step: Step, *, with_text: bool = False) -> list[tuple[Argument, ...]]:
    """Returns the commands that are sent for a step; scripts by their text, or by the SHA-1 alone."""
    match step:
        case Replicated(writes, replicas):
            mark = ("EVAL", _MARK, 1, f"{_prefix_of(writes)}meta")
            return [*sent(writes, with_text=with_text), mark, ("WAIT", replicas, round(REPLICATED_WITHIN * 1000))]
        case Together(operations):
            return [("MULTI",), *commands_of(operations), ("EXEC",)]
        case _:
            return [command_of(step, with_text=with_text)]


def answered(step: Step, replies: Sequence[Any]) -> Any:
    """Returns the reply to a step, of the replies to its commands. Raises the first ``ResponseError`` among them."""
    match step:
        case Replicated(writes):
            *first, marked, confirmed = replies
            reply = answered(writes, first)
            if isinstance(confirmed, Exception):
                raise confirmed
            return reply, 0 if isinstance(marked, Exception) else confirmed
        case Together():
            return replies_of(replies)
        case _:
            (reply,) = replies
            if isinstance(reply, Exception):
                raise reply
            return reply


def _prefix_of(step: Operation[Any] | Together[Any]) -> str:
    """Returns the prefix of all names, which is the first key of each script."""
    first = step.operations[0] if isinstance(step, Together) else step
    return first.keys[0]


def command_of(operation: Operation[Any], *, with_text: bool = False) -> tuple[Argument, ...]:
    """Returns the command that is sent, with the text of its script or the SHA-1 alone."""
    what = operation.what
    if isinstance(what, str):
        return (what, *operation.keys, *operation.args)
    name, script_ = ("EVAL", what.text) if with_text else ("EVALSHA", what.sha)
    return (name, script_, len(operation.keys), *operation.keys, *operation.args)


def commands_of(operations: Sequence[Operation[Any]]) -> list[tuple[Argument, ...]]:
    """Returns the commands between MULTI and EXEC: the first one of each script brings its text, since a server that
    does not know it would leave out those alone."""
    known: set[str] = set()
    commands = []
    for operation in operations:
        what = operation.what
        commands.append(command_of(operation, with_text=isinstance(what, Script) and what.sha not in known))
        if isinstance(what, Script):
            known.add(what.sha)
    return commands


def replies_of(replies: Sequence[Any]) -> list[Any]:
    """Returns the replies of the commands between MULTI and EXEC. Raises the first ``ResponseError``.

    A server that refuses one of them as it comes refuses EXEC, and says there only that something was wrong.
    """
    *queued, executed = replies
    for reply in [*queued, *(executed if isinstance(executed, list) else [executed])]:
        if isinstance(reply, Exception):
            raise reply
    return list(executed)
