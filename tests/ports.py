"""Ports for processes that are told one, and begin to listen later."""

import contextlib
import random
import socket


def free_port() -> int:
    """A port below those that connections get, so that none takes it while the process is not there."""
    while True:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
