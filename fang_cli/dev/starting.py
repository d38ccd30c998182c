"""Starts what takes long while ``fang dev`` imports the rest: its Postgres, and the worker's process.

This module imports nothing that takes time.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fang_embedded import EmbeddedPostgres, EmbeddedPostgresError


def arguments(pools: Sequence[str]) -> list[str]:
    """Returns the arguments of the ``fang worker`` that runs these pools."""
    return [*pools, "--wait-for-database", "30"]


class StartingPostgres:
    """A Postgres that starts on a thread when the block begins, and is stopped when that ends.

    Args:
        directory: where the database is kept; None for one that is gone at the end.
    """

    def __init__(self, directory: Path | None) -> None:
        self._server = EmbeddedPostgres(directory=directory, durable=directory is not None)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._start, name="fang-postgres", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._server.stop()

    def url(self) -> str:
        """Waits until the server takes connections, and returns its URL. Raises ``FangError`` if it does not start."""
        self._thread.join()
        if isinstance(self._error, EmbeddedPostgresError):
            from fang_core.errors import FangError

            raise FangError(str(self._error)) from self._error
        if self._error is not None:
            raise self._error
        return self._server.url

    def _start(self) -> None:
        try:
            self._server.start()
        except BaseException as error:  # noqa: BLE001 - raised where the server is needed
            self._error = error
