"""A form that inserts a task does so once, and runs a schedule once, however often it is sent."""

import asyncio
from html.parser import HTMLParser
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import Field

from fang_async import AsyncQueue
from fang_core import AsyncRunnable, TaskConfig
from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from tests.web.client import FROM_THE_PAGE, page_of
from tests.web.sending import sent_by
from tests.web.test_pages import text_of

OPENED = "/tasks/new?kind=webonce.Order"


class Order(AsyncRunnable):
    task_config = TaskConfig(kind="webonce.Order")
    item: str

    async def run(self, queue: Any) -> None: ...


class Stamped(AsyncRunnable):
    """Has a field that differs in each task."""

    task_config = TaskConfig(kind="webonce.Stamped")
    stamp: UUID = Field(default_factory=uuid4)

    async def run(self, queue: Any) -> None: ...


@pytest.fixture
def queue() -> AsyncMemoryQueue:
    return AsyncMemoryQueue()


async def send(browser: httpx.AsyncClient, form: dict[str, Any]) -> httpx.Response:
    return await browser.post("/actions/insert-task", data=form, headers=FROM_THE_PAGE)


async def test_a_double_click_inserts_one_task(url: str) -> None:
    async with AsyncQueue(url) as queue, page_of(queue) as browser:
        form = sent_by(await browser.get(OPENED)) | {"payload.item": "tea"}
        answers = await asyncio.gather(*(send(browser, form) for _ in range(4)))
        pages = [text_of((await browser.get(answer.headers["location"])).text) for answer in answers]
        (task,) = (await queue.list_tasks()).tasks
        assert [str(task.id)] == form["id"]
        results = sorted(entry.result for entry in await queue.audit.list())
    assert results == [f"inserted {task.id}", *[f"sent already: task {task.id}"] * 3]
    assert sum(f"sent already: task {task.id}" in page for page in pages) == 3


async def test_each_form_that_is_opened_inserts_a_task(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        for _ in range(2):
            answer = await send(browser, sent_by(await browser.get(OPENED)) | {"payload.item": "tea"})
            assert answer.status_code == 303
    assert len((await queue.list_tasks()).tasks) == 2


async def test_a_form_that_is_shown_again_stays_the_same(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(OPENED))
        for shown in (form | {"payload.item": "tea", "due": "soon"}, form | {"again": "1"}):
            assert sent_by(await send(browser, shown))["id"] == form["id"]


async def test_a_form_that_was_changed_after_it_was_sent_says_so_and_can_be_sent_as_another(
    queue: AsyncMemoryQueue,
) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(OPENED))
        assert (await send(browser, form | {"payload.item": "tea"})).status_code == 303
        changed = await send(browser, form | {"payload.item": "coffee"})
        assert changed.status_code == 422
        (task,) = (await queue.list_tasks()).tasks
        assert f"sent already: task {task.id} has other fields" in text_of(changed.text)
        assert (await queue.audit.list())[0].result == "refused"
        assert sent_by(changed)["payload.item"] == ["coffee"]
        assert (await send(browser, sent_by(changed))).status_code == 303
    found = [await queue.find_task_by_id(task.id) for task in (await queue.list_tasks()).tasks]
    assert sorted(task.metadata["item"] for task in found if task is not None) == ["coffee", "tea"]


async def test_fields_that_the_class_fills_in_anew_do_not_make_another_task(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get("/tasks/new?kind=webonce.Stamped"))
        answers = [await send(browser, form) for _ in range(2)]
    (task,) = (await queue.list_tasks()).tasks
    assert [answer.status_code for answer in answers] == [303, 422]
    assert f"sent already: task {task.id}" in text_of(answers[1].text)


@pytest.mark.parametrize(("sent", "status"), [({}, 303), ({"id": ""}, 303), ({"id": "7"}, 400)])
async def test_a_form_may_come_without_an_id(queue: AsyncMemoryQueue, sent: dict[str, str], status: int) -> None:
    async with page_of(queue) as browser:
        answer = await send(browser, {"kind": "webonce.Order", "payload.item": "tea", **sent})
    assert answer.status_code == status


async def test_a_form_that_is_sent_again_inserts_nothing_though_its_task_has_run_and_is_gone(
    queue: AsyncMemoryQueue,
) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(OPENED)) | {"payload.item": "tea"}
        await send(browser, form)
        assert await queue.remove_all_tasks() == 1
        answer = await send(browser, form)
        assert answer.status_code == 422
        assert f"sent already: task {form['id'][0]} was inserted, and is gone since" in text_of(answer.text)
        assert queue.tasks == []
        assert (await queue.audit.list())[0].result == f"sent already: task {form['id'][0]}"
        assert (await send(browser, sent_by(answer))).status_code == 303
    assert [task.metadata["item"] for task in queue.tasks] == ["tea"]


class Schedules(HTMLParser):
    """Reads the forms of a page that run a schedule now, by the names of the schedules."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self._form: dict[str, str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = {} if given["action"].endswith("run-schedule") else None
        elif tag == "input" and self._form is not None:
            self._form[given["name"]] = given["value"]
            self.forms[self._form["name"]] = self._form


async def run(browser: httpx.AsyncClient, form: dict[str, str]) -> httpx.Response:
    return await browser.post("/actions/run-schedule", data=form, headers=FROM_THE_PAGE)


async def test_a_double_click_runs_a_schedule_once(url: str) -> None:
    async with AsyncQueue(url) as queue, page_of(queue) as browser:
        for name in ("one", "two"):
            await queue.schedules.put(name, Order(item=name), cron="@daily")
        forms = Schedules((await browser.get("/schedules")).text).forms
        assert len({form["id"] for form in forms.values()}) == 2
        await asyncio.gather(*(run(browser, forms["one"]) for _ in range(4)))
        (task,) = (await queue.list_tasks()).tasks
        assert str(task.id) == forms["one"]["id"]
        results = sorted(entry.result for entry in await queue.audit.list())
    assert results == [f"inserted {task.id}", *[f"sent already: task {task.id}"] * 3]


@pytest.mark.parametrize("meanwhile", ["it has run", "its schedule was put anew"])
async def test_a_second_click_on_run_now_inserts_nothing(queue: AsyncMemoryQueue, meanwhile: str) -> None:
    await queue.schedules.put("nightly", Order(item="tea"), cron="@daily")
    async with page_of(queue) as browser:
        form = Schedules((await browser.get("/schedules")).text).forms["nightly"]
        await run(browser, form)
        if meanwhile == "it has run":
            assert await queue.remove_all_tasks() == 1
        else:
            await queue.schedules.put("nightly", Order(item="coffee"), cron="@daily")
        assert (await run(browser, form)).status_code == 303
        assert len(queue.tasks) == (0 if meanwhile == "it has run" else 1)
        said = [entry.result for entry in await queue.audit.list()]
        assert said == [f"sent already: task {form['id']}", f"inserted {form['id']}"]
        assert (await run(browser, {"name": "nightly"})).status_code == 303  # a form that was opened before an update
    assert len(queue.tasks) == (1 if meanwhile == "it has run" else 2)


async def test_run_now_and_put_anew_between_two_requests_at_once(queue: AsyncMemoryQueue) -> None:
    """The audit does not say yet that the first one has inserted its task: the id does."""
    await queue.schedules.put("nightly", Order(item="tea"), cron="@daily")
    id = uuid4()
    await queue.schedules.run_now("nightly", id=id)
    await queue.schedules.put("nightly", Order(item="coffee"), cron="@daily")
    async with page_of(queue) as browser:
        assert (await run(browser, {"name": "nightly", "id": str(id)})).status_code == 303
    assert [task.metadata["item"] for task in queue.tasks] == ["tea"]
    assert [entry.result for entry in await queue.audit.list()] == [f"sent already: task {id}"]
