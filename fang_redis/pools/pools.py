"""Implements the verbs on the records of pools."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from fang_core.backends.pools import Live, PoolRecord
from fang_core.record import PoolInfo
from fang_redis.connections.sending import TRIES, Sending
from fang_redis.operations import Verb
from fang_redis.records import (
    UNREADABLE,
    as_json,
    live_json,
    moment_in,
    object_in,
    pool_json,
    pool_of,
    told_of,
    workers_in,
)


class Pools:
    """The verbs with which a pool makes itself known."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def register(self, pool: PoolRecord, /) -> Verb[None]:
        """See ``PoolStore.register``."""
        yield from self._sending.script("register", str(pool.id), pool_json(pool), _seconds(pool.lease))

    def update_kinds(self, pool_id: UUID, kinds: Sequence[str], isolated_kinds: Sequence[str] = (), /) -> Verb[bool]:
        """See ``PoolStore.update_kinds``."""
        for _ in range(TRIES):
            text = yield from self._sending.command("HGET", "pools", str(pool_id))
            if text is None:
                return False
            try:
                pool = pool_of(str(pool_id), text)
            except UNREADABLE:  # another client has spoilt it: the pool registers itself again
                yield from self.unregister(pool_id)
                return False
            pool = pool._replace(kinds=tuple(kinds), isolated_kinds=tuple(isolated_kinds))
            if (yield from self._sending.script("swap", "pools", str(pool_id), text, pool_json(pool))):
                break
        return True

    def tell_live(self, pool_id: UUID, live: Live, /) -> Verb[None]:
        """See ``PoolStore.tell_live``."""
        yield from self._sending.script("live", str(pool_id), live_json(live))

    def unregister(self, pool_id: UUID, /) -> Verb[None]:
        """See ``PoolStore.unregister``."""
        yield from self._sending.script("unregister", str(pool_id))

    def set_waiting(self, pool_id: UUID, waiting: bool, /) -> Verb[None]:
        """See ``WakeStore.set_waiting``."""
        yield from self._sending.script("waiting", str(pool_id), int(waiting))

    def list_pools(self) -> Verb[list[PoolInfo]]:
        """See ``Verbs.list_pools``."""
        rows = yield from self._sending.script("pools")
        infos = [info for row in rows if (info := _info_of(row)) is not None]
        return sorted(infos, key=lambda info: (info.started_at, info.id))

    def send(self, pool_id: UUID, kind: str, body: dict[str, Any], sender: str, /) -> Verb[bool]:
        """See ``Verbs.send``."""
        message = as_json({"kind": kind, "body": body, "sender": sender})
        return bool((yield from self._sending.script("send", str(pool_id), message)))


def _seconds(span: timedelta) -> str:
    return repr(span.total_seconds())


def _info_of(row: Sequence[Any]) -> PoolInfo | None:
    """Returns what is known of a pool; None if another client has written what cannot be read."""
    pool_id, record, started, workers, stopping, runs, live = row
    try:
        pool = pool_of(pool_id, record)
        info = PoolInfo(*pool[:7], moment_in(started or "0"), bool(stopping), object_in(runs))
        info = info._replace(workers=workers_in(workers, pool.workers))
        if live:
            seen_at, (busy, waiting, told) = told_of(live)
            info = info._replace(busy=busy, waiting=waiting, seen_at=seen_at, live=told)
    except UNREADABLE:
        return None
    return info
