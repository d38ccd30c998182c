"""Defines the queue on Postgres for asyncio code: connections and ways to send; the shell has its methods."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from fang_core.errors import MissingExtra

try:
    import asyncpg as _driver  # noqa: F401
except ImportError:
    raise MissingExtra("fang_async.AsyncQueue needs its driver: pip install 'fang-tasks[async]'") from None


from fang_async.caller_connection import CallersConnection, adapt
from fang_async.connections import Connections
from fang_async.database import Database, logger
from fang_async.loop_binding import LoopBinding
from fang_core.backends.async_queue import AsyncBaseQueue
from fang_core.backends.capabilities import Capabilities
from fang_core.backends.verbs import Call
from fang_core.errors import StatementRefused
from fang_core.record import Task
from fang_core.tasks.insert_middleware import InsertMiddleware
from fang_core.tasks.insertion import Bulk, Inject, Overrides, Rules
from fang_core.tasks.payloads.codec import MAX_PAYLOAD_BYTES
from fang_core.tasks.selecting.batches import Batches, OnProgress, removal
from fang_core.tasks.selecting.filter import TaskFilter
from fang_core.words.naming import names_arguments
from fang_postgres import scripts
from fang_postgres.names import DEFAULT_SCHEMA
from fang_postgres.operations import Operations
from fang_postgres.pool.capabilities import capabilities
from fang_postgres.pool.store import PostgresStore
from fang_postgres.verbs import PostgresVerbs, in_ascii

if TYPE_CHECKING:
    from sqlalchemy import URL

T = TypeVar("T")

IN_USE_ELSEWHERE: Final = (
    "this AsyncQueue is in use on another event loop, which still runs: make one AsyncQueue for each loop, or close it "
    "there first; one fang_threaded.Queue serves threads that each run a loop of their own"
)


@names_arguments
class AsyncQueue(AsyncBaseQueue[CallersConnection]):
    """An ``AsyncQueueable`` on Postgres. It can be made before a loop runs.

    It serves one event loop at a time. When that loop has ended, the queue starts over on the next one, with new
    connections; while it still runs, calls on another loop raise ``UsageError``, and nothing is sent.

    ``connection=`` of its methods takes an asyncpg connection, or an ``AsyncSession``, ``async_scoped_session`` or
    ``AsyncConnection`` on Postgres. On a connection in autocommit a call takes effect at once.

    Args:
        database: a URL.
        max_pool_size: connections for the application's calls and for completions.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
        duplicated_tasks: False makes every task unique whose insert does not say otherwise.
        inject: functions that are called with the headers of each insert, which they may change: once for each call,
            before anything is sent, on the caller's thread. The insert raises their exceptions. They are not called for
            tasks of schedules, by pools or by ``schedule_task``, since a tick has no caller.
        insert_middleware: functions from an ``Insertion`` to a context manager that goes around each ``insert_task``
            and ``insert_tasks``, in the context of the caller. Not around tasks of schedules.
        behind_pooler: whether connections go through a transaction pooler, such as PgBouncer. Then nothing is kept in
            a session: pools on this queue poll and hold no lock, and an operation is a transaction of its own.
        wait_for_database: how long ``open`` and the calls of the application, and a pool's start, wait for a database
            that cannot be reached, starts, stops, or is a standby, instead of failing at once: as long as it is certain
            that nothing was written. A call waits without a connection. Without effect on calls with ``connection=``.
        password: returns the password, for a URL without one. It is called for each connection that is made, on the
            loop if it is an async function, or else on a thread of its own; and once more if the password is refused.

    Raises ``UsageError`` if the URL has parameters that cannot take effect.
    """

    _logger = logger
    _makes_rows_ahead = True

    def __init__(
        self,
        database: "str | URL",
        /,
        *,
        max_pool_size: int = 10,
        schema: str = DEFAULT_SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        duplicated_tasks: bool = True,
        inject: Sequence[Inject] = (),
        insert_middleware: Sequence[InsertMiddleware] = (),
        behind_pooler: bool = False,
        wait_for_database: timedelta = timedelta(0),
        password: Callable[[], str | Awaitable[str]] | None = None,
    ) -> None:
        self.rules = Rules(
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            inject=inject,
            insert_middleware=insert_middleware,
        )
        self._operations = Operations(schema)
        self._verbs = PostgresVerbs(self._operations)
        self._loop_binding = LoopBinding(IN_USE_ELSEWHERE, moved=self._abandon, is_busy=self._is_lent, ends=self._end)
        self._connections = Connections(
            database,
            max_pool_size,
            self._operations,
            self._loop_binding,
            behind_pooler=behind_pooler,
            password=password,
            wait_for_database=wait_for_database,
        )
        self._manual = self._connections.manual_pool()
        self._recipe = partial(
            type(self),
            database,
            inject=inject,
            max_pool_size=max_pool_size,
            schema=schema,
            max_payload_bytes=max_payload_bytes,
            duplicated_tasks=duplicated_tasks,
            behind_pooler=behind_pooler,
            wait_for_database=wait_for_database,
            password=password,
            insert_middleware=insert_middleware,
        )

    # Opening and closing ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Returns whether it holds connections."""
        return self._connections.is_open

    @property
    def capabilities(self) -> Capabilities:
        """Returns what it can do beyond what every backend must do."""
        return capabilities(self._connections.keeps_session)

    @property
    def recipe(self) -> Callable[[], "AsyncQueue"]:
        """A function that makes an equal queue in another process."""
        return self._recipe

    @property
    def connects_within(self) -> float:
        """Seconds within which one of the servers answers a connect, if any does."""
        return self._connections.connects_within

    async def open(self) -> None:
        """Connects and checks the tables. Calls of the queue connect by themselves, and pools when they start.

        Raises ``BackendUnavailable``, ``AccessRefused``, or ``SchemaError`` with the command that mends it.
        """
        await self._connections.open()

    async def close(self) -> None:
        """Closes the queue's own connections; if pools still run on it, the last one to stop closes them.

        Idempotent; the queue can be opened again, on another event loop as well. Tasks that were fetched by hand and
        not ended are given back.
        """
        self._loop_binding.check()
        await self._manual.end()
        await self._connections.close()

    def _is_lent(self) -> bool:
        return self._connections.are_lent

    def _abandon(self) -> None:
        self._manual.abandon()
        self._connections.abandon()

    async def _end(self) -> None:
        await self._manual.end()
        await self._connections.end()

    async def store(self) -> PostgresStore:
        """Makes a store for a pool, which closes it at its end; opens the queue until then. Raises like ``open``."""
        return await self._connections.lend_store()

    # How calls are made -----------------------------------------------------------------------------------------------

    async def _do(self, call: Call[T], connection: CallersConnection | None, /) -> T:
        """Repeats the call in ASCII, if the database lacks one of its characters."""
        result: T
        try:
            result = await self._carry_out(call, connection)
        except StatementRefused as error:
            other = None if error.character is None else in_ascii(call)
            if other is None:
                raise
            result = await self._carry_out(other, connection)
        return result

    async def _carry_out(self, call: Call[T], connection: CallersConnection | None) -> Any:
        if call.name == "insert_many" and connection is None:
            return await self._insert_bulk(*call.args)
        plan = call.on(self._verbs)
        if connection is not None:
            return await plan.on_callers(adapt(connection))
        return await self._connections.use(plan.on)

    async def _insert_bulk(self, bulk: Bulk, overrides: Overrides) -> list[Task]:
        inserting = (self._operations, bulk, overrides)

        async def insert(writes: Database) -> list[Task]:
            if bulk.is_unique:
                return await writes.in_transaction(partial(scripts.insert_many, *inserting, notify=True))
            if len(bulk) > scripts.AHEAD:
                return await writes.pipeline(partial(scripts.insert_ahead, *inserting, notify=True))
            chunks = await writes.run_all(scripts.insert_chunks(*inserting, notify=True))
            return [task for chunk in chunks for task in chunk]

        if bulk.is_unique:
            bulk.make_all()
        return await self._connections.use(insert)

    async def _in_batches(
        self, batches: Batches, verb: Callable[..., Any], args: tuple[Any, ...], connection: CallersConnection | None
    ) -> int:
        with batches.told(logger, in_transaction=connection is not None):
            return await self._run(Call[int](verb.__name__, (*args, batches)), connection)

    async def _remove_all(
        self, which: TaskFilter, on_progress: OnProgress | None, connection: CallersConnection | None
    ) -> int:
        verb = PostgresVerbs.remove_any_batch if which.task_types is None else PostgresVerbs.remove_type_batch
        return await self._in_batches(removal(on_progress), verb, (*(which.task_types or ()),), connection)

    async def _begin_to_hold(self) -> UUID:
        self._loop_binding.enter()
        return await self._manual.begin()

    async def _doubt(self, pool_id: UUID) -> None:
        await self._manual.doubt(pool_id)
