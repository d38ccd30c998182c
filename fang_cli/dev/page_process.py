"""Runs the page of ``fang dev`` and ``fang demo`` in a process of its own, which imports the tasks' modules.

The socket is the parent's, so the page can be reached from the start, and while a process with new code takes over.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from fang_cli.ending import Ended, end_at_sigterm
from fang_cli.settings import chosen_database_url
from fang_core.errors import FangError

_ENDS_WITHIN: Final = 8.0
"""Seconds that a process has to end before it is killed."""


class PageProcess:
    """The page as its parent sees it. Nothing runs before ``start()``.

    Args:
        listener: where it answers.
        url: the database.
        app: the modules of task classes.
        niceness: by how much it stands behind other processes when the processors are busy, 0 to 19.
    """

    def __init__(
        self, listener: socket.socket, url: str, schema: str, app: Sequence[str], *, niceness: int = 0
    ) -> None:
        self._listener = listener
        self._environment = {**os.environ, "FANG_DATABASE_URL": url}
        self._niceness = niceness
        self._arguments = (str(listener.fileno()), schema, *app)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts a process; it ends with this one, however that ends."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-m", __spec__.name, *self._arguments],
            env=self._environment,
            stdin=subprocess.PIPE,  # closed by the kernel when this process ends
            stdout=subprocess.DEVNULL,
            pass_fds=(self._listener.fileno(),),
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self._started.append(process)
        if self._niceness:
            os.setpriority(os.PRIO_PROCESS, process.pid, self._niceness)

    def restart(self) -> None:
        """Starts a process with the code as it is now, and tells the former one to end. Does nothing before
        ``start()``."""
        if not self._started:
            return
        former = self._started[-1]
        self.start()
        former.terminate()
        self._started = [each for each in self._started if each.poll() is None]

    def stop(self) -> None:
        """Ends all that run, and waits for that."""
        for each in self._started:
            each.terminate()
        for each in self._started:
            with each:  # which closes the pipe
                try:
                    each.wait(_ENDS_WITHIN)
                except subprocess.TimeoutExpired:
                    each.kill()


def main(arguments: Sequence[str]) -> None:
    """Serves the page in this process, until SIGTERM or the end of the parent."""
    end_at_sigterm()
    threading.Thread(target=_end_with_parent, name="fang-parent", daemon=True).start()
    descriptor, schema, *app = arguments
    listener = socket.socket(fileno=int(descriptor))
    from fang_backends.queues import async_queue_of
    from fang_cli.web import serving
    from fang_web import OpenOnLoopback

    # Of code that cannot be imported the worker tells. The page is of use without its forms.
    with suppress(FangError):
        serving.import_classes(app)
    settings = serving.settings_of(OpenOnLoopback(), read_only=False, masked=(), origin=None)
    queue = async_queue_of(chosen_database_url(None), name=schema, max_pool_size=4)
    with suppress(Ended, KeyboardInterrupt):
        asyncio.run(serving.serve(queue, settings, listener))


def _end_with_parent() -> None:
    while os.read(0, 1_024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
