"""The proxy reads messages however they arrive in pieces, and loses the one reply that it is asked to."""

import struct

import pytest

from tests.faults.pgproxy import Backend, Frontend, split

STARTUP = struct.pack("!iih", 10, 196_608, 0)
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


BEGUN = message(b"C", b"BEGIN\0") + message(b"Z", b"T")
DONE = message(b"C", b"DELETE 1\0") + message(b"Z", b"T")
COMMITTED = message(b"C", b"COMMIT\0") + message(b"Z", b"I")
ROLLED_BACK = message(b"C", b"ROLLBACK\0") + message(b"Z", b"I")
BY_ITSELF = message(b"C", b"DELETE 1\0") + message(b"Z", b"I")
REFUSED = message(b"E", b"SERROR\0\0") + message(b"Z", b"I")


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_texts_of_statements(size: int) -> None:
    prepared = message(b"P", b"s1\0DELETE FROM a\0\0\0") + message(b"S", b"")
    bound = message(b"B", b"\0s1\0\0\0\0\0\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")
    sent = STARTUP + message(b"Q", b"BEGIN\0") + prepared + bound
    frontend = Frontend()
    told = [frontend.feed(sent[place : place + size]) for place in range(0, len(sent), size)]
    assert b"".join(passed for passed, _, _ in told) == sent
    assert [text for _, texts, _ in told for text in texts] == [b"BEGIN\0", b"DELETE FROM a"]


def test_encryption_is_refused() -> None:
    frontend = Frontend()
    assert frontend.feed(SSL_REQUEST) == (b"", [], True)
    assert frontend.feed(STARTUP) == (STARTUP, [], False)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        ([BEGUN, DONE, COMMITTED], COMMITTED),
        ([BY_ITSELF], BY_ITSELF),
        ([BEGUN, DONE, ROLLED_BACK], None),
        ([REFUSED], None),
        ([BEGUN, DONE], None),
    ],
)
def test_the_reply_that_is_lost(answers: list[bytes], lost: bytes | None, size: int) -> None:
    backend = Backend()
    backend.watched = True
    data = b"".join(answers)
    pieces = [piece for place in range(0, len(data), size) for piece in backend.feed(data[place : place + size])]
    assert b"".join(piece for piece, _ in pieces) == data
    assert [piece for piece, ends in pieces if ends] == ([] if lost is None else [lost])


def test_what_is_not_watched_passes_at_once() -> None:
    backend = Backend()
    assert list(backend.feed(BEGUN[:-3])) == [(message(b"C", b"BEGIN\0"), False)]


def test_after_the_end_of_a_transaction_nothing_is_watched() -> None:
    backend = Backend()
    backend.watched = True
    list(backend.feed(ROLLED_BACK))
    assert not any(ends for _, ends in backend.feed(COMMITTED))


def test_split_leaves_the_rest() -> None:
    assert split(COMMITTED + b"Z\0") == ([message(b"C", b"COMMIT\0"), message(b"Z", b"I")], b"Z\0")
