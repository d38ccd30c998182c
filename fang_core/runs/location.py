"""Finds where a run stands that has not ended: in its thread, in its coroutine, or in a child process."""

import sys
from collections.abc import Iterator
from types import CoroutineType, FrameType, GeneratorType
from typing import Any

from fang_core.interpreter.places import place_in
from fang_core.runs.run import Run


def place_of(run: Run, module: str) -> str | None:
    """Returns where a run stands: a line of code, see ``place_in``, or a child process. None if that is not known.

    Call it where the pool lives.
    """
    if run.isolated:
        child = run.child
        return None if child is None else child.place
    worker = run.taken_by
    return None if worker is None else place_in(worker.frames(), module)


def frames_of_thread(thread: int | None) -> Iterator[FrameType]:
    """Yields the frames of a thread, innermost first; nothing if it has ended."""
    frame = None if thread is None else sys._current_frames().get(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back


def frames_of_coroutine(coroutine: Any) -> list[FrameType]:
    """Returns the frames of a suspended coroutine and of those that it awaits, innermost first.

    It follows a worker's coroutine into that of its run, which is driven by hand; see ``Execution``.
    """
    frames: list[FrameType] = []
    awaited = coroutine
    while awaited is not None:
        if isinstance(awaited, CoroutineType):
            frame, following = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, GeneratorType):
            frame, following = awaited.gi_frame, awaited.gi_yieldfrom
        else:
            break
        if frame is None:
            break
        frames.append(frame)
        awaited = frame.f_locals.get("coroutine") if following is None else following
    return frames[::-1]
