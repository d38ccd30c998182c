"""Changes: who may make them, from where, and what the audit says of them."""

import asyncio
import base64
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fang_async import AsyncRunnable
from fang_core import AsyncMemoryQueue, Limit, Rate, TaskConfig
from fang_core.backends.pools import Declaration
from fang_core.errors import BackendError, RowsLocked
from fang_core.flow.limits import Fair, rules_as_json
from fang_core.monitoring.audit import AuditCall
from fang_web import Role, User, basic, create_app
from fang_web.pages import ROUTES
from fang_web.parameters import MOST_FORM
from tests.web.client import FROM_THE_PAGE, HOME, browser, page_of
from tests.web.test_pages import WebMail

ACTIONS = [route for route in ROUTES if route.is_action]
PAUSE = {"name": "mails", "reason": "the API is down", "lasts": "1h"}


async def post(queue: Any, action: str, form: Any, headers: Any = FROM_THE_PAGE, **options: Any) -> httpx.Response:
    async with page_of(queue, **options) as client:
        return await client.post(f"/actions/{action}", data=form, headers=headers)


async def paused(queue: Any) -> list[str]:
    return [info.task_type for info in await queue.limits.list() if info.is_paused]


# From where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "origin", "is_made"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, None, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": HOME}, None, True),
        ({"Origin": HOME}, None, True),
        ({"Origin": "https://tasks.example.com"}, "https://tasks.example.com", True),
        ({"Sec-Fetch-Site": "cross-site"}, None, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": HOME}, None, False),
        ({"Sec-Fetch-Site": "same-site"}, None, False),
        ({"Sec-Fetch-Site": "none"}, None, False),
        ({"Sec-Fetch-Site": ""}, None, False),
        ({"Origin": "https://evil.example"}, None, False),
        ({"Origin": "null"}, None, False),
        ({"Origin": HOME + ".evil.example"}, None, False),
        ({"Origin": HOME}, "https://tasks.example.com", False),
        ({}, None, False),
    ],
)
async def test_a_change_comes_from_the_page_itself(headers: dict[str, str], origin: Any, is_made: bool) -> None:
    queue = AsyncMemoryQueue()
    answer = await post(queue, "pause-type", PAUSE, headers, origin=origin)
    assert answer.status_code == (303 if is_made else 403)
    assert await paused(queue) == (["mails"] if is_made else [])
    assert len(await queue.audit.list()) == is_made


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin")],
        [("Origin", HOME), ("Origin", "https://elsewhere.example")],
        [("Host", ""), ("Origin", "http://")],
    ],
)
async def test_a_header_that_says_two_things_or_nothing_is_believed_in_nothing(headers: list[tuple[str, str]]) -> None:
    queue = AsyncMemoryQueue()
    app = create_app(queue, auth=lambda _: User("ada", Role.ADMIN))
    async with browser(app) as client:
        answer = await client.post("/actions/pause-type", data=PAUSE, headers=headers)
    assert answer.status_code == 403
    assert await paused(queue) == []


@pytest.mark.parametrize("route", ACTIONS, ids=lambda route: route.path)
async def test_no_action_is_made_by_a_link_from_elsewhere_or_on_a_page_that_is_read_only(route: Any) -> None:
    queue = AsyncMemoryQueue()
    async with page_of(queue) as client:
        assert (await client.get(route.path, headers=FROM_THE_PAGE)).status_code == 405
        assert (await client.post(route.path, data={"name": "x"})).status_code == 403
    async with page_of(queue, read_only=True) as client:
        assert (await client.post(route.path, data={"name": "x"}, headers=FROM_THE_PAGE)).status_code == 403
    assert await queue.audit.list() == []


async def test_a_page_that_is_read_only_has_no_forms() -> None:
    queue = AsyncMemoryQueue()
    await queue.pause("mails")
    await queue.schedules.put("nightly", WebMail(), cron="@daily")
    async with page_of(queue, read_only=True) as client:
        for path in ("/queues", "/queues/mails", "/schedules"):
            assert 'method="post"' not in (await client.get(path)).text


# By whom --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ACTIONS, ids=lambda route: route.path)
async def test_each_action_needs_its_role(route: Any) -> None:
    ranks = ["viewer", "operator", "admin"]
    assert route.role in {"operator", "admin"}
    queue = AsyncMemoryQueue()
    lower = ranks[: ranks.index(route.role)]
    auth = basic(dict.fromkeys(ranks, "pass"), roles={role: role for role in ranks})
    async with page_of(queue, auth=auth) as client:
        for role in lower:
            token = base64.b64encode(f"{role}:pass".encode()).decode()
            headers = FROM_THE_PAGE | {"Authorization": f"Basic {token}"}
            answer = await client.post(route.path, data={"name": "x"}, headers=headers)
            assert answer.status_code == 403
            assert f"needs the role {route.role}" in answer.text
    assert await queue.audit.list() == []


# What is posted -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"name=mails", "application/json", 415),
        (b"name=mails", "text/plain", 415),
        (b"name=mails", "multipart/form-data; boundary=x", 415),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"name=", "application/x-www-form-urlencoded", 400),
        (b"name=a&name=b", "application/x-www-form-urlencoded", 400),
        (b"name=a%00b", "application/x-www-form-urlencoded", 400),
        (b"name=%ff", "application/x-www-form-urlencoded", 400),
        ("name=ü".encode(), "application/x-www-form-urlencoded", 400),
        (b"name=" + b"x" * 501, "application/x-www-form-urlencoded", 400),
        (b"name=a&lasts=for+ever", "application/x-www-form-urlencoded", 400),
        (b"name=a&" + b"&".join(b"f=%d" % n for n in range(2_001)), "application/x-www-form-urlencoded", 400),
        (b"name=" + b"x" * MOST_FORM, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_what_does_not_fit_is_refused(content: bytes, kind: str, status: int) -> None:
    queue = AsyncMemoryQueue()
    async with page_of(queue) as client:
        headers = FROM_THE_PAGE | {"Content-Type": kind}
        answer = await client.post("/actions/pause-type", content=content, headers=headers)
    assert answer.status_code == status
    assert (await paused(queue), await queue.audit.list()) == ([], [])


# What is made, and what the audit says --------------------------------------------------------------------------------


async def test_a_pause_is_made_written_down_and_said() -> None:
    queue = AsyncMemoryQueue()
    answer = await post(queue, "pause-type", PAUSE)
    (info,) = await queue.limits.list()
    assert (info.paused_by, info.pause_reason) == ("loopback", "the API is down")
    assert info.paused_until is not None
    (entry,) = await queue.audit.list()
    assert entry[2:] == (
        *("loopback", "pause", "mails", {"reason": "the API is down", "for": "for 1h"}),
        "paused for 1h",
    )
    assert answer.headers["location"] == f"/queues?done={entry.id}"
    async with page_of(queue) as client:
        assert "pause mails: paused for 1h" in (await client.get(answer.headers["location"])).text
    await post(queue, "resume-type", {"name": "mails"})
    assert await queue.limits.list() == []


async def test_what_another_user_did_is_not_said_as_ones_own() -> None:
    queue = AsyncMemoryQueue()
    entry = await queue.audit.begin("grace", "pause", "mails")
    async with page_of(queue) as client:
        assert "pause mails" not in (await client.get(f"/queues?done={entry}")).text
        assert (await client.get("/queues?done=99999999999999999999")).status_code == 400


async def test_nothing_is_changed_if_the_audit_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = AsyncMemoryQueue()

    def fail(*_: Any) -> int:
        raise BackendError("the audit is full")

    monkeypatch.setattr(queue.state.audit, "begin_audit", fail)
    assert (await post(queue, "pause-type", PAUSE)).status_code == 503
    assert await paused(queue) == []


async def test_a_change_that_fails_stands_in_the_audit_without_the_text_of_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = AsyncMemoryQueue()

    async def fail(*_: Any, **__: Any) -> Any:
        raise RowsLocked("a row is locked: hunter2")

    monkeypatch.setattr(queue, "pause", fail)
    assert (await post(queue, "pause-type", PAUSE)).status_code == 503
    assert [entry.result for entry in await queue.audit.list()] == ["failed: RowsLocked"]


async def test_a_change_that_was_made_is_told_even_if_its_result_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = AsyncMemoryQueue()

    def fail(*_: Any) -> bool:
        raise BackendError("the audit is full")

    monkeypatch.setattr(queue.state.audit, "end_audit", fail)
    assert (await post(queue, "pause-type", PAUSE)).status_code == 303
    assert await paused(queue) == ["mails"]
    assert [entry.result for entry in await queue.audit.list()] == [None]


async def test_the_result_is_written_if_the_server_gives_the_request_up_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = AsyncMemoryQueue()
    ends, may_end, has_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    do = queue._do_audit

    async def do_later(call: AuditCall[Any]) -> Any:
        if call.verb == "end_audit":
            ends.set()
            await may_end.wait()
        done = await do(call)
        if call.verb == "end_audit":
            has_ended.set()
        return done

    monkeypatch.setattr(queue, "_do_audit", do_later)
    request = asyncio.create_task(post(queue, "pause-type", PAUSE))
    await ends.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    may_end.set()
    await has_ended.wait()
    assert [entry.result for entry in await queue.audit.list()] == ["paused for 1h"]


async def test_schedules_are_steered() -> None:
    queue = AsyncMemoryQueue()
    await queue.schedules.put("nightly", WebMail(), cron="@daily")
    await post(queue, "pause-schedule", {"name": "nightly", "reason": "why", "lasts": ""})
    (info,) = await queue.schedules.list()
    assert (info.paused, info.paused_by, info.pause_reason) == (True, "loopback", "why")
    await post(queue, "resume-schedule", {"name": "nightly"})
    answer = await post(queue, "run-schedule", {"name": "nightly"})
    assert answer.headers["location"].startswith("/schedules?done=")
    assert [task.kind for task in queue.tasks] == ["WebMail"]
    await post(queue, "remove-schedule", {"name": "nightly"})
    assert await queue.schedules.list() == []
    said = [(entry.action, entry.result) for entry in reversed(await queue.audit.list())]
    assert said == [
        ("pause schedule", "paused until resumed"),
        ("resume schedule", "resumed"),
        ("run schedule", f"inserted {queue.tasks[0].id}"),
        ("remove schedule", "removed"),
    ]


async def test_a_schedule_that_is_not_there_is_said() -> None:
    answer = await post(AsyncMemoryQueue(), "run-schedule", {"name": "nightly"})
    assert answer.status_code == 404
    assert "nightly" in answer.text


async def test_limits_are_set_and_given_back_to_the_code() -> None:
    queue = AsyncMemoryQueue()
    odd, fair = Rate(7, per=timedelta(seconds=30)), Fair(by="to")
    queue.state.managing.declare([Declaration("mails", {"WebMail": rules_as_json([fair])})])
    await queue.limits.set("mails", [fair, odd, Limit(1)])
    await post(queue, "set-limits", {"name": "mails", "limit": "5", "rate": "", "per": "s", "reason": "slow"})
    (info,) = await queue.limits.list()
    assert (set(info.changed or ()), info.changed_by, info.change_reason) == ({Limit(5), odd, fair}, "loopback", "slow")
    await queue.limits.set("mails", [Rate(9, per=timedelta(minutes=1), burst=3)])
    await post(queue, "set-limits", {"name": "mails", "limit": "", "rate": "9", "per": "min"})
    (info,) = await queue.limits.list()
    assert info.changed == (Rate(9, per=timedelta(minutes=1), burst=3),)  # what the form does not show stays
    await post(queue, "set-limits", {"name": "mails", "limit": "0", "rate": "2", "per": "h"})
    (info,) = await queue.limits.list()
    assert info.changed == (Limit(0), Rate(2, per=timedelta(hours=1)))
    await post(queue, "remove-limits", {"name": "mails"})
    (info,) = await queue.limits.list()
    assert info.changed is None


@pytest.mark.parametrize("form", [{"limit": "-1"}, {"limit": "1e9"}, {"rate": "0"}, {"rate": "1", "per": "year"}])
async def test_limits_that_cannot_be_are_refused(form: dict[str, str]) -> None:
    queue = AsyncMemoryQueue()
    answer = await post(queue, "set-limits", {"name": "mails", **form})
    assert answer.status_code == 400
    assert await queue.audit.list() == []


class Exported(AsyncRunnable):
    task_config = TaskConfig(kind="webkeys.Exported", task_type="webkeys", limits=[Limit(2, by="tenant")])
    tenant: str

    async def run(self, queue: Any) -> None: ...


def queue_with_keys() -> AsyncMemoryQueue:
    queue = AsyncMemoryQueue()
    queue.state.managing.declare([Declaration("webkeys", {"webkeys.Exported": rules_as_json([Limit(2, by="tenant")])})])
    return queue


async def test_limits_of_each_key_are_set_and_given_back() -> None:
    queue = queue_with_keys()
    typed = {"name": "webkeys", "limit": "9", "by": "tenant", "each": "3", "rate_each": "5", "per_each": "min"}
    assert (await post(queue, "set-limits", typed)).status_code == 303
    (info,) = await queue.limits.list()
    rate = Rate(5, per=timedelta(minutes=1), by="tenant")
    assert set(info.changed or ()) == {Limit(9), Limit(3, by="tenant"), rate}
    async with page_of(queue) as browser:
        shown = (await browser.get("/queues/webkeys")).text
    # What the form shows is what holds, so that to send it as it stands changes nothing.
    values = {
        name: re.search(rf'name="{name}"[^>]*value="([^"]*)"', shown)[1]
        for name in ("limit", "each", "rate_each", "by")
    }
    assert values == {"limit": "9", "each": "3", "rate_each": "5", "by": "tenant"}
    assert '<option value="min" selected>' in shown.split('name="per_each"')[1]
    await queue.limits.set("webkeys", [Rate(5, per=timedelta(minutes=1), burst=2, by="tenant")])
    typed = {"name": "webkeys", "by": "tenant", "rate_each": "5", "per_each": "min"}
    assert (await post(queue, "set-limits", typed)).status_code == 303
    (info,) = await queue.limits.list()
    assert info.changed == (Rate(5, per=timedelta(minutes=1), burst=2, by="tenant"),)
    assert (await post(queue, "set-limits", {"name": "webkeys"})).status_code == 303
    (info,) = await queue.limits.list()
    assert info.changed == ()
    async with page_of(queue) as browser:  # which still says by what the code makes the key
        assert re.findall('name="by"[^>]*value="([^"]*)"', (await browser.get("/queues/webkeys")).text) == ["tenant"]


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"each": "3"}, "needs the name of the field"),
        ({"rate_each": "3", "by": "a,,b"}, "needs the name of the field"),
        ({"each": "0", "by": "a"}, "each"),
        ({"rate_each": "0", "by": "a"}, "pause the task type"),
        ({"each": "3", "by": "a, a"}, "by names a field twice"),
    ],
)
async def test_limits_of_keys_that_cannot_be_are_refused(form: dict[str, str], why: str) -> None:
    queue = AsyncMemoryQueue()
    answer = await post(queue, "set-limits", {"name": "webkeys", **form})
    assert answer.status_code == 400
    assert why in answer.text
    assert await queue.limits.list() == []


async def test_who_may_not_set_limits_sees_who_holds_them() -> None:
    queue = queue_with_keys()
    for tenant in ("acme", "acme", "zeta", "<b>"):
        await queue.insert_task(Exported(tenant=tenant))
    async with page_of(queue, auth=lambda _: User("ada", Role.OPERATOR)) as browser:
        shown = (await browser.get("/queues/webkeys")).text
        answer = await browser.post("/actions/set-limits", data={"name": "webkeys"}, headers=FROM_THE_PAGE)
    assert answer.status_code == 403
    assert "set-limits" not in shown
    found = re.findall(r'<th scope="row">([^/]*)</th><td class="n">(\d+)</td><td class="n">(\d+)</td>', shown)
    assert found == [("acme", "0", "2"), ("&lt;b&gt;", "0", "1"), ("zeta", "0", "1")]


class Called(AsyncRunnable):
    task_config = TaskConfig(kind="webkeys.Called", task_type="webkeys", limits=[Limit(2, by="api_key")])
    api_key: str

    async def run(self, queue: Any) -> None: ...


async def test_keys_that_tell_a_masked_field_are_shown_nowhere() -> None:
    queue = queue_with_keys()
    for secret in ("s3cret", "s3cret-too"):
        task = await queue.insert_task(Called(api_key=secret))
    async with page_of(queue) as browser:
        shown = {path: (await browser.get(path)).text for path in ("/queues/webkeys", f"/tasks/{task.id}", "/tasks")}
    assert not [path for path, text in shown.items() if "s3cret" in text]
    assert '<th scope="row">**********</th><td class="n">0</td><td class="n">2</td>' in shown["/queues/webkeys"]
    assert "<dt>Key of limits</dt><dd>**********</dd>" in shown[f"/tasks/{task.id}"]


async def test_weights_do_not_show_a_masked_field() -> None:
    queue = AsyncMemoryQueue()
    rules = [Limit(2, by="api_key"), Fair("api_key", weights={"s3cret": 5})]
    queue.state.managing.declare([Declaration("webkeys", {"webkeys.Called": rules_as_json(rules)})])
    answer = await post(queue, "set-limits", {"name": "webkeys", "by": "api_key", "each": "3"})
    assert answer.status_code == 303
    (info,) = await queue.limits.list()
    assert Fair("api_key", weights={"s3cret": 5}) in (info.changed or ())  # what is hidden stays as it is
    async with page_of(queue) as browser:
        shown = {path: (await browser.get(path)).text for path in ("/queues", "/queues/webkeys", "/audit")}
    assert [path for path, text in shown.items() if "fair for each api_key (weights: ********** 5)" not in text] == []
    assert [path for path, text in shown.items() if "s3cret" in text] == []
    assert "s3cret" not in repr(await queue.audit.list())
