"""What users write. Type checkers find nothing wrong in it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import Field

from fang_core import (
    AsyncMemoryQueue,
    AsyncQueueable,
    AsyncRunnable,
    Cancel,
    Constant,
    Cron,
    MemoryQueue,
    Queueable,
    RetryAfter,
    Runnable,
    ScheduleOnce,
    Snooze,
    Task,
    TaskConfig,
    TaskState,
    current_run,
)


def cubic(failures: int) -> timedelta:
    return timedelta(seconds=failures**3)


class Summarize(Runnable):
    task_config = TaskConfig(task_type="heavy", priority=-1, max_retries=5, backoff=cubic)

    path: Path
    lines: list[int] = Field(default_factory=list)

    def run(self, queue: Queueable) -> None:
        if not self.path.exists():
            raise Cancel("the file is gone")
        queue.insert_task(Summarize(path=self.path.parent), delay=timedelta(minutes=5))


class SummarizeAgain(Summarize):
    task_config = TaskConfig(kind="again", backoff=Constant(delay=timedelta(seconds=3)), uniq=True)


class Nightly(Runnable):
    task_config = TaskConfig(cron=Cron("30 2 * * MON-FRI", "Europe/Berlin"), uniq=True)

    def run(self, queue: Queueable) -> None: ...


class Hourly(Nightly):
    task_config = TaskConfig(cron="@hourly")


class AtMidnight(Nightly):
    task_config = TaskConfig(cron=ScheduleOnce(datetime(2030, 1, 1, tzinfo=UTC)))


class OnDemand(Nightly):
    task_config = TaskConfig(cron=None)


def times(now: datetime) -> tuple[datetime | None, datetime | None]:
    cron = Cron("*/5 * * * *", UTC)
    return cron.next_after(now), cron.latest(now - timedelta(days=1), until=now)


class FetchFeed(AsyncRunnable):
    url: str
    priority: int = 0

    async def run(self, queue: AsyncQueueable) -> None:
        if current_run().task.retries > 3:
            raise Snooze(timedelta(hours=1))
        task = await queue.insert_task(Summarize(path=Path(self.url)))
        if task.state is TaskState.FAILED:
            raise RetryAfter(timedelta(seconds=10), "busy")


def insert(queue: Queueable) -> list[Task]:
    task = queue.insert_task(FetchFeed(url="https://example.org"), priority=1, task_type="feeds", max_retries=0)
    again = queue.find_task_by_id(task.id)
    assert again is None or again.scheduled_at <= datetime.now(UTC)
    both = [FetchFeed(url="https://example.org"), Summarize(path=Path("/"))]
    return queue.insert_tasks(both, scheduled_at=datetime.now(UTC))


async def insert_async(queue: AsyncQueueable) -> list[Task]:
    await queue.insert_task(Summarize(path=Path("/")), connection=None)
    return await queue.insert_tasks(FetchFeed(url=url) for url in ("a", "b"))


async def both_backends() -> int:
    with MemoryQueue() as queue:
        rows = insert(queue)
    async with AsyncMemoryQueue() as other:
        rows += await insert_async(other)
    return len(rows)
