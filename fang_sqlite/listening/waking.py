"""Tells pools that there is something to do: those of this process by a call, those of other processes by a datagram.

A process whose pools listen has a socket in the directory next to the database, and a pool that waits has a mark there.
A process that has committed a due task sends a datagram to the sockets of waiting pools. It costs little if one is
lost: while a pool waits, its process looks ten times a second whether anybody has committed anything. That also finds
what an application's own transaction has inserted, and a writer that knows nothing of pools.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fang_core.backends.waking import LateRows, OnListenLost, OnTold, OnWake
from fang_core.errors import BackendError
from fang_core.interpreter.forks import in_child
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.listening import marks, sockets
from fang_sqlite.listening.ear import Ear
from fang_sqlite.listening.marks import Mark


@dataclass
class _Listener:
    """Wants to be woken; ``waits`` has the pools for which it waits just now."""

    task_types: frozenset[str]
    on_wake: OnWake
    on_told: OnTold
    on_listen_lost: OnListenLost
    waits: set[UUID] = field(default_factory=set)


class Waking:
    """The listeners of this process on one file, and what they share: a socket, and the thread that reads it.

    Args:
        directory: where sockets and marks are.
        data_version: returns a number that changes when anybody commits anything; that thread alone calls it.
    """

    def __init__(self, directory: Path, data_version: Callable[[], int]) -> None:
        self._directory = directory
        self.data_version = data_version
        self._lock = threading.Lock()
        self._listeners: dict[object, _Listener] = {}
        self._ear: Ear | None = None
        in_child(self, Waking._forget)

    # For those who listen ---------------------------------------------------------------------------------------------

    def listen(
        self,
        listener: object,
        task_types: Iterable[str],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost = lambda _: None,
    ) -> None:
        """Calls these, on any thread, until ``unlisten``."""
        with self._lock:
            self._listeners[listener] = _Listener(frozenset(task_types), on_wake, on_told, on_listen_lost)
            if self._ear is None:
                self._ear = Ear(self._directory, f"{os.getpid()}-{uuid4().hex[:8]}{sockets.SUFFIX}", self)
                self._ear.start()

    def unlisten(self, listener: object) -> None:
        """Ends it. Idempotent."""
        with self._lock:
            former = self._listeners.pop(listener, None)
            ear = self._ear
            if not self._listeners:
                self._ear = None
        if ear is None or former is None:
            return
        with suppress(OSError):  # if the directory is not writable any more
            for pool_id in former.waits:
                marks.remove(self._directory, Mark(pool_id, ear.name))
        if self._ear is None:
            ear.close()

    def set_waiting(self, listener: object, pool_id: UUID, waits: bool) -> None:
        """Notes whether a pool waits to be woken."""
        with self._lock:
            listening, ear = self._listeners.get(listener), self._ear
        mark = Mark(pool_id, "" if listening is None or ear is None else ear.name)
        if not waits:
            marks.remove(self._directory, mark)
            if listening is not None:
                listening.waits.discard(pool_id)
            return
        marks.put(self._directory, mark)
        if listening is not None and ear is not None:
            listening.waits.add(pool_id)
            ear.look_soon()

    def waiting(self) -> set[UUID]:
        """Returns the pools of all processes that wait."""
        return {mark.pool_id for mark in marks.marks_in(marks.names_in(self._directory))}

    # For those who write ----------------------------------------------------------------------------------------------

    def tell(self, tx: Transaction) -> None:
        """Sends all listeners the notifications of a committed transaction.

        Nothing is raised if other processes cannot be notified, such as for want of a descriptor: the caller would take
        the committed transaction for lost. Waiting pools check the file, and hearts their messages.
        """
        self._tell_here(tx.woken, tx.late, tx.told)
        with suppress(OSError):
            self._tell_processes(tx)

    def _tell_processes(self, tx: Transaction) -> None:
        names = marks.names_in(self._directory)
        if tx.late or tx.told:
            reached = {name for name in names if name.endswith(sockets.SUFFIX)}
        else:
            reached = {mark.socket for mark in marks.marks_in(names) if mark.socket}
        ear = self._ear
        if ear is not None:
            reached.discard(ear.name)
        if reached:
            self._tell_others(reached, _message(tx))

    def close(self) -> None:
        """Ends all listening. Idempotent."""
        for listener in tuple(self._listeners):
            self.unlisten(listener)

    def _tell_others(self, names: Iterable[str], message: bytes) -> None:
        with sockets.unix_socket() as mouth:
            for name in names:
                if not sockets.send(mouth, message, self._directory, name):
                    self._remove_dead(name)

    def _remove_dead(self, name: str) -> None:
        """Removes what a process has left that was killed."""
        sockets.remove(self._directory, name)
        for mark in marks.marks_in(marks.names_in(self._directory)):
            if mark.socket == name:
                marks.remove(self._directory, mark)

    def _tell_here(self, woken: Iterable[str], late: Iterable[str], told: Iterable[UUID]) -> None:
        woken, late, told = frozenset(woken), frozenset(late), frozenset(told)
        for each in self._listening():
            if not each.task_types.isdisjoint(woken):
                each.on_wake(None)
            for task_type in each.task_types & late:
                each.on_wake(LateRows(task_type, 0, None))
            for pool_id in told:
                each.on_told(pool_id)

    # For the ear, on its thread ---------------------------------------------------------------------------------------

    def hear(self, message: bytes | None) -> None:
        """Passes a message of another process to the listeners; None, for a commit, wakes those that wait."""
        if message is None:
            for each in self._listening():
                if each.waits:
                    each.on_wake(None)
            return
        with suppress(ValueError, TypeError, KeyError):  # it is of another version
            said: dict[str, list[str]] = json.loads(message)
            self._tell_here(said["woken"], said["late"], [UUID(hex=pool_id) for pool_id in said["told"]])

    def is_waited_for(self) -> bool:
        """Returns whether a pool of this process waits."""
        return any(each.waits for each in self._listening())

    def reached_anew(self) -> None:
        """Puts the marks again, which were next to the socket."""
        ear = self._ear
        for each in self._listening():
            for pool_id in tuple(each.waits):
                if ear is not None:
                    marks.put(self._directory, Mark(pool_id, ear.name))

    def lost(self, error: BackendError) -> None:
        """Tells the listeners that nothing is heard for a while."""
        for each in self._listening():
            each.on_listen_lost(error)

    # ------------------------------------------------------------------------------------------------------------------

    def _listening(self) -> list[_Listener]:
        with self._lock:
            return list(self._listeners.values())

    def _forget(self) -> None:
        """Makes a child's copy one without listeners, and without the parent's sockets."""
        self._lock = threading.Lock()
        self._listeners, ear, self._ear = {}, self._ear, None
        if ear is not None:
            ear.forget()


def _message(tx: Transaction) -> bytes:
    said: dict[str, Any] = {
        "woken": sorted(tx.woken),
        "late": sorted(tx.late),
        "told": [pool_id.hex for pool_id in tx.told],
    }
    return json.dumps(said).encode()
