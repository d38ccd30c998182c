"""Listens for the page. This module imports nothing that takes time."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens. Raises ``UsageError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        from fang_core.errors import UsageError

        why = (error.strerror or str(error)).partition(" (while")[0]  # create_server says the address again
        raise UsageError(f"cannot listen on {host} port {port}: {why}") from None


def address(listener: socket.socket) -> str:
    """Returns the address of the page, for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
