"""Gets the calls of event loops to the file, by a hop to one of its threads."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fang_sqlite.aio.file_thread import FileThread

P = ParamSpec("P")
T = TypeVar("T")


class HoppingAccess:
    """Has one thread for what writes and one for what reads, so that no look waits for a writer."""

    def __init__(self) -> None:
        self._writing = FileThread("fang-sqlite-writer")
        self._reading = FileThread("fang-sqlite-reader")

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.run``."""
        return await self._writing.run(function, *args, **kwargs)

    async def look(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.look``."""
        return await self._reading.run(function, *args, **kwargs)

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``Access.finish``."""
        return await self._writing.finish(function, *args, **kwargs)

    def close(self) -> None:
        """See ``Access.close``."""
        self._writing.close()
        self._reading.close()
