"""What the pages show, without JavaScript."""

import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urljoin
from uuid import UUID

import pytest

from fang_core import AsyncMemoryQueue, AsyncRunnable, Limit, Rate
from fang_core.backends.pools import Declaration
from fang_core.errors import BackendError, NotConnected
from fang_core.flow.limits import Fair, rules_as_json
from fang_core.monitoring.stats import HeatPoint, Stats
from tests.web.client import page_of
from tests.web.telling import NOW, TellingQueue, kind_stats, live_run, pool, stats, type_stats


class WebMail(AsyncRunnable):
    """Is what schedules insert."""

    to: str = "ada"

    async def run(self, queue: Any) -> None: ...


async def shown(queue: Any, path: str, **options: Any) -> str:
    async with page_of(queue, **options) as client:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text


def text_of(html: str) -> str:
    """Returns what a reader sees of a page, on one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


async def test_the_overview_shows_task_types_throughput_and_what_is_wrong() -> None:
    told = stats(kind_stats(failed=7), types=[type_stats(due=100, due_is_exact=False, oldest_due=700.0)])
    html = await shown(TellingQueue(told, [pool()]), "/")
    text = text_of(html)
    assert "mails 100+ 11 min 40 s 1 8 100 7 75 %" in text
    assert "7 tasks of Mail failed for good" in text
    assert "task type mails: a task has been due for 11 min 40 s" in text
    assert "2 of 8 workers are busy" in text
    assert "0.967/s" in text  # 58 finished and none failed, of the last whole minute
    assert '<svg viewBox="0 0 720 136" role="img" aria-label="1,800 runs ended, 30 of them in an error' in html
    assert 'aria-current="page" accesskey="1">Overview' in html


async def test_the_overview_counts_no_workers_of_a_pool_that_is_silent() -> None:
    silent = pool(id=UUID(int=8), workers=5, busy=5, seen_at=NOW - timedelta(minutes=1))
    assert "2 of 8 workers are busy" in text_of(await shown(TellingQueue(stats(), [pool(seen_at=NOW), silent]), "/"))


@pytest.mark.parametrize("name", ["..", ".", "a/../b", "a//b", "/", "a/", "~x", "~2e2e", "a?b#c&d", "ü %2E%2E", "a/b"])
async def test_a_task_type_has_a_page_whatever_its_name(name: str) -> None:
    queue = AsyncMemoryQueue()
    await queue.pause(name)
    async with page_of(queue) as client:
        address = "/queues"
        for link in (f'<a href="([^"]+)">{re.escape(name)}</a>', 'href="([^"]+since=1d[^"]*)"'):
            found = re.search(link, unescape((await client.get(address)).text))
            assert found is not None, name
            address = urljoin("http://browser/queues", found[1]).removeprefix("http://browser")  # a browser resolves ..
            assert f"<h1>Task type {name}</h1>" in unescape((await client.get(address)).text)


async def test_the_overview_of_an_empty_queue() -> None:
    text = text_of(await shown(TellingQueue(stats(points=(), utilisation=None)), "/"))
    assert "Nothing that could be seen" in text
    assert "No task type has tasks or pools" in text


@pytest.mark.parametrize("path", ["/", "/kinds", "/kinds/Mail", "/queues", "/queues/mails", "/pools"])
async def test_what_takes_too_long_is_left_out(path: str) -> None:
    class Slow(TellingQueue):
        async def stats(self, *_: Any, **__: Any) -> Stats:
            raise BackendError("the statement took\ntoo long")

        async def pools(self) -> Any:
            raise BackendError("the statement took\ntoo long")

    assert "took too long" in text_of(await shown(Slow(), path))


async def test_a_database_that_does_not_answer_is_said_in_one_line() -> None:
    class Away(TellingQueue):
        async def stats(self, *_: Any, **__: Any) -> Stats:
            raise NotConnected("no answer from db:5432\nwithin 5 s")

    async with page_of(Away()) as client:
        answer = await client.get("/")
    assert answer.status_code == 503
    assert "no answer from db:5432 within 5 s" in answer.text


async def test_tables_are_short_and_can_be_searched() -> None:
    many = [type_stats(f"type-{n}", workers=0) for n in range(5_000)]
    told = stats(*(kind_stats(f"Kind{n}") for n in range(1_000)), types=many)
    queue = TellingQueue(told, [pool(*(live_run() for _ in range(100)), id=UUID(int=n)) for n in range(200)])
    for n in range(300):
        await queue.schedules.put(f"schedule-{n}", WebMail(), every=timedelta(hours=1), task_type="mails")
    for path, of_what, sizes in (
        ("/", "4,970 more such things", (b"<tr>", 201)),
        ("/kinds", "800 more kinds", (b"<tr>", 201)),
        ("/queues", "4,800 more task types", (b"<tr>", 201)),
        ("/pools", "150 more pools", (b"<section", 50)),
        ("/schedules", "200 more schedules", (b"<section", 100)),
    ):
        html = await shown(queue, path)
        assert of_what in text_of(html)
        assert html.encode().count(sizes[0]) == sizes[1]
    assert "94 more runs of this pool" in text_of(await shown(queue, "/pools"))
    for path, rows in (("/queues?q=E-4999", 1), ("/kinds?q=kind99", 11), ("/schedules?q=299", 0)):
        html = await shown(queue, path)
        assert html.count('<th scope="row">') == rows
    assert html.count("<section") == 1


async def test_kinds_are_sorted_by_what_one_asks_for() -> None:
    told = stats(kind_stats("Slow", run_seconds=9.0), kind_stats("Bad", run_seconds=1.0, retried=50))
    for sort, order in (("time", ["Slow", "Bad"]), ("errors", ["Bad", "Slow"]), ("name", ["Bad", "Slow"])):
        html = await shown(TellingQueue(told), f"/kinds?sort={sort}")
        assert re.findall(r'scope="row"><a href="[^"]*">(\w+)<', html) == order
    assert "100 ms 500 ms 1.5 s 100 ms 500 ms 1.5 s" in text_of(html)


async def test_a_kind_has_its_heat_maps_and_histograms() -> None:
    heat = [
        HeatPoint(at=NOW - timedelta(minutes=n), kind="a/b Mail", task_type=each, queue={20: n, 30: 1}, run={40: 1})
        for n in range(1, 60)
        for each in ("mails", "others")
    ]
    html = await shown(TellingQueue(stats(kind_stats("a/b Mail")), heat=heat), "/kinds/a%2Fb%20Mail")
    assert "<h1>a/b Mail</h1>" in html
    queue_map = html.split("how long tasks waited, over time")[1].split("</svg>")[0]
    assert queue_map.count('<path class="h') <= 8
    assert queue_map.count("M") - 1 == 2 * 59  # a cell for each bucket of each minute, of both task types together
    assert html.count("<svg") == 5


async def test_a_kind_that_did_not_run() -> None:
    assert "No run of this kind was counted" in await shown(TellingQueue(), "/kinds/Nothing")


async def test_pools_show_what_runs_in_them_since_when_and_how_far() -> None:
    running = live_run(done=30, total=120, text="page 30")
    hung = {
        "01890a5d-0000-774b-bcce-b302099a8057": {
            "hung": "/app/tasks.py:12",
            "kind": "Mail",
            "attempt": 1,
            "since": NOW.isoformat(),
        }
    }
    well = pool(running, runs=hung, seen_at=NOW - timedelta(seconds=5))
    silent = pool(host="gone", pid=9, seen_at=NOW - timedelta(seconds=31))
    text = text_of(await shown(TellingQueue(stats(until=NOW), [well, silent]), "/pools"))
    assert "host:1" in text
    assert "2 busy" in text
    assert "30 of 120 page 30" in text
    assert "A run of Mail hangs, at /app/tasks.py:12" in text
    assert "2 17 s 30 of 120" in text  # 12 s when it was told, 5 s ago by the backend's clock
    assert re.findall(r"(\S+) silent", text) == ["gone:9"]


async def test_a_schedule_whose_task_type_no_pool_serves_is_marked() -> None:
    queue = TellingQueue(pools=[pool()])
    await queue.schedules.put("served", WebMail(), task_type="mails", every=timedelta(hours=1))
    assert "no pool serves" not in await shown(queue, "/schedules")
    await queue.schedules.put("mistyped", WebMail(), task_type="mial", every=timedelta(hours=1))
    assert "WebMail in mial no pool serves this task type: no tick is made" in text_of(await shown(queue, "/schedules"))
    queue.state.schedules.declare({"Gone": {"kind": "Gone", "task_type": "mails", "cron": "@daily", "tz": "UTC"}}, ())
    told = "Gone in mails , as its class says no pool of this task type has this class: no tick is made"
    assert told in text_of(await shown(queue, "/schedules"))


async def test_schedules_show_their_next_five_ticks() -> None:
    queue = AsyncMemoryQueue()
    await queue.schedules.put("nightly", WebMail(), cron="30 2 * * *", tz="Europe/Berlin")
    await queue.schedules.put("often", WebMail(), every=timedelta(minutes=5))
    await queue.schedules.pause("often", reason="too often", by="grace")
    html = await shown(queue, "/schedules")
    text = text_of(html)
    assert "30 2 * * * in Europe/Berlin" in text
    assert len(re.findall(r"<li>\w{3} [^<]*02:30", html)) == 5
    assert "every 5 min" in text
    assert "by grace: too often" in text


async def test_what_people_changed_is_shown_beside_what_the_code_says() -> None:
    queue = AsyncMemoryQueue()
    queue.state.managing.declare([Declaration("mails", {"WebMail": rules_as_json([Limit(5), Limit(1, by="to")])})])
    await queue.limits.set("mails", [Limit(2)], reason="slow disk", by="ada")
    told = "by ada: slow disk. In the code: WebMail: 5 at once; 1 at once for each to."
    assert told in text_of(await shown(queue, "/queues/mails"))

    declared = {"kind": "WebMail", "task_type": "mails", "cron": "0 3 * * *", "tz": "Europe/Berlin"}
    queue.state.schedules.declare({"WebMail": declared}, ())
    assert "In the code" not in await shown(queue, "/schedules")
    await queue.schedules.put("WebMail", WebMail(), every=timedelta(hours=1), tz="Asia/Tokyo", reason="more", by="ada")
    told = text_of(await shown(queue, "/schedules"))
    assert "by ada: more In the code 0 3 * * * in Europe/Berlin, in place of which this was put" in told
    await queue.schedules.pause("WebMail", reason="busy", by="ada")
    assert text_of(await shown(queue, "/schedules")).count("by ada: busy") == 1

    await queue.limits.remove("mails")
    assert "In the code" not in await shown(queue, "/queues/mails")


async def test_queues_show_pauses_and_limits() -> None:
    queue = TellingQueue(stats(types=[type_stats()]))
    await queue.pause("exports", reason="the API is down", by="grace")
    await queue.limits.set("mails", [Limit(5), Rate(100, per=timedelta(minutes=1))], by="ada")
    text = text_of(await shown(queue, "/queues"))
    assert "paused" in text
    assert "by grace: the API is down" in text
    assert "5 at once; 100/min set by ada" in text
    html = await shown(queue, "/queues/mails")
    assert 'name="limit" type="number" min="0" max="1000000" value="5"' in html
    assert 'name="rate" type="number" min="1" max="1000000" value="100"' in html
    assert '<option value="min" selected>' in html


async def test_the_audit_is_listed_page_by_page() -> None:
    queue = AsyncMemoryQueue()
    for n in range(150):
        entry = await queue.audit.begin("ada", "pause", f"type {n}", {"reason": "why", "for": ""})
        await queue.audit.end(entry, "paused")
    html = await shown(queue, "/audit")
    assert html.count("<td>ada</td>") == 100
    assert "reason: why" in html
    older = re.search(r'rel="next" href="([^"]*)"', html)
    assert older is not None
    rest = await shown(queue, older[1])
    assert "type 0<" in rest
    assert 'rel="next"' not in rest


async def test_what_was_there_and_cannot_be_said_in_the_form_stays() -> None:
    queue = AsyncMemoryQueue()
    queue.state.managing.declare([Declaration("mails", {"WebMail": rules_as_json([Fair(by="to")])})])
    await queue.limits.set("mails", [Fair(by="to"), Rate(7, per=timedelta(seconds=30)), Limit(1)])
    assert "These stay as they are: fair" in text_of(await shown(queue, "/queues/mails"))


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'`{{7*7}}javascript:alert(1)\u202e"


async def test_hostile_names_are_text_on_every_page() -> None:
    told = stats(kind_stats(HOSTILE, HOSTILE, failed=9), types=[type_stats(HOSTILE, workers=0)])
    live = live_run(HOSTILE, done=1, total=2, text=HOSTILE)
    runs = {HOSTILE: {"hung": HOSTILE, "kind": HOSTILE, "attempt": 1, "since": NOW.isoformat()}}
    queue = TellingQueue(told, [pool(live, host=HOSTILE, task_types=(HOSTILE,), kinds=(HOSTILE,), runs=runs)])
    await queue.pause(HOSTILE, reason=HOSTILE, by=HOSTILE)
    await queue.limits.set(HOSTILE, [Limit(1)], reason=HOSTILE, by=HOSTILE)
    name = HOSTILE.replace("\u202e", "")
    await queue.schedules.put(name, WebMail(), every=timedelta(hours=1), reason=HOSTILE, by=HOSTILE)
    await queue.schedules.pause(name, reason=HOSTILE, by=HOSTILE)
    entry = await queue.audit.begin(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
    await queue.audit.end(entry, HOSTILE)
    from urllib.parse import quote

    one = quote(HOSTILE, safe="")
    for path in ("/", "/kinds", f"/kinds/{one}", "/pools", "/schedules", "/queues", f"/queues/{one}", "/audit"):
        html = await shown(queue, path)
        assert "alert(1)" in html
        tags = re.findall(r"<(/?[a-zA-Z][^\s>/]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", html)
        assert not {tag for tag, _ in tags if tag.lower() == "img"}
        assert sum(tag == "script" for tag, _ in tags) == 2
        for _, attributes in tags:
            names = re.findall(r"\s([\w:-]+)(?:=\"[^\"]*\"|='[^']*')?", attributes)
            assert not [each for each in names if each.startswith("on")]
            assert not re.search(r"(?:href|src|action)=\"\s*(?!/|data:image/svg|#)", attributes)
