"""Defines the memory that a pool shares with a child, for what each must know of the other during a run.

It has no lock, so that neither side can hold up the other, whenever that dies.
"""

from ctypes import Structure, c_bool, c_double, c_ubyte, c_ulonglong, c_wchar
from math import isnan, nan
from multiprocessing.context import SpawnContext
from typing import Any, Final

from fang_core.failure import clean
from fang_core.record import Progress
from fang_core.runs.run import LONGEST_TEXT, Lease

_LEASES: Final[tuple[Lease, ...]] = tuple(Lease)

_READS: Final = 10
"""How often the pool reads a progress that changes while it reads it, before it waits for its next look."""


class _Progress(Structure):
    _fields_ = (
        ("done", c_double),
        ("total", c_double),  # not a number if it is not known
        ("text", c_wchar * LONGEST_TEXT),
    )


class _Fields(Structure):
    _fields_ = (
        ("begun", c_ulonglong),
        ("running_since", c_double),
        ("completed", c_bool),
        ("lease", c_ubyte),
        ("times_reported", c_ulonglong),
        ("reported", _Progress * 2),  # the child writes the one that the pool does not read
    )


class SharedMemory:
    """Is made by the pool, and passed to the child when that starts."""

    def __init__(self, context: SpawnContext) -> None:
        self._fields: Any = context.RawValue(_Fields)

    # Written by the child ---------------------------------------------------------------------------------------------

    @property
    def begun(self) -> int:
        """The number of the last call that the child has begun; they count from 1."""
        return int(self._fields.begun)

    @begun.setter
    def begun(self, number: int) -> None:
        self._fields.begun = number

    @property
    def running_since(self) -> float:
        """Returns when the child had imported the task's class, by the monotonic clock; 0.0 until then."""
        return float(self._fields.running_since)

    @running_since.setter
    def running_since(self, now: float) -> None:
        self._fields.running_since = now

    @property
    def completed(self) -> bool:
        """See ``Run.completed``."""
        return bool(self._fields.completed)

    @completed.setter
    def completed(self, value: bool) -> None:
        self._fields.completed = value

    @property
    def reported(self) -> Progress | None:
        """See ``Run.reported``; None too if the child writes so fast that the pool cannot read it just now."""
        for _ in range(_READS):
            times = self._fields.times_reported
            read = _Progress.from_buffer_copy(self._fields.reported[times % 2])
            if times == self._fields.times_reported:
                return _as_progress(read) if times else None
        return None

    @reported.setter
    def reported(self, progress: Progress) -> None:
        done, total, text = progress
        text = clean(text[:LONGEST_TEXT], 4 * LONGEST_TEXT)  # without zeros, which would end it
        times = self._fields.times_reported + 1
        self._fields.reported[times % 2] = _Progress(done, nan if total is None else total, text)
        self._fields.times_reported = times

    # Written by the pool ----------------------------------------------------------------------------------------------

    @property
    def lease(self) -> Lease:
        """See ``Run.lease``."""
        return _LEASES[int(self._fields.lease)]

    @lease.setter
    def lease(self, lease: Lease) -> None:
        self._fields.lease = _LEASES.index(lease)

    def clear(self) -> None:
        """Is called before each call."""
        fields = self._fields
        fields.running_since, fields.completed, fields.lease = 0.0, False, 0
        fields.times_reported = 0


def _as_progress(read: _Progress) -> Progress:
    return Progress(_as_number(read.done), None if isnan(read.total) else _as_number(read.total), read.text)


def _as_number(value: float) -> float:
    return int(value) if value.is_integer() else value
