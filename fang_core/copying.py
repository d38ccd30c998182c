"""Keeps queues and pools from being copied or pickled: their connections, threads and tasks belong to one process."""

from typing import NoReturn

from fang_core.errors import NotCopyable


class Uncopyable:
    """Raises ``NotCopyable`` from ``copy``, ``deepcopy`` and ``pickle``, in one line that says what to do instead."""

    def __reduce__(self) -> NoReturn:
        raise NotCopyable(
            f"{type(self).__name__} cannot be copied or pickled, since its connections and threads belong to this "
            "process: share this one, or make another one where it is needed, as in a child process"
        )
