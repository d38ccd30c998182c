"""The verbs on the records of pools."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from fang_core.backends.pools import Live, PoolRecord
from fang_core.record import PoolInfo
from fang_redis.connections.sending import TRIES, Sending
from fang_redis.operations import Verb
from fang_redis.records import as_json, live_json, pool_json, pool_of, time_of, told_of


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
            pool = pool_of(str(pool_id), text)._replace(kinds=tuple(kinds), isolated_kinds=tuple(isolated_kinds))
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
        info = PoolInfo(*pool[:7], time_of(started or 0), bool(stopping), from_json(runs or "{}"))
        if workers:
            info = info._replace(workers=int(workers))
        if live:
            seen_at, (busy, waiting, told) = told_of(live)
            info = info._replace(busy=busy, waiting=waiting, seen_at=seen_at, live=told)
    except (ValueError, KeyError, TypeError):
        return None
    return info
