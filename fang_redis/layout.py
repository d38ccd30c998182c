"""Names the keys of a queue on Redis, and says what each of them holds. The scripts build the same names.

All names begin with ``{name}:``, so that a queue has one slot of a Cluster, and its scripts may build names.

=========================  ========  ==================================================================================
key                        type      holds
=========================  ========  ==================================================================================
``t:ID``                   hash      a task; ``records.py`` names its fields
``ids``                    zset      the ids of all tasks, each with the score 0, and so in their order: for lists
``e:ID``                   list      its last ten errors, each a JSON object, the time in microseconds
``line:LEN:TYPE:LEVEL``    zset      waiting tasks of a type and a level: id -> due. LEN is the length of TYPE in bytes
``levels:TYPE``            zset      the levels of a type that have a line, each as its kind, a NUL and what stands
                                     before the kind, with the score 0, so that those of a kind lie together
``types``                  set       the task types that have a line
``lane:LEN:TYPE:P:LANE``   zset      the same tasks once more if they have a lane other than ``''``, by the digit P of
                                     their priority
``lanes:LEN:TYPE:P``       zset      the lanes that have such a line, each with the score 0, and so in order of bytes
``running:TYPE``           hash      how many tasks of a type are in progress: lane -> number; ``''`` without a lane
``busy``                   hash      how many tasks of each type are in progress
``held:POOL``              set       the ids that a pool holds
``holders``                set       the pools that have such a set; one may stay that has none any more
``done:STATE:TYPE``        zset      tasks of a type that have ended: id -> when
``ended``                  set       the task types that have such a line; one may stay that has none any more
``unique``                 hash      the hash of a unique task that waits or runs -> its id
``unclaimed``              hash      the hash of a task that is unique until it is claimed -> its id
``periods``                hash      the hash of a unique task that counts for a time -> ``ID INSERTED UNTIL``; UNTIL is
                                     ``inf`` without an end
``period_of``              hash      the id of such a task -> its hash
``period_ends``            zset      the hash of each that counts for a time with an end -> UNTIL
``managed:TYPE``           hash      what holds for a task type: its ``row`` as JSON, and a ``version``, another one
                                     after each claim and change; ``limited`` is 1 if claims leave it to
                                     ``claim_lanes``, ``until`` the end of its pause, ``inf`` for one without;
                                     ``key_most``, ``interval``, ``burst`` and ``weights`` are of its keys; ``tat`` is
                                     when its rate is full again, ``fetched_last`` the lane that was fetched from last
                                     by hand
``tats:TYPE``              hash      lane -> when its rate is full again
``managed``                set       the task types that have such a hash
``pools``                  hash      the record of each registered pool, as JSON
``started``                hash      when each was registered
``leases``                 hash      the lease of each, in seconds
``workers``                hash      how many tasks each runs at once, if it has said so since
``beats``                  hash      the counter of each; a pool that has none cannot claim
``locks``                  set       the pools whose hearts subscribe to a channel of their own, which shows their death
``stopping``               set       the pools that have said that they stop
``told:POOL``              zset      the messages that a pool has not handled: ``NUMBER JSON`` -> number
``waiting:TYPE``           set       the pools of a type that wait to be woken
``runs``, ``live``         hash      what each pool tells of its runs, and of what it does now, as JSON
``schedules``              hash      the row of each schedule, as JSON
``stats:SPAN:SECONDS``     hash      history of a minute or an hour: writer, type and kind as JSON -> a row as JSON
``stats:SPAN``             zset      the minutes, or the hours, of which there is some: seconds since 1970
``stats:open``             zset      the minutes that have not been added up
``audit``                  list      the last entries of the audit
``meta``                   hash      ``layout``, the version of this layout; ``epoch``, by which pools see that all keys
                                     were removed; ``run`` and ``since``, the server that was seen last, and since when
                                     its locks can be believed; ``messages``, the number of the last message;
                                     ``inserted`` is written for replicas to confirm, and not read
=========================  ========  ==================================================================================

Times are integers of microseconds since 1970, by the server's clock, as texts; a score is the same number, which is
exact until the year 2255.

A **level** of a line is a priority, a mark and a kind, such as ``2-:send_email``: the digit is the priority + 2; the
mark is ``-`` for a task without a failure, ``r`` for one that was retried, ``s`` for a suspect, followed by its
``group_limit`` if it has one. So claims read no task that they do not take. Before the kind there is a ``=`` instead of
the ``:`` if the tasks of the level have lanes other than ``''``. The other ones are those of lane ``''``, so that it
needs no line of its own, and a type may become managed at any time.
"""

import re
from typing import Final
from uuid import UUID

from fang_core.errors import UsageError

VERSION: Final = 1
"""The version of this layout, which ``meta`` names; a queue refuses to open another one."""

LEVEL: Final = re.compile(r"(\d)([-rs])\d*[:=](.*)", re.DOTALL)
"""Takes a level to pieces: the digit of its priority, the mark without what follows it, and the kind."""

MOST_ROWS: Final = 1_000
"""How many tasks one script writes at most, since the server answers no other client meanwhile."""


class Keys:
    """Builds the names of one queue's keys.

    Raises ``UsageError`` for a name that cannot be one.
    """

    __slots__ = ("channel", "name", "prefix")

    def __init__(self, name: str, database: int = 0) -> None:
        if not isinstance(name, str) or not name or len(name) > 200 or any(c in name for c in "{}\r\n\x00"):
            raise UsageError("the name of a queue on Redis is a text of 1 to 200 characters, without braces")
        if not name.isprintable():  # half of a surrogate pair, which UTF-8 cannot hold, or an invisible character
            raise UsageError("the name of a queue on Redis holds a character that cannot be printed")
        self.name = name
        self.prefix = f"{{{name}}}:"
        # Channels know no database: without its number, queues in other databases of the same server would wake this
        # one.
        self.channel = f"{self.prefix}wake:{database}"

    def __call__(self, name: str) -> str:
        """Returns the key of this name, like ``pools`` or ``meta``."""
        return self.prefix + name

    def task(self, task_id: UUID | str) -> str:
        """Returns the key of a task's hash."""
        return f"{self.prefix}t:{task_id}"

    def errors(self, task_id: UUID | str) -> str:
        """Returns the key of the list of a task's errors."""
        return f"{self.prefix}e:{task_id}"

    def alive(self, pool_id: UUID | str) -> str:
        """Returns the channel that a pool's heart subscribes to, which shows that its process lives."""
        return f"{self.prefix}alive:{pool_id}"


WOKEN: Final = "w"
"""Begins a message of the queue's channel: tasks of the type that follows are due."""

LATE: Final = "l"
"""The same for all tasks of the type that follows, wherever they are: its limits, or its free slots, have changed."""

TOLD: Final = "t"
"""The pool whose id follows has a message: its heart beats at once."""
