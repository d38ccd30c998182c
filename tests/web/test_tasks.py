"""The pages about tasks, asked in this process, on the memory backend: what they say, and what they refuse."""

import re
from datetime import timedelta
from html import unescape

import httpx
import pytest

from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from fang_core.record import Task, TaskState
from tests.web.client import page_of
from tests.web.tasks_of_tests import Ship


def text_of(response: httpx.Response) -> str:
    """Returns what a reader sees."""
    without_tags = re.sub(r"<[^>]*>", " ", response.text)
    return " ".join(unescape(without_tags).split())


async def ended(queue: AsyncMemoryQueue, order: int, state: TaskState, error: str = "") -> Task:
    await queue.insert_task(Ship(order=order))
    task = await queue.fetch_and_touch_task("orders")
    assert task is not None
    if error:
        return await queue.fail_task(task, error)
    return await queue.update_task_state(task, state)


@pytest.fixture
def queue() -> AsyncMemoryQueue:
    return AsyncMemoryQueue()


# The list -------------------------------------------------------------------------------------------------------------


async def test_the_list_shows_what_matches(queue: AsyncMemoryQueue) -> None:
    await ended(queue, 1, TaskState.FAILED, "no stock of 17 left")
    await queue.insert_task(Ship(order=2, note="b"), headers={"tenant": "acme"}, delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        for query, orders in {
            "": {1, 2},
            "state=failed": {1},
            "state=failed&state=new": {1, 2},
            "kind=web-ship&task_type=orders": {1, 2},
            "kind=web-shi": set(),
            "header=tenant%3Dacme": {2},
            "header=tenant%3Dother": set(),
            'payload={"order":2}': {2},
            "error=stock of": {1},
            "of=due&older=0s": {1},
            "of=inserted&newer=5m": {1, 2},
            "of=inserted&older=5m": set(),
            "of=updated&newer=2020-01-01T00:00Z": {1, 2},
            "due_after=2020-01-01": {1, 2},
        }.items():
            text = text_of(await browser.get(f"/tasks?{query}"))
            found = {order for order, shown in ((1, "no stock of 17"), (2, '"order": 2')) if shown in text}
            assert found == orders, query


@pytest.mark.parametrize(
    "query",
    [
        "state=lost",
        "newer=soon",
        "newer=999999w",
        "older=2026-13-01",
        "due_after=0001-01-01",
        "id=1",
        "error=ab",
        "header=tenant",
        "payload=[]",
        "payload={",
        "payload=" + "[" * 1_900,
        'payload={"password":"x"}',
        'payload={"a":{"pin":"x"}}',
        "cursor=x",
        "state=new&state=" + "&state=".join(["new"] * 20),
        "kind=" + "x" * 501,
        "task_type=a%00b",
    ],
)
async def test_what_no_filter_says_is_refused_in_a_line(queue: AsyncMemoryQueue, query: str) -> None:
    async with page_of(queue) as browser:
        response = await browser.get(f"/tasks?{query}")
    assert response.status_code == 400
    assert len(text_of(response)) < 300


async def test_a_search_in_what_is_masked_is_refused_without_its_class_too(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue, masked=["iban"]) as browser:
        assert (await browser.get('/tasks?kind=unknown&payload={"my_iban":1}')).status_code == 400
        assert (await browser.get('/tasks?kind=web-ship&payload={"pin":"1"}')).status_code == 400
        assert (await browser.get('/tasks?kind=web-ship&payload={"password":"1"}')).status_code == 200


async def test_pages_follow_each_other_and_show_each_task_once(queue: AsyncMemoryQueue) -> None:
    for order in range(1, 121):
        await queue.insert_task(Ship(order=order))
    seen: list[str] = []
    async with page_of(queue) as browser:
        for headers in ({}, {"HX-Request": "true"}):
            address: str | None = "/tasks?kind=web-ship&newer=1h"
            seen.clear()
            while address is not None:
                response = await browser.get(address, headers=headers)
                seen += re.findall(r"&#34;order&#34;: (\d+)", response.text)
                link = "hx-get" if headers else " href"
                more = re.search(rf'class="more".*?{link}="([^"]*)"', response.text, re.S)
                address = None if more is None else unescape(more[1])
            assert sorted(map(int, seen)) == list(range(1, 121))
        rows = await browser.get("/tasks?more=1", headers={"HX-Request": "true"})
        assert rows.text.lstrip().startswith("<tr>")
        assert (await browser.get("/tasks?more=1")).text.startswith("<!doctype html>")


async def test_the_list_hides_secrets(queue: AsyncMemoryQueue) -> None:
    await queue.insert_task(Ship.model_validate({"order": 1, "password": "s3cret", "pin": "1234"}))
    async with page_of(queue) as browser:
        page = text_of(await browser.get("/tasks"))
    assert "s3cret" not in page
    assert "1234" not in page
    assert '"order": 1' in page
