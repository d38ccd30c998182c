"""A transport that is left open says in which test it was made."""

import asyncio
import gc
import socket

import pytest


def test_the_warning_names_the_test(recwarn: pytest.WarningsRecorder) -> None:
    ours, theirs = socket.socketpair()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()
    del loop
    gc.collect()
    ours.close()
    theirs.close()
    told = [str(each.message) for each in recwarn]  # perhaps of other tests, too
    assert any("unclosed transport" in text and "test_the_warning_names_the_test" in text for text in told)
