"""Keeps the kinds in a pool's record up to date: those that it runs, and those whose suspects it isolates."""

from collections.abc import Awaitable, Callable, Collection

from fang_core.backends.store import PoolStore
from fang_core.pool.identity import PoolIdentity
from fang_core.tasks.registry import Kinds


class RecordedKinds:
    """Compares a pool's kinds with those in its record. The claimer calls ``learn`` and ``write`` before each claim.

    Args:
        isolated: returns the kinds whose suspects run in child processes.
        on_learnt: called when the classes in the registry have changed.
        declare: called once the record names the new kinds; writes the limits that the classes declare.
    """

    def __init__(
        self,
        kinds: Kinds,
        store: PoolStore,
        identity: PoolIdentity,
        *,
        isolated: Callable[[], Collection[str]],
        on_learnt: Callable[[], None],
        declare: Callable[[], Awaitable[None]],
    ) -> None:
        self._kinds = kinds
        self._store = store
        self._identity = identity
        self._isolated = isolated
        self._on_learnt = on_learnt
        self._declare = declare
        self._has_all = True  # whether the record names all kinds of the registry
        self._recorded_isolated = isolated()

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the kinds that the pool runs now."""
        return tuple(self._kinds.classes)

    @property
    def may_change(self) -> bool:
        """Returns whether ``learn`` or ``write`` may have something to do; any thread may ask."""
        return self._kinds.is_behind or self._isolates_others()

    def learn(self, now: float) -> bool:
        """Reads the registry again if it has changed; returns whether the pool's kinds did."""
        has_changed = self._kinds.learn(now)
        if has_changed:
            self._on_learnt()
            self._has_all = False
        return has_changed

    async def write(self) -> None:
        """Writes the kinds into the pool's record, unless it names them already."""
        if self._has_all and not self._isolates_others():
            return
        isolated = self._isolated()
        if not await self._store.update_kinds(
            self._identity.id, tuple(sorted(self._kinds.classes)), tuple(sorted(isolated))
        ):
            return  # the record is gone: the next claim finds that out, and the pool goes on under another id
        if not self._has_all:
            await self._declare()
        self._has_all, self._recorded_isolated = True, isolated

    def _isolates_others(self) -> bool:
        """Returns whether the pool isolates other kinds than its record says."""
        isolated = self._isolated()
        return isolated is not self._recorded_isolated and isolated != self._recorded_isolated
