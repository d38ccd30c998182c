"""Starts the command ``fang``, and handles the signals that come before pools run."""

import errno
import gc
import sys
from io import TextIOWrapper
from typing import Final

from fang_cli.ending import ENDED_BY_SIGTERM, end_at_sigterm, end_in_peace, hold_signals
from fang_cli.exit_codes import INTERRUPTED

_UNWRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""A full disk, and a terminal that is gone."""


def start() -> None:
    """Runs the command. SIGTERM ends it at once until pools run. If its libraries are missing, says what to install."""
    is_worker = sys.argv[1:2] == ["worker"]
    # A worker whose pools have not started left nothing undone; of other commands that is not known here.
    end_at_sigterm(0 if is_worker else ENDED_BY_SIGTERM)
    if is_worker:
        hold_signals()
    # Nothing of what a command imports can be freed, and most commands end soon; the rest collect (see ``Later``).
    gc.disable()
    try:
        _run()
    finally:
        # A process ends with a last collection, which would walk all that was imported only to free what ends with it:
        # that took 0.15 s of CPU time of `fang status`.
        gc.freeze()


def _run() -> None:
    try:
        from fang_cli.commands import fang
    except ModuleNotFoundError as error:
        sys.exit(f"fang: {error.name} is missing: pip install 'fang-tasks[cli]'")
    except KeyboardInterrupt:
        end_in_peace()
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # its encoding may lack characters of tasks, as a pipe's cp1252 does
            stream.reconfigure(errors="backslashreplace")
    try:
        fang(prog_name="fang")
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        sys.stdout = None  # what is left of the output would fail again, with a traceback
        sys.exit(f"fang: the output cannot be written: {error.strerror}")
