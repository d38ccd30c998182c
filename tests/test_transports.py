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
    texts = [str(each.message) for each in recwarn if "unclosed transport" in str(each.message)]
    assert len(texts) == 1
    assert "test_the_warning_names_the_test" in texts[0]
