"""The tasks of the fault suite that run in child processes of their pools."""

from typing import Any

from fang_core import TaskConfig
from tests.faults.deeds import set_up_in_child
from tests.faults.tasks import SOON, Blocking, Cooperative


class IsolatedBlocking(Blocking):
    """As ``Blocking``."""

    task_config = TaskConfig(kind="faults.IsolatedBlocking", backoff=SOON, isolation="process")

    def run(self, queue: Any) -> None:
        set_up_in_child()
        super().run(queue)


class IsolatedCooperative(Cooperative):
    """As ``Cooperative``."""

    task_config = TaskConfig(kind="faults.IsolatedCooperative", backoff=SOON, isolation="process")

    async def run(self, queue: Any) -> None:
        set_up_in_child()
        await super().run(queue)
