"""Serves a page over HTTP from a thread, for a real browser."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fang_web import OpenOnLoopback, create_app


@contextmanager
def served(queue: Any, **options: Any) -> Iterator[str]:
    """Serves the page of a queue, at which everybody may do everything; yields its address."""
    app = create_app(queue, **{"auth": OpenOnLoopback(), **options})
    config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on", access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # connections wait in it until the server takes them
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
