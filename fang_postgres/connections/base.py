"""Manages a queue's connections: for claims, for everything else, and one that listens. A mode makes them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from fang_core.backends.waking import OnListenLost, OnTold, OnWake
from fang_core.errors import BackendError, SchemaError, UsageError
from fang_core.interpreter.forks import in_child
from fang_core.logs import SafeLogger
from fang_core.pool.manual import ManualPool
from fang_core.pool.runtime import Lock, Runtime
from fang_core.tasks.arguments import check_flag
from fang_core.turns import WAITS, Turns, waits_for
from fang_postgres.names import channel
from fang_postgres.operations import Operations
from fang_postgres.pool.heart import HeartConnection, PostgresHeart
from fang_postgres.pool.listener import Listener, ListeningConnection
from fang_postgres.pool.store import Database, IndirectDatabase, PostgresStore
from fang_postgres.revisions import schema_problem

T = TypeVar("T")


class DedicatedConnection(HeartConnection, ListeningConnection, Protocol):
    """A connection that is not shared, for a heart or a listener."""


class ModeDatabase(Protocol):
    """Runs operations in a mode, with or without coroutines."""

    def for_pool(self) -> Self:
        """Returns the ``Database`` of a pool's writes, on the same connections."""
        ...


R = TypeVar("R", bound=ModeDatabase)


class BaseConnections(ABC, Generic[R]):
    """Opens connections at their first use. The application closes them if it opened them, otherwise the last pool."""

    _logger: ClassVar[SafeLogger]
    _make_runtime: ClassVar[type[Runtime]]
    _make_lock: ClassVar[type[Lock]]
    _make_guard: ClassVar[type[AbstractContextManager[Any]]]
    """Makes a lock that is never held while something is awaited; only threads need one."""

    def __init__(
        self, max_pool_size: int, operations: Operations, *, behind_pooler: bool, wait_for_database: timedelta
    ) -> None:
        check_flag("behind_pooler", behind_pooler)
        if type(max_pool_size) is not int or max_pool_size < 1:
            raise UsageError("max_pool_size must be an int, at least 1")
        self._max_pool_size = max_pool_size
        self._operations = operations
        self._turns = Turns(wait_for_database)
        self._closings = 0  # a call that waits for the database ends when the queue is closed
        self.keeps_session = not behind_pooler
        """Whether a connection keeps its server session."""
        self._begin()
        in_child(self, BaseConnections._begin)

    def _begin(self) -> None:
        """Resets to closed; in a forked child too, as open connections remain the parent's: its next call connects."""
        self._changing = self._make_guard()
        self._databases: tuple[R, R] | None = None  # for claims, and for writes
        self._opened_by_application = False
        self._pools = 0
        self.listener = Listener(
            self._make_runtime, self._dedicate, channel(self._operations.schema), lock=self._make_guard
        )

    @property
    def is_open(self) -> bool:
        """Returns whether the connections are open."""
        return self._databases is not None

    # Of the application -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the connections for the application, until ``close()``; checks the tables."""
        await self._outlast(lambda: self._at_once(self._check))
        self._opened_by_application = True

    async def writes(self) -> R:
        """Returns the ``Database`` of the application's calls; opens the connections if they are not open."""
        return self._opened_writes()

    async def use(self, work: Callable[[R], Awaitable[T]]) -> T:
        """Calls ``work`` with the ``Database`` of the application's calls, and returns its result.

        While the database is away, calls it again, for ``wait_for_database``. Opens the connections if they are not
        open.
        """
        return await self._outlast(lambda: work(self._opened_writes()))

    def _opened_writes(self) -> R:
        self._enter()
        with self._changing:
            return self._open(by_application=True)[1]

    async def _at_once(self, use: Callable[[Database], Awaitable[T]]) -> T:
        return await use(self._as_coroutines(self._opened_writes()))

    async def _outlast(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of ``attempt``; calls it again while the database is away, for ``wait_for_database``."""
        give_up_at: float | None = None
        closings = self._closings
        while True:
            try:
                result = await attempt()
            except BackendError as error:
                now = time.monotonic()
                if give_up_at is None and self._turns.within:
                    give_up_at = now + self._turns.within
                if give_up_at is None or now >= give_up_at or not waits_for(error):
                    raise
                self._logger.debug(WAITS, give_up_at - now, error)
                self._turns.failed(now)
                if not await self._has_turn(give_up_at, closings):
                    raise
            else:
                if give_up_at is not None:
                    self._turns.ended()
                return result

    async def _has_turn(self, give_up_at: float, closings: int) -> bool:
        """Waits for a call's next turn, or until its time is over; returns False if the queue is closed meanwhile."""
        while (now := time.monotonic()) < give_up_at and (seconds := self._turns.wait(now)):
            await self._sleep(min(seconds, give_up_at - now))
            if closings != self._closings:
                return False
        return True

    async def close(self) -> None:
        """Closes the connections for the application; if pools use them, the last pool closes them. Idempotent.

        Never closes an engine of the application's.
        """
        self._closings += 1
        with self._changing:
            self._opened_by_application = False
            is_needed = self._pools > 0
        if not is_needed:
            await self._close()

    # Of pools ---------------------------------------------------------------------------------------------------------

    async def lend_store(self) -> PostgresStore:
        """Returns a store for one pool, which returns its connections; opens them, and checks the tables."""
        claims, writes = await self.lend()
        return PostgresStore(self._operations, claims, writes, self)

    def manual_pool(self) -> ManualPool:
        """Makes the pool that the queue registers while tasks are fetched by hand."""

        def store(call: Callable[[Callable[[Any], Any]], Awaitable[Any]]) -> PostgresStore:
            database = IndirectDatabase(call)
            return PostgresStore(self._operations, database, database, self)

        async def outlast(use: Callable[[Database], Awaitable[Any]]) -> Any:
            return await self._outlast(lambda: self._at_once(use))

        return ManualPool(self._make_runtime, self._make_lock, store=store(outlast), last_store=store(self._at_once))

    async def lend(self) -> tuple[Database, Database]:
        """Lends a pool a ``Database`` for its claims and one for its writes. Opens them, and checks the tables."""
        self._enter()
        with self._changing:
            claims, writes = self._open(by_application=False)
            self._pools += 1
        lent = self._as_coroutines(claims), self._as_coroutines(writes.for_pool())
        try:
            await self._outlast(lambda: self._check(lent[1]))
        except BaseException:
            await self.give_back()
            raise
        return lent

    async def give_back(self, subscriber: object = None, /) -> None:
        """Ends a pool's subscription and its use; the last pool closes connections that no application opened."""
        try:
            await self.listener.unsubscribe(subscriber)
        finally:  # also if this is cancelled or interrupted
            with self._changing:
                self._pools = max(0, self._pools - 1)
                is_needed = self._pools > 0 or self._opened_by_application
            if not is_needed:
                await self._close()

    def subscribe(
        self,
        subscriber: object,
        task_types: tuple[str, ...],
        on_wake: OnWake,
        on_told: OnTold,
        on_listen_lost: OnListenLost,
        /,
    ) -> None:
        """See ``Listener.subscribe``."""
        self.listener.subscribe(subscriber, task_types, on_wake, on_told, on_listen_lost)

    def heart(self, locks: bool, /) -> PostgresHeart:
        """Makes a heart, which may hold a lock if connections keep their session."""
        locks = locks and self.keeps_session
        connect = partial(self._dedicate, keeps_session=locks)
        return PostgresHeart(self._operations, connect, self._typed, locks=locks)

    def _open(self, *, by_application: bool) -> tuple[R, R]:
        if self._databases is None:
            self._databases = self._make_databases()
            self._opened_by_application = by_application
        return self._databases

    async def _close(self) -> None:
        with self._changing:
            databases, self._databases = self._databases, None
        self._left()
        if databases is not None:
            claims, writes = databases
            try:
                await self._close_database(writes)
            finally:  # also if this is cancelled
                await self._close_database(claims)

    async def _check(self, database: Database) -> None:
        problem = schema_problem(self._operations.schema, await database.run(self._operations.version()))
        if problem is not None:
            raise SchemaError(problem)

    # Of the mode ------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Is called before connections are opened or used; raises ``UsageError`` if they are another event loop's."""

    def _left(self) -> None:
        """Is called when nothing is open any more."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    @abstractmethod
    def _make_databases(self) -> tuple[R, R]:
        """Makes the ``Database`` of claims, and that of everything else."""

    @abstractmethod
    def _as_coroutines(self, database: R) -> Database: ...

    @abstractmethod
    async def _close_database(self, database: R) -> None: ...

    @abstractmethod
    async def _dedicate(self, *, keeps_session: bool = True) -> DedicatedConnection:
        """Makes a connection for a listener or a heart, in bounded time."""

    @abstractmethod
    def _typed(self, error: BaseException) -> BackendError | None:
        """Returns the typed error for a driver's error, and None for any other error."""
