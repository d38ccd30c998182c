"""The pages over a real database, with what a pool has told of its runs."""

from typing import Any

import httpx

from fang_async import AsyncQueue, AsyncWorkerPool
from fang_core import AsyncRunnable, Limit, TaskConfig
from tests.web.client import FROM_THE_PAGE, page_of
from tests.web.test_pages import text_of


class PageReport(AsyncRunnable):
    """Fails for good if it is told so."""

    task_config = TaskConfig(task_type="page reports", max_retries=0)
    fails: bool = False

    async def run(self, queue: Any) -> None:
        if self.fails:
            raise ValueError("<b>as told</b>")


async def seen(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert "Not read" not in answer.text
    return text_of(answer.text)


async def test_what_a_pool_has_run_is_shown_and_steered(url: str) -> None:
    async with AsyncQueue(url) as queue, page_of(queue) as client:
        assert "Nothing that could be seen" in await seen(client, "/")
        await queue.insert_tasks([PageReport(fails=n == 0) for n in range(10)])
        assert "no pool serves task type page reports: 10 due" in await seen(client, "/")
        await AsyncWorkerPool(queue, task_type="page reports").drain()

        assert "1 task of PageReport failed for good" in await seen(client, "/")
        assert "PageReport page reports 100 % 10 0 1 10 %" in await seen(client, "/kinds")
        kind = await seen(client, "/kinds/PageReport?since=1d")
        assert "10 runs, 10 of them the first of their task 9 ended well" in kind
        assert "How long runs took, over time" in kind

        for action, form in (
            ("pause-type", {"name": "page reports", "reason": "why not"}),
            ("set-limits", {"name": "page reports", "limit": "3"}),
        ):
            answer = await client.post(f"/actions/{action}", data=form, headers=FROM_THE_PAGE)
            assert answer.status_code == 303
        assert "3 at once set by loopback paused" in await seen(client, "/queues")
        (info,) = await queue.limits.list()
        assert (info.changed, info.paused_by, info.pause_reason) == ((Limit(3),), "loopback", "why not")
        audit = await seen(client, "/audit")
        assert "loopback set limits page reports limits: 3 at once limits: 3 at once" in audit
        assert "loopback pause page reports for: until resumed; reason: why not paused until resumed" in audit
