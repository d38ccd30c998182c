"""The connections of a queue: for claims, for everything else, and one that listens for inserts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.engine import URL

from fang_async.bounded import BoundedConnection
from fang_async.connecting import Connector, Password
from fang_async.home import HomeLoop
from fang_async.listener import Listener
from fang_async.pooler import PoolerRunner
from fang_async.reserve import Reserve
from fang_async.runner import Runner
from fang_core.errors import BackendError, SchemaError, UsageError
from fang_core.forks import in_child
from fang_core.logs import SafeLogger
from fang_core.turns import WAITS, Turns, waits_for
from fang_postgres.connecting import ASK_AFTER, UNUSED_FOR
from fang_postgres.operations import Operations
from fang_postgres.revisions import schema_problem
from fang_postgres.sql.fragments import channel

T = TypeVar("T")

logger = SafeLogger("fang_async")


class Connections:
    """Opened by the first who needs them, and closed by whom opened them: the application, or the last of its pools."""

    def __init__(
        self,
        database: str | URL,
        max_pool_size: int,
        operations: Operations,
        home: HomeLoop,
        *,
        behind_pooler: bool = False,
        password: Password | None = None,
        wait_for_database: timedelta = timedelta(0),
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self.dedicated = Connector(database, password, operations.schema, keeps_session=not behind_pooler)
        """Makes a connection out of the pool, on whatever loop: for a listener, or a heart."""
        self._max_pool_size = max_pool_size
        self._operations = operations
        self._home = home
        self._turns = Turns(wait_for_database)
        self._closings = 0  # a call that waits for the database ends when the queue is closed
        self.keeps_session = not behind_pooler
        """Whether a connection has its server for good."""
        self._begin()
        in_child(self, Connections._begin)

    def _begin(self) -> None:
        """Closed; also in a child, where what there was is the parent's: the next who needs one connects anew."""
        self._writes: Runner | None = None
        self._claims: Runner | None = None
        self._opened_by_application = False
        self._pools = 0
        self.listener = Listener(self.dedicated, channel(self._operations.schema))

    @property
    def is_open(self) -> bool:
        """Whether somebody opened them and nobody closed them."""
        return self._writes is not None and not self._home.has_ended

    @property
    def connects_within(self) -> float:
        """Seconds for a connect."""
        return self.dedicated.connects_within

    @property
    def are_lent(self) -> bool:
        """Whether pools have them."""
        return self._pools > 0

    async def open(self) -> None:
        """Opens them for the application, until ``close()``; checks the tables."""
        await self.call(self._check)
        self._opened_by_application = True

    async def writes(self) -> Runner:
        """For the application's calls, and for what pools write. Opens where nobody did."""
        _, writes = self._opened(by_application=True)
        return writes

    async def call(self, use: Callable[[Runner], Awaitable[T]]) -> T:
        """Returns what ``use`` makes of the runner for the application's calls; while the database is away it is called
        again, for ``wait_for_database``. Opens the connections if they are not open."""
        return await self._outlast(lambda: self._use(use))

    async def _use(self, use: Callable[[Runner], Awaitable[T]]) -> T:
        return await use(await self.writes())

    async def _outlast(self, attempt: Callable[[], Awaitable[T]]) -> T:
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
                logger.debug(WAITS, give_up_at - now, error)
                self._turns.failed(now)
                if not await self._has_turn(give_up_at, closings):
                    raise
            else:
                if give_up_at is not None:
                    self._turns.ended()
                return result

    async def _has_turn(self, give_up_at: float, closings: int) -> bool:
        """Waits for the turn of a call, or for its last one; returns False if the queue is closed meanwhile."""
        while (now := time.monotonic()) < give_up_at and (seconds := self._turns.wait(now)):
            await asyncio.sleep(min(seconds, give_up_at - now))
            if closings != self._closings:
                return False
        return True

    async def lend(self) -> tuple[Runner, Runner]:
        """For a pool, until it gives them back: for claims, and for writes. Opens them, and checks the tables."""
        claims, writes = self._opened(by_application=False)
        lent = claims, writes.for_pool()
        self._pools += 1
        try:
            await self._outlast(lambda: self._check(lent[1]))
        except BaseException:
            await self.give_back()
            raise
        return lent

    async def give_back(self) -> None:
        """A pool has ended; with the last one goes what no application opened."""
        self._pools = max(0, self._pools - 1)
        if self._pools <= 0 and not self._opened_by_application:
            await self._close()

    async def close(self) -> None:
        """The application needs them no more: closes them, or has the last of the pools close them. Idempotent."""
        self._closings += 1
        self._opened_by_application = False
        if self._pools <= 0:
            await self._close()

    async def end(self) -> None:
        """Closes them although pools may have them, since their event loop ends."""
        self._pools = 0
        await self.close()

    def abandon(self) -> None:
        """Drops them: their event loop has ended, or stands still. Does not wait."""
        for runner in (self._writes, self._claims):
            if runner is not None:
                runner.reserve.abandon()
        self.listener.abandon()
        self._begin()

    async def _close(self) -> None:
        writes, claims = self._writes, self._claims
        self._writes = self._claims = None
        self._home.leave()
        try:
            if writes is not None:
                await writes.close()
        finally:  # also where this is cancelled
            if claims is not None:
                await claims.close()

    def _opened(self, *, by_application: bool) -> tuple[Runner, Runner]:
        """For claims and for writes, on the running event loop. Raises ``UsageError`` if another one has them."""
        self._home.enter()
        if self._writes is None or self._claims is None:
            # Two pools: a claim never waits until a run of the application gives a connection back.
            self._claims = self._runner(Reserve(self.dedicated, 1, UNUSED_FOR))
            # Behind a pooler the BEGIN of each operation asks already, and one that stands still would not answer.
            lives = BoundedConnection.lives if self.keeps_session else None
            writes = Reserve(self.dedicated, self._max_pool_size, UNUSED_FOR, lives=lives, ask_after=ASK_AFTER)
            self._writes = self._runner(writes)
            self._opened_by_application = by_application
        return self._claims, self._writes

    async def _check(self, runner: Runner) -> None:
        problem = schema_problem(self._operations.schema, await runner.run(self._operations.version()))
        if problem is not None:
            raise SchemaError(problem)

    def _runner(self, reserve: Reserve) -> Runner:
        return (Runner if self.keeps_session else PoolerRunner)(reserve, self._operations.schema)
