"""The queue on Postgres for asyncio code."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import asyncpg
from sqlalchemy.engine import URL

from fang_async.runner import Runner, run_on, typed
from fang_async.store import AsyncPostgresStore
from fang_core.codec import MAX_PAYLOAD_BYTES
from fang_core.errors import BackendUnavailable, OutcomeUnknown, SchemaError, UsageError
from fang_core.insertion import Overrides
from fang_core.record import Task
from fang_core.runnable import BaseRunnable
from fang_postgres.connecting import CONNECT_TIMEOUT, SETTINGS, database_url
from fang_postgres.operations import Operations, schema_problem
from fang_postgres.schema import DEFAULT_SCHEMA


class AsyncQueue:
    """An ``AsyncQueueable`` on Postgres, for one event loop. It can be made where no loop runs.

    Args:
        database: a URL.
        max_pool_size: connections for the application's calls and for completions.
        schema: the Postgres schema of the tables.
        max_payload_bytes: larger payloads are refused.
    """

    def __init__(
        self,
        database: str | URL,
        /,
        *,
        max_pool_size: int = 10,
        schema: str = DEFAULT_SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        if max_pool_size < 1:
            raise UsageError("max_pool_size must be at least 1")
        self._database = database_url(database, None)
        self._max_pool_size = max_pool_size
        self._max_payload_bytes = max_payload_bytes
        self._operations = Operations(schema)
        self._opening: asyncio.Lock | None = None
        self._writes: Runner | None = None
        self._claims: Runner | None = None

    # Opening and closing ----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether ``open()`` was called and ``close()`` was not."""
        return self._writes is not None

    async def open(self) -> None:
        """Connects and checks the tables. Calls of the queue do it by themselves; pools do it when they start.

        Raises ``BackendUnavailable``, ``AccessRefused``, or ``SchemaError`` with the command that mends it.
        """
        writes = await self._opened()
        problem = schema_problem(self._operations.schema, await writes.run(self._operations.version()))
        if problem is not None:
            raise SchemaError(problem)

    async def close(self) -> None:
        """Closes the queue's connections. Idempotent; the queue can be opened again."""
        runners = (self._writes, self._claims)
        self._writes = self._claims = self._opening = None
        for runner in runners:
            if runner is not None:
                await runner.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def store(self) -> AsyncPostgresStore:
        """A store for one pool, of an open queue."""
        if self._writes is None or self._claims is None:
            raise UsageError("the queue is closed: open it before its store is asked for")
        return AsyncPostgresStore(self._operations, self._claims, self._writes)

    async def _opened(self) -> Runner:
        if self._writes is None:
            if self._opening is None:
                self._opening = asyncio.Lock()
            async with self._opening:
                if self._writes is None:
                    # Two pools: a claim never waits until a run of the application gives a connection back.
                    self._claims = await self._runner(1)
                    self._writes = await self._runner(self._max_pool_size)
        return self._writes

    async def _runner(self, size: int) -> Runner:
        try:
            connections = await asyncpg.create_pool(
                self._database.render_as_string(hide_password=False),
                min_size=0,
                max_size=size,
                timeout=CONNECT_TIMEOUT,
                server_settings={**SETTINGS, "application_name": "fang"},
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise typed(error, self._operations.schema) from error
        return Runner(connections, self._operations.schema)

    # What applications and runs call ----------------------------------------------------------------------------------

    async def insert_task(
        self,
        task: BaseRunnable,
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> Task:
        """See ``Queueable.insert_task``. ``connection`` is an asyncpg connection, or an ``AsyncSession`` or
        ``AsyncConnection`` on Postgres. On one in autocommit the insert stands at once."""
        overrides = Overrides(
            priority=priority, scheduled_at=scheduled_at, delay=delay, task_type=task_type, max_retries=max_retries
        )
        row = overrides.new_task(task, max_bytes=self._max_payload_bytes)
        operation = self._operations.insert(row, overrides)
        if connection is not None:
            return await run_on(connection, operation)
        try:
            return await (await self._opened()).run(operation)
        except BackendUnavailable as error:
            raise OutcomeUnknown(f"it is not known whether the task was inserted: {error}", (row.id,)) from error

    async def insert_tasks(
        self,
        tasks: Iterable[BaseRunnable],
        /,
        *,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        task_type: str | None = None,
        max_retries: int | None = None,
        connection: Any = None,
    ) -> list[Task]:
        """See ``Queueable.insert_tasks`` and ``insert_task``."""
        overrides = Overrides(
            priority=priority, scheduled_at=scheduled_at, delay=delay, task_type=task_type, max_retries=max_retries
        )
        rows = overrides.new_tasks(tasks, max_bytes=self._max_payload_bytes)
        operations = self._operations.insert_many(rows, overrides)
        if connection is not None:
            return [task for operation in operations for task in await run_on(connection, operation)]
        try:
            return [task for chunk in await (await self._opened()).run_all(operations) for task in chunk]
        except BackendUnavailable as error:
            ids = tuple(row.id for row in rows)
            raise OutcomeUnknown(f"it is not known whether the tasks were inserted: {error}", ids) from error

    async def find_task_by_id(self, task_id: UUID, /, *, connection: Any = None) -> Task | None:
        """See ``Queueable.find_task_by_id``."""
        operation = self._operations.find(task_id)
        if connection is not None:
            return await run_on(connection, operation)
        return await (await self._opened()).run(operation)
