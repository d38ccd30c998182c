"""The thread of an asyncio queue runs each call to its end, whatever becomes of those who wait."""

import asyncio
import threading

import pytest

from fang_sqlite.aio.file_thread import FileThread


async def test_it_returns_and_raises_what_the_function_does() -> None:
    thread = FileThread("test")
    assert await thread.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await thread.run(divmod, 7, 0)
    thread.close()


async def test_a_call_that_has_begun_goes_on_when_its_caller_is_cancelled() -> None:
    thread, begun, goes_on, ended = FileThread("test"), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        goes_on.wait()
        ended.set()

    caller = asyncio.create_task(thread.run(work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not ended.is_set()
    goes_on.set()
    assert await thread.run(ended.is_set)  # behind it, on the same thread
    thread.close()


async def test_a_call_that_was_cancelled_before_its_turn_is_left_out() -> None:
    thread, goes_on, ran = FileThread("test"), threading.Event(), threading.Event()
    first = asyncio.create_task(thread.run(goes_on.wait))
    second = asyncio.create_task(thread.run(ran.set))
    await asyncio.sleep(0)  # both have been put into the queue
    second.cancel()
    goes_on.set()
    await first
    await thread.run(int)
    assert not ran.is_set()
    thread.close()


async def test_what_gives_things_back_is_never_left_out() -> None:
    thread, goes_on, ran = FileThread("test"), threading.Event(), threading.Event()
    first = asyncio.create_task(thread.run(goes_on.wait))
    second = asyncio.create_task(thread.finish(ran.set))
    await asyncio.sleep(0)  # both have been put into the queue
    second.cancel()
    goes_on.set()
    await first
    await thread.run(int)
    assert second.cancelled()
    assert ran.is_set()
    thread.close()


def test_it_serves_several_loops_and_outlives_one_that_ends_meanwhile() -> None:
    thread, begun, goes_on = FileThread("test"), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        goes_on.wait()

    async def leave() -> None:
        task = asyncio.create_task(thread.run(work))
        await asyncio.to_thread(begun.wait)
        task.cancel()

    asyncio.run(leave())
    goes_on.set()
    assert asyncio.run(thread.run(len, "four")) == 4
    thread.close()


async def test_it_begins_again_after_it_was_closed() -> None:
    thread = FileThread("test")
    thread.close()
    assert await thread.run(int) == 0
    thread.close()
    assert await thread.run(int) == 0
    thread.close()
