"""The verbs on the records of pools."""

from collections.abc import Sequence
from uuid import UUID

from fang_core.backends.store import Live, PoolRecord
from fang_redis.operations import Verb
from fang_redis.records import live_json, pool_json, pool_of
from fang_redis.sending import TRIES, Sending


class Pools:
    """The verbs with which a pool makes itself known."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def register(self, pool: PoolRecord, /) -> Verb[None]:
        """See ``PoolStore.register``."""
        yield from self._sending.script("register", str(pool.id), pool_json(pool))

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
