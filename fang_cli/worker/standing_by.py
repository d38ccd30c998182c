"""Has a worker process that was started ahead wait for its supervisor, and import the libraries meanwhile."""

import json
import os
import socket
import sys
from contextlib import suppress


def stand_by(supervisor: socket.socket) -> None:
    """Imports what every worker needs; returns when the supervisor says so, and takes over the variables it names.

    Ends the process if the supervisor has gone instead. The application is not imported: its code is read when its
    database is there.
    """
    from fang_cli.worker import running  # noqa: F401 - all that a process imports before the application
    from fang_core.errors import FangError

    with suppress(FangError):  # the application may need no Postgres
        import fang_threaded

        _ = fang_threaded.Queue  # which is imported when it is asked for
    with supervisor.dup() as waiting:
        waiting.setblocking(True)
        line = _line(waiting)
    if line is None:
        sys.exit(0)
    os.environ.update(json.loads(line))


def _line(waiting: socket.socket) -> bytes | None:
    heard = b""
    while not heard.endswith(b"\n"):
        try:
            data = waiting.recv(65_536)
        except OSError:  # reset: the supervisor was killed
            return None
        if not data:
            return None
        heard += data
    return heard
