"""The tasks of the fault suite, one class a mode; what they are told to do stands in ``deeds``."""

import asyncio
import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from fang_core import AsyncRunnable, Constant, Cron, Runnable, TaskConfig, current_run
from tests.faults.deeds import AFTERWARDS, ASYNC_DEEDS, DEEDS, ON_THEIR_OWN, Work, nothing
from tests.faults.effects import take_effect, take_effect_async

SOON: Final = Constant(delay=timedelta(milliseconds=100))
TICKS: Final = "ticks"


class Blocking(Runnable):
    """Takes ``seconds``, then waits until the file ``gate`` is there, or ``gate.<attempt>``, then does its deed.

    ``death`` is of the deed "take effect", see ``effects.DEATHS``.
    """

    task_config = TaskConfig(kind="faults.Blocking", backoff=SOON)
    deed: str = "work"
    seconds: float = 0
    gate: str = ""
    name: str = ""
    death: str = ""

    def run(self, queue: Any) -> None:
        with Work.ledger.recorded():
            time.sleep(0 if self.deed in ON_THEIR_OWN else self.seconds)
            while not _is_open(self.gate):
                time.sleep(0.01)
            if self.deed in {"relay", "relay across"}:
                task = Blocking() if self.deed == "relay" else Cooperative()
                Work.acknowledgements.write(queue.insert_task(task).id)
            elif self.deed == "take effect":
                take_effect(queue, self.death)
            else:
                DEEDS[self.deed](self.seconds)
        AFTERWARDS.get(self.deed, nothing)()


class Cooperative(AsyncRunnable):
    """As ``Blocking``, on an event loop."""

    task_config = TaskConfig(kind="faults.Cooperative", backoff=SOON)
    deed: str = "work"
    seconds: float = 0
    gate: str = ""
    name: str = ""
    death: str = ""

    async def run(self, queue: Any) -> None:
        with Work.ledger.recorded():
            await asyncio.sleep(0 if self.deed in ON_THEIR_OWN else self.seconds)
            while not _is_open(self.gate):
                with suppress(asyncio.CancelledError) if self.deed == "be stubborn" else nullcontext():
                    await asyncio.sleep(0.01)
            if self.deed in {"relay", "relay across"}:
                task = Cooperative() if self.deed == "relay" else Blocking()
                Work.acknowledgements.write((await queue.insert_task(task)).id)
            elif self.deed == "take effect":
                await take_effect_async(queue, self.death)
            elif self.deed in ASYNC_DEEDS:
                await ASYNC_DEEDS[self.deed]()
            else:
                DEEDS[self.deed](self.seconds)
        AFTERWARDS.get(self.deed, nothing)()


class TickingBlocking(Blocking):
    """Each second, where a pool serves its type."""

    task_config = TaskConfig(kind="faults.TickingBlocking", task_type=TICKS, cron=Cron("* * * * * *"))


class TickingCooperative(Cooperative):
    """As ``TickingBlocking``."""

    task_config = TaskConfig(kind="faults.TickingCooperative", task_type=TICKS, cron=Cron("* * * * * *"))


def _is_open(gate: str) -> bool:
    """For all attempts, or for this one."""
    return not gate or Path(gate).exists() or Path(f"{gate}.{current_run().task.attempt}").exists()
