"""Names the optional abilities of a backend: each queue says which it has, and a test asks for them by name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The optional abilities of one backend.

    Attributes:
        transactions: a call with ``connection=`` is part of the caller's transaction: committed or rolled back with it.
            Without it, a backend that outlives its processes refuses ``connection=``.
        concurrent_writers: while a caller's transaction is open, other sessions can write other tasks.
        outlives_processes: tasks stay when a process ends. So pools learn by their hearts that another one has died,
            and take back the tasks that it held.
        shows_deaths: a heart sees at once that the process of another pool has ended; otherwise the lease decides.
        wakes: writing a task that is due wakes the pools that wait for it; otherwise they poll.
    """

    transactions: bool = False
    concurrent_writers: bool = False
    outlives_processes: bool = False
    shows_deaths: bool = False
    wakes: bool = False
