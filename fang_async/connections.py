"""The connections of a queue: for claims, for everything else, and one that listens for inserts."""

from sqlalchemy.engine import URL

from fang_async.bounded import BoundedConnection
from fang_async.connecting import Connector, Password
from fang_async.home import HomeLoop
from fang_async.listener import Listener
from fang_async.pooler import PoolerRunner
from fang_async.reserve import Reserve
from fang_async.runner import Runner
from fang_core.errors import SchemaError, UsageError
from fang_core.forks import in_child
from fang_postgres.connecting import ASK_AFTER, UNUSED_FOR
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.sql.fragments import channel


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
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self.dedicated = Connector(database, password, operations.schema, keeps_session=not behind_pooler)
        """Makes a connection out of the pool, on whatever loop: for a listener, or a heart."""
        self._max_pool_size = max_pool_size
        self._operations = operations
        self._home = home
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
    def are_lent(self) -> bool:
        """Whether pools have them."""
        return self._pools > 0

    async def open(self) -> None:
        """Opens them for the application, until ``close()``; checks the tables."""
        await self._check(await self.writes())
        self._opened_by_application = True

    async def writes(self) -> Runner:
        """For the application's calls, and for what pools write. Opens where nobody did."""
        _, writes = self._opened(by_application=True)
        return writes

    async def lend(self) -> tuple[Runner, Runner]:
        """For a pool, until it gives them back: for claims, and for writes. Opens them, and checks the tables."""
        claims, writes = self._opened(by_application=False)
        lent = claims, writes.for_pool()
        self._pools += 1
        try:
            await self._check(lent[1])
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
