"""``/metrics`` of the page."""

from typing import Any

import pytest

from fang_core import AsyncMemoryQueue
from fang_web.pages import metrics
from tests.web.client import page_of
from tests.web.tasks_of_tests import Free


async def test_a_scrape_shows_the_task_types() -> None:
    queue = AsyncMemoryQueue()
    await queue.insert_task(Free())
    async with page_of(queue) as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "fang_database_up 1.0\n" in answer.text
        assert f'fang_tasks_due{{task_type="{Free.__fang_options__.task_type}"}} 1.0\n' in answer.text


async def test_without_the_library_the_page_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str, *_: Any) -> None: ...

    monkeypatch.setattr(metrics, "find_spec", nothing)
    async with page_of(AsyncMemoryQueue()) as client:
        answer = await client.get("/metrics")
        assert (answer.status_code, "fang-tasks[prometheus]" in answer.text) == (404, True)
