"""Says what the exit codes of the command mean, once: for the command, its help and docs/commands.md.

This module imports nothing that takes time. The numbers from 64 on are those of sysexits.h.
"""

from typing import Final

WRONG_USAGE: Final = 2
UNAVAILABLE: Final = 69
REFUSED: Final = 77
TABLES: Final = 78
INTERRUPTED: Final = 130
UNREAD: Final = 141

MEANINGS: Final = {
    0: "done; of `fang worker` and `pool.run()`: all runs have ended and their outcomes are written",
    1: "another error of Fang, such as a module that cannot be imported, or an output that cannot be written; one line "
    "says which; of `fang doctor`: it has found an error",
    WRONG_USAGE: "invalid arguments, settings, URL or names",
    UNAVAILABLE: "the database is down, or failed",
    70: "of `fang worker --processes`: its processes died too often",
    71: "of `fang worker` and `pool.run()`: more runs were stuck than `max_stuck` allows; start the process again",
    75: "of `fang worker` and `pool.run()`: runs had not ended in the grace period, or their outcomes were not "
    "written; they run again elsewhere",
    REFUSED: "the database refuses the user, or a right is missing",
    TABLES: "the tables are missing or have another version; of `fang migrate --check` too",
    INTERRUPTED: "ended at once by SIGINT; `fang worker` and `pool.run()` only by a second one",
    UNREAD: "the reader of its output has gone, such as `head`; a program that SIGPIPE ends has the same code",
    143: "ended at once by SIGTERM; `fang worker` and `pool.run()` only by a second one",
}
"""What each exit code means."""


def exit_code(error: Exception) -> int:
    """Returns the exit code with which an error ends the command."""
    from fang_core.errors import AccessRefused, BackendError, SchemaError, UsageError

    codes = ((UsageError, WRONG_USAGE), (AccessRefused, REFUSED), (SchemaError, TABLES), (BackendError, UNAVAILABLE))
    return next((code for kind, code in codes if isinstance(error, kind)), 1)
