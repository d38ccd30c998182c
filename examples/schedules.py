"""Schedules a report every night in a time zone, a reminder once, and a task after a delay; on a clock set by hand.

It uses the memory backend, whose clock an application's tests can set; on Postgres the database's clock decides. Pools
insert the tasks of schedules by themselves; `schedule_task` inserts one in advance.
"""

from datetime import UTC, datetime, timedelta

from fang_core import Cron, MemoryQueue, Queueable, Runnable, ScheduleOnce, TaskConfig, current_run
from fang_core.testing import Clock
from fang_threaded import WorkerPool

CLOCK = Clock(datetime(2026, 3, 27, 12, tzinfo=UTC))  # two days before Berlin's clocks are put forward
REPORTS: list[datetime] = []
SAID: list[str] = []


class Report(Runnable):
    """Writes a report. `uniq` leaves out a tick that comes while the last report is still being written."""

    task_config = TaskConfig(cron=Cron("30 2 * * *", "Europe/Berlin"), uniq=True, max_retries=15)

    def run(self, queue: Queueable) -> None:
        REPORTS.append(current_run().task.scheduled_at)


class Reminder(Runnable):
    task_config = TaskConfig(cron=ScheduleOnce(datetime(2026, 3, 28, 9, tzinfo=UTC)))

    text: str = "Clocks go forward tonight"  # a schedule builds its task without arguments

    def run(self, queue: Queueable) -> None:
        SAID.append(self.text)


def main() -> None:
    queue = MemoryQueue(clock=CLOCK)
    pool = WorkerPool(queue)
    queue.schedule_task(Reminder())
    queue.insert_task(Reminder(text="Tea is ready"), delay=timedelta(minutes=5))
    for _ in range(3):
        tick = queue.schedule_task(Report())
        assert queue.schedule_task(Report()).id == tick.id  # a tick is inserted once
        CLOCK.advance(tick.scheduled_at - CLOCK())
        pool.drain()
    print(" ".join(f"{at:%d.%m. %H:%M}" for at in REPORTS), "UTC")
    print(", ".join(SAID))


if __name__ == "__main__":
    main()
