"""Sends datagrams between the processes of a database file: each that listens has a unix socket in the directory."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SUFFIX: Final = ".sock"

_LONGEST_PATH: Final = 100
"""Bytes of a socket's path that every system takes; Linux takes 107."""

_DESCRIPTORS: Final = Path("/proc/self/fd")


def unix_socket() -> socket.socket:
    """Returns a socket for datagrams that never blocks."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def bind(sock: socket.socket, directory: Path, name: str) -> None:
    """Gives a socket its file in the directory. Raises ``OSError``."""
    with _address(directory, name) as address:
        sock.bind(address)


def send(sock: socket.socket, data: bytes, directory: Path, name: str) -> bool:
    """Sends a datagram to the socket of this name; returns false if the process that had it open has died.

    The datagram is dropped if its reader does not keep up: that one has enough to read.
    """
    try:
        with _address(directory, name) as address:
            sock.sendto(data, address)
    except ConnectionRefusedError:
        return False
    except OSError:  # such as BlockingIOError, or FileNotFoundError: it is closed
        return True
    return True


def remove(directory: Path, name: str) -> None:
    """Removes the file of a socket."""
    with suppress(FileNotFoundError):
        (directory / name).unlink()


@contextmanager
def _address(directory: Path, name: str) -> Iterator[str]:
    """Yields a path of the socket that is short enough, whatever the length of the directory's."""
    path = os.fspath(directory / name)
    if len(os.fsencode(path)) <= _LONGEST_PATH or not _DESCRIPTORS.exists():
        yield path
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_DESCRIPTORS}/{descriptor}/{name}"
    finally:
        os.close(descriptor)
