"""The pages about tasks, asked in this process, on the memory backend: what they say, and what they refuse."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Unpack
from uuid import UUID

import httpx
import pytest

from fang_async import AsyncQueue
from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from fang_core.errors import BackendUnavailable, StatementRefused
from fang_core.masking import secret_names
from fang_core.monitoring.listing import Count, TaskPage
from fang_core.record import Task, TaskState
from fang_core.tasks.options import InsertOptions
from fang_core.tasks.selecting.filter import ANY_TASK, TaskFilter
from fang_web import OpenOnLoopback, Role, create_app
from fang_web.pages.tasks import many
from tests.web.client import FROM_THE_PAGE, browser, page_of
from tests.web.sending import sent_by
from tests.web.tasks_of_tests import Open, Ship


def text_of(response: httpx.Response) -> str:
    """Returns what a reader sees."""
    without_tags = re.sub(r"<[^>]*>", " ", response.text)
    return " ".join(unescape(without_tags).split())


async def ended(
    queue: AsyncMemoryQueue, order: int, state: TaskState, error: str = "", **options: Unpack[InsertOptions]
) -> Task:
    await queue.insert_task(Ship(order=order), **options)
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
        "header=x-auth-Token=1",
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


async def test_nobody_searches_in_payloads_of_a_class_whose_secrets_are_not_known(
    queue: AsyncMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_names, "secret_names", lambda cls: None if cls is Ship else frozenset())
    async with page_of(queue) as browser:
        assert (await browser.get('/tasks?payload={"order":1}')).status_code == 400
        assert (await browser.get('/tasks?kind=web-free&payload={"value":1}')).status_code == 200


@pytest.mark.parametrize("path", ["/tasks?", "/tasks/change?action=remove&", "/tasks/change?action=retry&"])
async def test_a_condition_that_does_not_exist_is_refused(queue: AsyncMemoryQueue, path: str) -> None:
    """It would be left out, and a change be made of more tasks than somebody meant."""
    async with page_of(queue) as browser:
        near = await browser.get(f"{path}state=failed&task-type=mail")
        other = await browser.get(f"{path}state=failed&limit=7")
    assert (near.status_code, other.status_code) == (400, 400)
    assert "'task-type' is no condition (did you mean 'task_type'?)" in text_of(near)
    assert "'limit' is no condition" in text_of(other)


async def test_a_change_with_a_condition_that_does_not_exist_is_not_made(queue: AsyncMemoryQueue) -> None:
    await ended(queue, 1, TaskState.FAILED)
    form = {"state": "failed", "task-type": "mail", "sure": "1"}
    async with page_of(queue) as browser:
        answer = await browser.post("/actions/remove-tasks", data=form, headers=FROM_THE_PAGE)
    assert (answer.status_code, (await queue.count_tasks(TaskFilter(all_tasks=True))).count) == (400, 1)


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


async def test_a_page_that_is_not_full_says_how_far_it_looked(
    queue: AsyncMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: object, **__: object) -> TaskPage:
        moment = datetime(2026, 11, 29, 14, 3, tzinfo=UTC)
        return TaskPage(tasks=(), cursor="further", looked_at=7_500, stopped=True, looked_to=moment)

    monkeypatch.setattr(queue, "list_tasks", stopped)
    async with page_of(queue) as browser:
        response = await browser.get("/tasks?kind=rare")
    assert "Looked at 7,500 tasks, as far as 2026-11-29 14:03:00 UTC. Go on" in text_of(response)
    assert 'href="/tasks?kind=rare&amp;cursor=further"' in response.text


async def test_the_list_hides_secrets(queue: AsyncMemoryQueue) -> None:
    await queue.insert_task(Ship.model_validate({"order": 1, "password": "s3cret", "pin": "1234"}))
    async with page_of(queue) as browser:
        page = text_of(await browser.get("/tasks"))
    assert "s3cret" not in page
    assert "1234" not in page
    assert '"order": 1' in page


# One task -------------------------------------------------------------------------------------------------------------


async def test_a_task_shows_its_life_its_failures_and_why(queue: AsyncMemoryQueue) -> None:
    task = await ended(queue, 7, TaskState.FAILED, "no stock", headers={"tenant": "acme", "Authorization": "s3cret"})
    async with page_of(queue) as browser:
        page = text_of(await browser.get(f"/tasks/{task.id}"))
        for said in ("failed", str(task.id), "attempt 1 failed: no stock", '"order": 7', "Attempt 1", "Retry"):
            assert said in page
        assert (await queue.explain(task.id)).text in page
        assert "Header tenant acme" in page
        assert "0000" not in page
        assert "s3cret" not in page
        assert (await browser.get(f"/tasks/{task.id}", headers={"HX-Request": "true"})).text.count("<html") == 0
        await queue.remove_task(task.id)
        gone = await browser.get(f"/tasks/{task.id}")
        assert gone.status_code == 404


async def test_a_task_is_shown_without_what_takes_too_long(
    queue: AsyncMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_long(_: object) -> None:
        raise StatementRefused("it took longer than a second")

    task = await queue.insert_task(Ship(order=7))
    monkeypatch.setattr(queue, "explain", too_long)
    async with page_of(queue) as browser:
        page = text_of(await browser.get(f"/tasks/{task.id}"))
    assert "Not read: why: it took longer than a second" in page
    assert '"order": 7' in page


async def test_what_a_user_may_not_do_is_not_offered(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(Ship(order=1))
    offered = {}
    for role in Role:
        async with page_of(queue, auth=OpenOnLoopback(role=role)) as browser:
            page = (await browser.get(f"/tasks/{task.id}")).text
            offered[role] = {word for word in ("cancel-task", "action=remove") if word in page}
    assert offered[Role.VIEWER] == set()
    assert offered[Role.OPERATOR] == {"cancel-task"}
    assert "action=remove" in offered[Role.ADMIN]


async def test_one_task_is_cancelled_and_the_audit_says_so(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(Ship(order=1))
    async with page_of(queue) as browser:
        form = {"id": str(task.id), "reason": "wrong address"}
        for result in ("cancelled", "not cancelled"):
            answer = await browser.post("/actions/cancel-task", data=form, headers=FROM_THE_PAGE)
            assert answer.status_code == 303
            assert f"cancel task {task.id}: {result}" in text_of(await browser.get(answer.headers["location"]))
    row = await queue.find_task_by_id(task.id)
    assert row is not None
    assert (row.state, row.error_message) == (TaskState.CANCELLED, "wrong address")
    entries = await queue.audit.list()
    assert [(entry.who, entry.action, entry.target) for entry in entries] == [
        ("loopback", "cancel task", str(task.id))
    ] * 2


# Many tasks -----------------------------------------------------------------------------------------------------------


def hidden_fields(response: httpx.Response) -> dict[str, list[str]]:
    """Returns what the form of a page sends without being asked."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', response.text):
        fields.setdefault(unescape(name), []).append(unescape(value))
    return fields


@pytest.mark.parametrize("ahead", [0, 5, -5])
async def test_many_tasks_are_cancelled_after_a_preview_by_the_clock_of_the_backend(ahead: int) -> None:
    queue = AsyncMemoryQueue(clock=lambda: datetime.now(UTC) + timedelta(minutes=ahead))
    await ended(queue, 1, TaskState.FAILED, "no stock")
    for order in (2, 3):
        await queue.insert_task(Ship(order=order))
    async with page_of(queue) as browser:
        preview = await browser.get('/tasks/change?action=cancel&kind=web-ship&payload={"note": ""}')
        assert "2 tasks now: of the kind web-ship" in text_of(preview)
        later = await queue.insert_task(Ship(order=4))
        form = hidden_fields(preview) | {"reason": "sold out"}
        answer = await browser.post("/actions/cancel-tasks", data=form, headers=FROM_THE_PAGE)
        assert answer.status_code == 303
        assert "2 tasks cancelled" in text_of(await browser.get(answer.headers["location"]))
    row = await queue.find_task_by_id(later.id)
    assert row is not None
    assert row.state == TaskState.NEW
    (entry,) = await queue.audit.list()
    assert entry.target.startswith("tasks new or in progress or retried, of the kind web-ship, inserted before ")
    assert entry.target.endswith(", whose payload has certain note")
    assert entry.details == {"reason": "sold out"}


class CountsSome(AsyncMemoryQueue):
    """A queue whose tasks are too many to count."""

    up_to = 0

    async def count_tasks(self, which: TaskFilter = ANY_TASK, /, *, up_to: int = 10_000) -> Count:
        self.up_to = up_to
        return Count(2_784, False, 13_820)


async def test_a_preview_that_could_not_count_all_says_at_least() -> None:
    queue = CountsSome()
    await ended(queue, 1, TaskState.FAILED, "no stock")
    async with page_of(queue) as browser:
        preview = text_of(await browser.get("/tasks/change?action=retry&kind=web-ship"))
    assert "at least 2,784 tasks (the database estimates 13,820) now: of the kind web-ship" in preview
    assert "Retry all of these tasks" in preview
    assert "about" not in preview.lower()
    assert queue.up_to == 100_000


async def test_a_retry_of_many_takes_the_failed_ones_unless_others_are_asked_for(queue: AsyncMemoryQueue) -> None:
    failed = await ended(queue, 1, TaskState.FAILED, "no stock")
    cancelled = await ended(queue, 2, TaskState.CANCELLED)
    async with page_of(queue) as browser:
        preview = await browser.get("/tasks/change?action=retry&kind=web-ship")
        answer = await browser.post("/actions/retry-tasks", data=hidden_fields(preview), headers=FROM_THE_PAGE)
        assert "1 task retried" in text_of(await browser.get(answer.headers["location"]))
        assert [task.id for task in (await queue.list_tasks(TaskFilter(states=TaskState.NEW))).tasks] == [failed.id]
        answer = await browser.post("/actions/retry-task", data={"id": str(cancelled.id)}, headers=FROM_THE_PAGE)
        assert f"retry task {cancelled.id}: retried" in text_of(await browser.get(answer.headers["location"]))
    row = await queue.find_task_by_id(cancelled.id)
    assert row is not None
    assert row.state == TaskState.NEW


async def test_tasks_are_removed_if_the_box_is_ticked(queue: AsyncMemoryQueue) -> None:
    tasks = [await queue.insert_task(Ship(order=order)) for order in (1, 2, 3)]
    async with page_of(queue) as browser:
        preview = await browser.get("/tasks/change", params={"action": "remove", "id": f"{tasks[0].id} {tasks[1].id}"})
        form = hidden_fields(preview)
        assert (await browser.post("/actions/remove-tasks", data=form, headers=FROM_THE_PAGE)).status_code == 400
        answer = await browser.post("/actions/remove-tasks", data=form | {"sure": "1"}, headers=FROM_THE_PAGE)
        assert "2 tasks removed" in text_of(await browser.get(answer.headers["location"]))
        answer = await browser.post("/actions/remove-task", data={"id": str(tasks[2].id)}, headers=FROM_THE_PAGE)
        assert f"remove task {tasks[2].id}: removed" in text_of(await browser.get(answer.headers["location"]))
    assert (await queue.list_tasks()).tasks == ()


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [(2, "3 tasks cancelled; the preview had 1, and tasks have changed since."), (0, "1 task cancelled.")],
)
async def test_a_change_of_more_tasks_or_fewer_than_the_preview_had_says_so(
    queue: AsyncMemoryQueue, meanwhile: int, said: str
) -> None:
    """Tasks that were there before the preview may come into a state that it is about."""
    running = []
    for order in (1, 2, 3):
        await queue.insert_task(Ship(order=order))
        task = await queue.fetch_and_touch_task("orders")
        assert task is not None
        running.append(task)
    await queue.schedule_retry(running[0], timedelta(hours=1), "no stock")
    async with page_of(queue) as browser:
        preview = await browser.get("/tasks/change?action=cancel&state=retried&kind=web-ship")
        for task in running[1 : 1 + meanwhile]:
            await queue.schedule_retry(task, timedelta(hours=1), "no stock")
        form = hidden_fields(preview)
        answer = await browser.post("/actions/cancel-tasks", data=form, headers=FROM_THE_PAGE)
        assert said in text_of(await browser.get(answer.headers["location"]))
        again = await browser.post("/actions/cancel-tasks", data=form, headers=FROM_THE_PAGE)
        assert "0 tasks cancelled; the preview had 1, " in text_of(await browser.get(again.headers["location"]))


async def test_all_tasks_of_the_table_are_never_changed_at_once(queue: AsyncMemoryQueue) -> None:
    await queue.insert_task(Ship(order=1))
    async with page_of(queue) as browser:
        assert (await browser.get("/tasks/change?action=cancel")).status_code == 400
        answer = await browser.post("/actions/cancel-tasks", data={"reason": "x"}, headers=FROM_THE_PAGE)
        assert answer.status_code == 400
        assert "nothing to retry" in text_of(await browser.get("/tasks/change?action=retry&state=new"))
    assert await queue.audit.list() == []


class SlowQueue(AsyncMemoryQueue):
    """Cancels tasks until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()

    async def cancel_tasks(self, which: TaskFilter, /, reason: str = "", **options: Any) -> int:
        options["on_progress"](500)
        await self.go_on.wait()
        return 501

    @property
    def audit(self) -> Any:
        return Ends(super().audit, self.ended)


class Ends:
    """Says when the end of a change has been written."""

    def __init__(self, audit: Any, ended: asyncio.Event) -> None:
        self.begin, self.list = audit.begin, audit.list
        self._end, self._ended = audit.end, ended

    async def end(self, *args: Any) -> None:
        await self._end(*args)
        self._ended.set()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PATIENCE", 0)


@pytest.mark.usefixtures("impatient")
async def test_a_change_that_takes_long_goes_on_after_its_response() -> None:
    queue = SlowQueue()
    async with page_of(queue) as browser:
        answer = await browser.post("/actions/cancel-tasks", data={"kind": "x"}, headers=FROM_THE_PAGE)
        page = await browser.get(answer.headers["location"])
        assert "500 so far" in text_of(page)
        assert "hx-get" in page.text
        queue.go_on.set()
        await queue.ended.wait()
        assert "501 tasks cancelled" in text_of(await browser.get(answer.headers["location"]))
        for number in ("999", "9" * 19, "9" * 5_000):
            assert (await browser.get(f"/tasks/changes/{number}")).status_code == 404


@pytest.mark.usefixtures("impatient")
async def test_a_page_that_is_closed_ends_the_changes_that_go_on() -> None:
    queue = SlowQueue()
    page = create_app(queue, auth=OpenOnLoopback())
    async with page, browser(page) as tab:
        await tab.post("/actions/cancel-tasks", data={"kind": "x"}, headers=FROM_THE_PAGE)
    (entry,) = await queue.audit.list()
    assert entry.result == "failed: CancelledError, 500 tasks cancelled by then"


async def test_a_change_that_fails_says_so(queue: AsyncMemoryQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> int:
        raise BackendUnavailable("the database does not answer")

    monkeypatch.setattr(queue, "cancel_tasks", fails)
    async with page_of(queue) as browser:
        answer = await browser.post("/actions/cancel-tasks", data={"kind": "x"}, headers=FROM_THE_PAGE)
        assert answer.status_code == 503
    (entry,) = await queue.audit.list()
    assert entry.result == "failed: BackendUnavailable"


# Forms ----------------------------------------------------------------------------------------------------------------


async def test_a_task_is_inserted_with_the_form_of_its_class(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        assert "web-ship Sends an order." in text_of(await browser.get("/tasks/new"))
        form = sent_by(await browser.get("/tasks/new?kind=web-ship"))
        refused = await browser.post("/actions/insert-task", data=form | {"due": "soon"}, headers=FROM_THE_PAGE)
        assert refused.status_code == 422
        assert "Field required" in text_of(refused)
        assert "due is a length of time" in text_of(refused)
        assert await queue.audit.list() == []
        typed = sent_by(refused) | {"payload.order": "5", "payload.note": "a\r\nb", "due": "2h", "priority": "-1"}
        answer = await browser.post("/actions/insert-task", data=typed, headers=FROM_THE_PAGE)
        assert answer.status_code == 303
        page = text_of(await browser.get(answer.headers["location"]))
    (task,) = (await queue.list_tasks()).tasks
    assert task.metadata == {"type": "web-ship", "order": 5, "note": "a\nb", "password": "none", "pin": "0000"}
    assert (task.priority, task.task_type) == (-1, "orders")
    assert task.scheduled_at - task.created_at == timedelta(hours=2)
    assert f"insert task web-ship: inserted {task.id}" in page


async def test_an_empty_row_more_is_a_click(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get("/tasks/new?kind=web-list"))
        assert "payload.names.0" in form
        again = await browser.post(
            "/actions/insert-task", data=form | {"payload.names.0": "x", "again": "1"}, headers=FROM_THE_PAGE
        )
        assert again.status_code == 200
        assert sent_by(again)["payload.names.0"] == ["x"]
        assert "payload.names.1" in sent_by(again)
    assert (await queue.list_tasks()).tasks == ()


async def test_a_task_that_waits_is_edited(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(Ship.model_validate({"order": 1, "password": "s3cret"}), delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        page = await browser.get(f"/tasks/{task.id}/edit")
        assert "s3cret" not in page.text
        assert "0000" not in page.text
        form = sent_by(page)
        wrong = await browser.post("/actions/edit-task", data=form | {"payload.order": "0"}, headers=FROM_THE_PAGE)
        assert wrong.status_code == 422
        assert "greater than or equal to 1" in text_of(wrong)
        typed = sent_by(wrong) | {"payload.order": "9", "payload.note": "", "priority": "2"}
        answer = await browser.post("/actions/edit-task", data=typed, headers=FROM_THE_PAGE)
        assert f"edit task {task.id}: edited" in text_of(await browser.get(answer.headers["location"]))
        again = await browser.post("/actions/edit-task", data=typed, headers=FROM_THE_PAGE)
        assert again.status_code == 409
    row = await queue.find_task_by_id(task.id)
    assert row is not None
    assert row.metadata == task.metadata | {"order": 9}
    assert (row.priority, row.scheduled_at) == (2, task.scheduled_at)
    (entry,) = await queue.audit.list()
    assert entry.details == {"changed": "order, priority"}


async def test_an_edit_of_many_names_is_written_with_the_first_of_them_in_the_audit(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(Open.model_validate({f"{'a' * 50}{n}": 1 for n in range(300)}))
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        typed = form | {"payload~others": form["payload~others"][0].replace("1,", "2,")}
        answer = await browser.post("/actions/edit-task", data=typed, headers=FROM_THE_PAGE)
        assert answer.status_code == 303
    (entry,) = await queue.audit.list()
    assert entry.details is not None
    assert entry.details["changed"].startswith("a" * 50)


async def test_a_task_that_is_due_later_runs_now(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(Ship(order=1), delay=timedelta(hours=2))
    due = await queue.insert_task(Ship(order=2))
    async with page_of(queue) as browser:
        assert "run-task" not in (await browser.get(f"/tasks/{due.id}")).text
        assert "run-task" in (await browser.get(f"/tasks/{task.id}")).text
        answer = await browser.post("/actions/run-task", data={"id": str(task.id)}, headers=FROM_THE_PAGE)
        assert "due now" in text_of(await browser.get(answer.headers["location"]))
    row = await queue.find_task_by_id(task.id)
    assert row is not None
    assert row.scheduled_at < task.scheduled_at
    assert row.metadata == task.metadata


async def test_what_cannot_be_edited_says_why(queue: AsyncMemoryQueue) -> None:
    task = await ended(queue, 1, TaskState.CANCELLED)
    async with page_of(queue) as browser:
        answer = await browser.get(f"/tasks/{task.id}/edit")
        assert answer.status_code == 400
        assert "this one is cancelled" in text_of(answer)
        gone = {"id": str(UUID(int=1)), "seen": "x"}
        assert (await browser.post("/actions/edit-task", data=gone, headers=FROM_THE_PAGE)).status_code == 404


# On a database --------------------------------------------------------------------------------------------------------


async def test_tasks_in_a_database(url: str) -> None:
    async with AsyncQueue(url) as queue, page_of(queue) as browser:

        async def act(action: str, data: dict[str, Any]) -> str:
            answer = await browser.post(f"/actions/{action}", data=data, headers=FROM_THE_PAGE)
            assert answer.status_code == 303, text_of(answer)
            return text_of(await browser.get(answer.headers["location"]))

        form = sent_by(await browser.get("/tasks/new?kind=web-ship"))
        assert "inserted" in await act("insert-task", form | {"payload.order": "1", "due": "1h"})
        (task,) = (await queue.list_tasks()).tasks
        assert "It is not due yet" in text_of(await browser.get(f"/tasks/{task.id}"))
        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        assert "edited" in await act("edit-task", form | {"payload.order": "2"})
        assert "due now" in await act("run-task", {"id": str(task.id)})
        claimed = await queue.fetch_and_touch_task("orders")
        assert claimed is not None
        assert claimed.metadata == task.metadata | {"order": 2}
        await queue.fail_task(claimed, "no stock")
        assert "1 task retried" in await act("retry-tasks", {"kind": "web-ship", "error": "no stock"})
        assert "removed" in await act("remove-tasks", {"id": str(task.id), "sure": "1"})
        assert "No task matches" in text_of(await browser.get("/tasks"))
