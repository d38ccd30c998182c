"""Reads what has become of tasks and pools from a server's append-only file: each script's effects stand there as one.

It is the server's own record of what it has done, in the order in which it did it, and outlives a SIGKILL; nothing of
the product writes it. Rows must stay when their tasks have ended: a hash that is removed takes the time of that along.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from tests.faults.audit import Change, PoolChange

Command = list[str]
Row = dict[str, str]

_MOST_RETRIES: Final = 20


def read(directory: Path, prefix: str = "{fang}:") -> tuple[list[Change], list[PoolChange]]:
    """The whole record, in the order in which things happened."""
    return _Replay(prefix).replay(_transactions(directory))


class _Replay:
    """Carries the commands out once more, as far as the rows of tasks and pools go."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._rows: dict[str, Row] = {}
        self._pids: dict[str, int] = {}
        self._offset = time.time() - time.monotonic()
        self._now = 0.0
        self._changes: list[Change] = []
        self._pools: list[PoolChange] = []
        self._place = 0

    def replay(self, transactions: Iterator[list[Command]]) -> tuple[list[Change], list[PoolChange]]:
        for number, commands in enumerate(transactions):
            before: dict[str, Row | None] = {}
            pools: list[tuple[str, str]] = []
            for name, *words in commands:
                if name == "FLUSHALL" or not words or not words[0].startswith(self._prefix):
                    continue
                key = words[0].removeprefix(self._prefix)
                for row in (each for each in words if each.startswith(f"{self._prefix}t:")):
                    task = row.removeprefix(f"{self._prefix}t:")
                    before.setdefault(task, dict(self._rows[task]) if task in self._rows else None)
                    self._apply(task, name, words[1:])
                if key == "pools" and name in ("HSET", "HSETNX"):
                    self._pids[words[1]] = json.loads(words[2])["pid"]
                    pools.append((words[1], "registered"))
                elif key == "pools" and name == "HDEL":
                    pools.append((words[1], "gone"))
                elif key == "stopping" and name == "SADD":
                    pools.append((words[1], "stopping"))
            for task, was in before.items():
                self._note(number, task, was, self._rows.get(task))
            for pool, event in pools:
                self._place += 1
                at = self._now - self._offset
                self._pools.append(PoolChange(self._place, at, number, UUID(pool), self._pids.get(pool, 0), event))
        return self._changes, self._pools

    def _apply(self, task: str, name: str, words: list[str]) -> None:
        if name in ("DEL", "UNLINK"):
            self._rows.pop(task, None)
        elif name == "HDEL":
            for field in words:
                self._rows.get(task, {}).pop(field, None)
        elif name in ("HSET", "HMSET", "HSETNX"):
            row = self._rows.setdefault(task, {})
            row |= dict(zip(words[::2], words[1::2], strict=True))
            self._now = max(self._now, float(row.get("u", 0)) / 1e6)
        else:
            raise AssertionError(f"a task is changed by {name}, which the audit does not know")

    def _note(self, transaction: int, task: str, was: Row | None, now: Row | None) -> None:
        states = [None if row is None else row["s"] for row in (was, now)]
        attempts = [int((row or {}).get("a", 0)) for row in (was, now)]
        if was is not None and now is not None and states[0] == states[1] and attempts[0] == attempts[1]:
            return
        self._place += 1
        of = now if now is not None and now["s"] == "in_progress" else was or {}
        known = now or was or {}
        self._changes.append(
            Change(
                self._place,
                float(known.get("u", 0)) / 1e6 - self._offset,
                transaction,
                False,
                UUID(task),
                *states,
                int(of.get("a", 0)),
                UUID(of["P"]) if "P" in of else None,
                *_counts(was),
                int(known.get("x", _MOST_RETRIES)),
                *_counts(now),
            )
        )


def _counts(row: Row | None) -> tuple[int | None, int | None]:
    return (None, None) if row is None else (int(row.get("r", 0)), int(row.get("c", 0)))


def _transactions(directory: Path) -> Iterator[list[Command]]:
    """Yields the commands between MULTI and EXEC, and each other one alone; the last ones may be half written."""
    together: list[Command] | None = None
    for command in _commands(directory):
        match command[0].upper():
            case "MULTI":
                together = []
            case "EXEC":
                if together:
                    yield together
                together = None
            case name if together is None:
                yield [[name, *command[1:]]]
            case name:
                together.append([name, *command[1:]])


def _commands(directory: Path) -> Iterator[Command]:
    files = sorted(directory.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
    data = b"".join(path.read_bytes() for path in files or directory.glob("appendonly.aof"))
    at = 0
    while data[at : at + 1] == b"*":
        end = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : end]), end + 2
        command = []
        for _ in range(count):
            end = data.find(b"\r\n", at)
            size = int(data[at + 1 : end]) if end > 0 else len(data)
            at = end + 2 + size + 2
            if at > len(data):
                return
            command.append(data[end + 2 : at - 2].decode(errors="backslashreplace"))
        yield command
