"""Forms of kinds whose class is not imported where the page runs, and the options of all forms."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fang_async import AsyncQueue
from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from fang_core.record import Task
from fang_core.tasks.payloads.unchecked import stand_in
from fang_core.tasks.registry import REGISTRY
from fang_web import Role, User
from tests.web.client import FROM_THE_PAGE, page_of
from tests.web.sending import sent_by
from tests.web.tasks_of_tests import Ship
from tests.web.test_pages import text_of

ELSEWHERE = "webraw.Elsewhere"


def elsewhere(**fields: Any) -> Any:
    """A task of a kind that this process does not know."""
    return stand_in(ELSEWHERE).model_validate(fields)


@pytest.fixture
def queue() -> AsyncMemoryQueue:
    return AsyncMemoryQueue()


async def post(browser: httpx.AsyncClient, action: str, form: dict[str, Any]) -> httpx.Response:
    return await browser.post(f"/actions/{action}", data=form, headers=FROM_THE_PAGE)


async def only_task(queue: Any) -> Task:
    (task,) = (await queue.list_tasks()).tasks
    found: Task | None = await queue.find_task_by_id(task.id)
    assert found is not None
    return found


def test_a_stand_in_stays_unknown() -> None:
    stand_in(ELSEWHERE)
    assert REGISTRY.get(ELSEWHERE) is None


async def test_a_task_of_a_kind_without_a_class_is_inserted_as_json(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        assert "Another kind" in text_of((await browser.get("/tasks/new")).text)
        page = await browser.get(f"/tasks/new?kind={ELSEWHERE}")
        assert "nothing checks what you write" in text_of(page.text)
        typed = sent_by(page) | {"payload~others": '{"order": 5, "to": ["a"]}', "task_type": "afar"}
        answer = await post(browser, "insert-task", typed)
        assert answer.status_code == 303, text_of(answer.text)
    task = await only_task(queue)
    assert task.metadata == {"type": ELSEWHERE, "order": 5, "to": ["a"]}
    assert task.task_type == "afar"
    assert REGISTRY.get(ELSEWHERE) is None
    (entry,) = await queue.audit.list()
    assert entry.details == {"checked": "by no class"}


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("nonsense", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"a": NaN}', "a number that JSON does not have"),
        ('{"a": 1e999}', "inf is not JSON"),
        ('{"type": "x"}', "this key holds the kind"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", "nested too deeply"),
        ('{"a": ' + "[" * 9_000 + "]" * 9_000 + "}", "nested too deeply"),
        ('{"a": "' + "x" * 1_000_001 + '"}', "larger than 1000000 bytes"),
    ],
    ids=["text", "list", "nan", "inf", "type", "nul", "surrogate", "deep", "deeper", "long"],
)
async def test_what_is_no_payload_is_refused(queue: AsyncMemoryQueue, typed: str, why: str) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(f"/tasks/new?kind={ELSEWHERE}"))
        answer = await post(browser, "insert-task", form | {"payload~others": typed})
        assert answer.status_code == 422
        assert why in text_of(answer.text)
    assert (await queue.list_tasks()).tasks == ()


async def test_a_name_that_is_no_kind_has_no_form(queue: AsyncMemoryQueue) -> None:
    async with page_of(queue) as browser:
        assert (await browser.get("/tasks/new?kind=" + "x" * 501)).status_code == 400
        assert (await post(browser, "insert-task", {"payload~others": "{}"})).status_code == 400


async def test_a_task_without_a_class_is_edited_and_secrets_stay(queue: AsyncMemoryQueue) -> None:
    stored = {"order": 1, "password": "s3cret", "login": {"name": "ada", "token": "t0ken"}}
    task = await queue.insert_task(elsewhere(**stored), delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        assert f"/tasks/{task.id}/edit" in (await browser.get(f"/tasks/{task.id}")).text
        page = await browser.get(f"/tasks/{task.id}/edit")
        assert "s3cret" not in page.text
        assert "t0ken" not in page.text
        typed = sent_by(page) | {"payload~others": '{"order": 2}'}
        answer = await post(browser, "edit-task", typed)
        assert answer.status_code == 303, text_of(answer.text)
        assert (await only_task(queue)).metadata == {"type": ELSEWHERE, **stored, "order": 2}

        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        answer = await post(browser, "edit-task", form | {"payload.password": '"n3w"'})
        assert answer.status_code == 303, text_of(answer.text)
        assert (await only_task(queue)).metadata == {"type": ELSEWHERE, **stored, "order": 2, "password": "n3w"}
        assert (await post(browser, "run-task", {"id": str(task.id)})).status_code == 303
    assert (await only_task(queue)).scheduled_at < task.scheduled_at


@pytest.mark.parametrize("key", ["pass word.token", "token~kept", "x" * 300 + "password"])
async def test_what_is_masked_under_an_odd_name_hides_all(queue: AsyncMemoryQueue, key: str) -> None:
    task = await queue.insert_task(elsewhere(**{key: "s3cret", "order": 1}), delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        page = await browser.get(f"/tasks/{task.id}/edit")
        assert "s3cret" not in page.text
        assert (await post(browser, "edit-task", sent_by(page) | {"priority": "1"})).status_code == 303
    assert (await only_task(queue)).metadata == task.metadata


@pytest.mark.parametrize("fields", [{"": 1, "order": 1}, {"": 1, "token": "s3cret"}])
async def test_a_key_that_no_control_can_have_is_edited_as_json(
    queue: AsyncMemoryQueue, fields: dict[str, Any]
) -> None:
    task = await queue.insert_task(elsewhere(**fields), delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        page = await browser.get(f"/tasks/{task.id}/edit")
        assert page.status_code == 200
        assert "s3cret" not in page.text
        assert (await post(browser, "edit-task", sent_by(page) | {"priority": "1"})).status_code == 303
        assert (await only_task(queue)).metadata == task.metadata
        typed = sent_by(await browser.get(f"/tasks/{task.id}/edit")) | {"payload": '{"": 2}'}
        assert (await post(browser, "edit-task", typed)).status_code == 303
    assert (await only_task(queue)).metadata == {"type": ELSEWHERE, "": 2}


async def test_fields_may_have_the_names_of_pydantics_attributes(queue: AsyncMemoryQueue) -> None:
    fields = {"model_fields_set": ["b", "a"], "model_extra": 1, "run": 2}
    task = await queue.insert_task(elsewhere(**fields), delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        typed = sent_by(await browser.get(f"/tasks/{task.id}/edit")) | {"priority": "1"}
        answer = await post(browser, "edit-task", typed)
        assert answer.status_code == 303, text_of(answer.text)
    assert (await only_task(queue)).metadata == task.metadata
    unique = [await queue.insert_task(elsewhere(**fields), uniq=True) for _ in range(2)]
    assert unique[0].id == unique[1].id


async def test_a_unique_task_needs_its_class(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(elsewhere(a=1), uniq=True, delay=timedelta(hours=2))
    async with page_of(queue) as browser:
        shown = (await browser.get(f"/tasks/{task.id}")).text
        assert "/edit" not in shown
        assert "run-task" not in shown
        answer = await browser.get(f"/tasks/{task.id}/edit")
        assert answer.status_code == 400
        assert "says which tasks are equal" in text_of(answer.text)
        assert (await post(browser, "run-task", {"id": str(task.id)})).status_code == 400


async def test_only_an_admin_writes_json(queue: AsyncMemoryQueue) -> None:
    task = await queue.insert_task(elsewhere(a=1), delay=timedelta(hours=2))
    async with page_of(queue, auth=lambda _: User("ada", Role.OPERATOR)) as browser:
        assert (await browser.get(f"/tasks/new?kind={ELSEWHERE}")).status_code == 403
        assert (await browser.get(f"/tasks/{task.id}/edit")).status_code == 403
        assert (await post(browser, "insert-task", {"kind": ELSEWHERE})).status_code == 403


# Options --------------------------------------------------------------------------------------------------------------


async def test_an_insert_takes_all_options(queue: AsyncMemoryQueue) -> None:
    headers = {"tenant": "acme", "two": "lines\nof text"}
    typed = {
        "payload.order": "1",
        "timeout": "30s",
        "expires": "2h",
        "headers": json.dumps(headers),
        "uniq": "yes",
        "max_retries": "3",
    }
    async with page_of(queue) as browser:
        form = sent_by(await browser.get("/tasks/new?kind=web-ship"))
        assert (await post(browser, "insert-task", form | typed)).status_code == 303
        task = await only_task(queue)
        form = sent_by(await browser.get("/tasks/new?kind=web-ship"))
        answer = await post(browser, "insert-task", form | typed)
        page = text_of((await browser.get(answer.headers["location"])).text)
        assert f"an equal task was there: {task.id}" in page
    assert (task.headers, task.timeout, task.max_retries) == (headers, timedelta(seconds=30), 3)
    assert task.expires_at == task.scheduled_at + timedelta(hours=2)
    assert task.uniq_hash is not None


@pytest.mark.parametrize(
    ("option", "typed"),
    [
        ("timeout", "soon"),
        ("timeout", "0s"),
        ("expires", "never"),
        ("headers", "tenant=acme"),
        ("headers", '{"a": 1}'),
        ("headers", "[" * 9_000),
        ("headers", json.dumps({"a": "x" * 9_000})),
        ("uniq", "maybe"),
        ("max_retries", "many"),
    ],
)
async def test_options_that_cannot_be_are_told_beside_them(queue: AsyncMemoryQueue, option: str, typed: str) -> None:
    async with page_of(queue) as browser:
        form = sent_by(await browser.get("/tasks/new?kind=web-ship")) | {"payload.order": "1", option: typed}
        answer = await post(browser, "insert-task", form)
        assert answer.status_code == 422
        assert "Nothing was written: 1 field is not right yet" in text_of(answer.text)
    assert (await queue.list_tasks()).tasks == ()


async def test_an_edit_changes_options_and_keeps_headers_that_are_masked(queue: AsyncMemoryQueue) -> None:
    headers = {"tenant": "acme", "X-Api-Key": "s3cret"}
    expires = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    task = await queue.insert_task(
        Ship(order=1), headers=headers, timeout=timedelta(seconds=1.5), expires=expires, delay=timedelta(hours=1)
    )
    async with page_of(queue) as browser:
        page = await browser.get(f"/tasks/{task.id}/edit")
        assert "s3cret" not in page.text
        assert "these stay, and are not shown: X-Api-Key" in text_of(page.text)
        form = sent_by(page)
        assert (form["timeout"], form["expires"]) == (["1.5s"], [expires.isoformat()])
        assert (await post(browser, "edit-task", form | {"payload.note": "x"})).status_code == 303
        same = await only_task(queue)
        assert (same.headers, same.timeout, same.expires_at) == (headers, task.timeout, expires)

        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        typed = form | {"headers": '{"tenant": "other"}', "timeout": "1m", "expires": "3h"}
        assert (await post(browser, "edit-task", typed)).status_code == 303
        changed = await only_task(queue)
        assert changed.headers == {"tenant": "other", "X-Api-Key": "s3cret"}
        assert changed.timeout == timedelta(minutes=1)
        assert changed.expires_at == changed.scheduled_at + timedelta(hours=3)

        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        assert (await post(browser, "edit-task", form | {"headers": ""})).status_code == 303
        assert (await only_task(queue)).headers == {"X-Api-Key": "s3cret"}


@pytest.mark.parametrize("option", ["timeout", "expires", "due", "task_type", "priority", "max_retries"])
async def test_an_option_that_was_emptied_is_told_to_stay(queue: AsyncMemoryQueue, option: str) -> None:
    expires = datetime(2031, 5, 6, tzinfo=UTC)
    task = await queue.insert_task(
        Ship(order=1), timeout=timedelta(seconds=5), expires=expires, delay=timedelta(hours=1)
    )
    async with page_of(queue) as browser:
        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        answer = await post(browser, "edit-task", form | {option: "", "payload.note": "new"})
    assert answer.status_code == 422
    told = f"it cannot be taken away from a task: give another value, or the former one, {form[option][0]}"
    assert told in text_of(answer.text)
    assert (await only_task(queue)).metadata == task.metadata


async def test_an_edit_without_a_class_in_a_database(url: str) -> None:
    async with AsyncQueue(url) as queue, page_of(queue) as browser:
        form = sent_by(await browser.get(f"/tasks/new?kind={ELSEWHERE}"))
        typed = form | {"payload~others": '{"a": [1, 2.5]}', "headers": '{"x": "y"}', "due": "1h", "timeout": "5s"}
        assert (await post(browser, "insert-task", typed)).status_code == 303
        task = await only_task(queue)
        form = sent_by(await browser.get(f"/tasks/{task.id}/edit"))
        assert (await post(browser, "edit-task", form | {"payload~others": '{"b": null}'})).status_code == 303
        changed = await only_task(queue)
        assert changed.metadata == {"type": ELSEWHERE, "b": None}
        assert (changed.headers, changed.timeout) == ({"x": "y"}, timedelta(seconds=5))
