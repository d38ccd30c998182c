"""Task classes that people name on the command line."""

from fang_core import Queueable, Runnable, TaskConfig


class Report(Runnable):
    task_config = TaskConfig(kind="cli.Report", task_type="cli.reports", uniq=True)
    day: str = "yesterday"
    pages: int = 1

    def run(self, queue: Queueable) -> None: ...


class Yearly(Report):
    task_config = TaskConfig(kind="cli.Yearly", cron="@yearly")


NOT_A_TASK = 5
