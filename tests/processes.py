"""The end of a process, awaited as an event; and which processes run isolated tasks."""

import os
import select
from collections.abc import Collection
from pathlib import Path

from tests.patience import PATIENT


def ends(pid: int, seconds: float = PATIENT) -> bool:
    """Waits until a process, a child of ours or not, has ended; False if it still runs after that time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def servers_of(parents: Collection[int]) -> list[int]:
    """The pids of the servers that fork processes off for these."""
    return [pid for pid, parent in _all().items() if parent in parents and b"fork_server" in _line(pid)]


def children_of(parents: Collection[int]) -> list[int]:
    """The pids of the processes that run isolated tasks for these: new ones, or forked by a server of theirs."""
    found = _all()
    servers = {pid for pid, parent in found.items() if parent in parents and b"fork_server" in _line(pid)}
    return [
        pid for pid, parent in found.items() if parent in servers or (parent in parents and b"spawn_main" in _line(pid))
    ]


def _all() -> dict[int, int | None]:
    return {pid: parent_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}


def parent_of(pid: int) -> int | None:
    """None if it is not there, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if not stat:  # the system has begun to forget it
        return None
    state, parent, *_ = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(parent)


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
