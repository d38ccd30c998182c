"""Tasks of a module that a child takes long to import, as it takes long if it loads much."""

import os
import time
from typing import Any

from fang_core import AsyncRunnable, Runnable, TaskConfig
from tests.isolation.tasks import ACTS

if "FANG_TEST_IMPORT_SECONDS" in os.environ:
    time.sleep(float(os.environ["FANG_TEST_IMPORT_SECONDS"]))


class ThreadedSlow(Runnable):
    task_config = TaskConfig(kind="isolation.ThreadedSlow", task_type="isolation", isolation="process")
    act: str
    path: str = ""

    def run(self, queue: Any) -> None:
        ACTS[self.act](self.path)


class AsyncSlow(AsyncRunnable):
    task_config = TaskConfig(kind="isolation.AsyncSlow", task_type="isolation", isolation="process")
    act: str
    path: str = ""

    async def run(self, queue: Any) -> None:
        ACTS[self.act](self.path)
