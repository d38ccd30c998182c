"""Task classes of the tests of the page."""

from typing import Any

from pydantic import ConfigDict, Field, SecretStr, field_serializer

from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.runnable import AsyncRunnable, TaskConfig


class Ship(AsyncRunnable):
    """Sends an order."""

    task_config = TaskConfig(kind="web-ship", task_type="orders")

    order: int = Field(ge=1)
    note: str = ""
    password: str = "none"
    pin: SecretStr = SecretStr("0000")

    @field_serializer("pin")
    def written(self, value: SecretStr) -> str:
        return value.get_secret_value()

    async def run(self, queue: AsyncQueueable) -> None: ...


class Free(AsyncRunnable):
    task_config = TaskConfig(kind="web-free")

    value: Any = None

    async def run(self, queue: AsyncQueueable) -> None: ...


class Listed(AsyncRunnable):
    task_config = TaskConfig(kind="web-list")

    names: list[str] = Field([])

    async def run(self, queue: AsyncQueueable) -> None: ...


class Open(AsyncRunnable):
    task_config = TaskConfig(kind="web-open")
    model_config = ConfigDict(extra="allow")

    async def run(self, queue: AsyncQueueable) -> None: ...
