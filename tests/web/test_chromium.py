"""The page in a real browser, under its policy: hostile texts stay texts, and what people use works.

Skipped where Chromium is not installed.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from markupsafe import Markup

from fang_core.backends.memory.async_queue import AsyncMemoryQueue
from fang_web.rendering import ENVIRONMENT
from tests.web.chromium import PROGRAM, WHY_NOT, Browser, Tab
from tests.web.hostile_queue import EDITABLE, TEXTS, WITH_ALL, HostileQueue, task_id
from tests.web.served import served
from tests.web.tasks_of_tests import Ship

pytestmark = [pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT), pytest.mark.timeout(300)]

ONE = quote(TEXTS[1], safe="")
PAGES = [
    "/",
    "/kinds",
    f"/kinds/{ONE}",
    "/pools",
    "/schedules",
    "/queues",
    f"/queues/{ONE}",
    "/audit",
    *(f"/tasks?cursor={start}" for start in (0, 50, 100, 150, 200)),
    f"/tasks/{task_id(WITH_ALL)}",
    *(f"/tasks/{task_id(number)}" for number in range(0, 200, 25)),
    f"/tasks?kind={ONE}&task_type={ONE}&error={ONE}&header=a%3D{ONE}&payload={quote(json.dumps({'a': TEXTS[2]}))}",
    f"/tasks/change?action=remove&kind={ONE}",
    f"/tasks?state={ONE}",
    f"/tasks/new?kind={ONE}",
    "/tasks/new?kind=web-free",
    f"/tasks/{task_id(EDITABLE)}/edit",
]
"""Each page once, with what a reader can put into its address."""

WATCH = """
addEventListener('securitypolicyviolation', e => pwned('policy: ' + e.violatedDirective + ' ' + e.blockedURI))
"""

READ = """
(() => {
  const wrong = [];
  for (const e of document.querySelectorAll('img,iframe,object,embed,base,style,math,template,video,audio,marquee,' +
      'noscript,meta[http-equiv],a[href^="javascript" i],form[action^="javascript" i],#attributes,[name=attributes]'))
    wrong.push(e.outerHTML);
  for (const e of document.querySelectorAll('*'))
    for (const a of e.attributes) if (/^(on|hx-on|style$|srcdoc|formaction)/i.test(a.name)) wrong.push(e.outerHTML);
  const body = document.body.cloneNode(true);
  for (const e of body.querySelectorAll('time')) e.remove();
  return {wrong, scripts: document.scripts.length, text: body.textContent.replace(/\\s+/g, ' ').trim(),
          width: document.documentElement.scrollWidth};
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium") / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    queue = HostileQueue()
    asyncio.run(queue.prepare())
    with served(queue) as address:
        yield address


def watch(tab: Tab) -> None:
    """Has the tab tell of everything that runs, and of everything that the policy blocks."""
    tab.send("Runtime.addBinding", name="pwned")
    tab.run_first(WATCH)


def told(tab: Tab) -> list[str]:
    """Returns what ran, what was blocked, and what the page complained of."""
    return [
        json.dumps(event)
        for event in tab.events(
            "Runtime.bindingCalled",
            "Runtime.exceptionThrown",
            "Page.javascriptDialogOpening",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
        )
        # A page that says what is wrong with a request has a status that Chromium writes into its log.
        if event.get("entry", {}).get("source") != "network"
    ]


def test_what_runs_is_noticed(browser: Browser) -> None:
    """Without this, the tests that find nothing would say nothing."""
    with browser.tab() as tab:
        watch(tab)
        tab.open("data:text/html,<img src=x onerror=\"pwned('image')\"><script>pwned('script')</script>")
        assert sum("pwned" in each for each in told(tab)) == 2
        policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
        tab.open(f"data:text/html,{quote(policy + '<img src=x onerror=1>')}")
        assert any("policy: " in each for each in told(tab))


def test_hostile_texts_stay_texts_on_every_page_with_and_without_scripts_and_on_a_phone(
    browser: Browser, hostile: str
) -> None:
    """On a phone with scripts, then at a desk without: of what is read only the width depends on that of the tab."""
    shown: dict[str, str] = {}
    too_wide: dict[str, int] = {}
    with browser.tab(width=360) as tab:
        watch(tab)
        for path in PAGES:
            tab.open(hostile + path)
            assert told(tab) == [], path
            found = tab.evaluate(READ)
            assert found["wrong"] == [], path
            assert found["scripts"] in (0, 2), path
            shown[path] = found["text"]
            if found["width"] > 360:
                too_wide[path] = found["width"]
    assert too_wide == {}
    everything = "".join(shown.values())
    missing = [text for text in TEXTS if " ".join(text.split()) not in everything]
    assert missing == []
    with browser.tab(script=False) as tab:
        for path in PAGES:
            tab.open(hostile + path)
            assert tab.evaluate(READ)["text"] == shown[path], path


def test_even_texts_that_become_markup_run_nothing(
    browser: Browser, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is the second wall: it holds where a template forgets to escape."""
    monkeypatch.setitem(ENVIRONMENT.filters, "cut", lambda text, *_: Markup(text))
    monkeypatch.setattr(ENVIRONMENT, "cache", None)  # templates hold the filters that they were made with
    for start in range(0, 200, 50):
        with browser.tab() as tab:
            watch(tab)
            tab.open(f"{hostile}/tasks?cursor={start}")
            calls = [event["payload"] for event in tab.events("Runtime.bindingCalled")]
            assert calls  # the browser has met markup, and refused it
            assert [call for call in calls if not call.startswith("policy: ")] == []
            assert tab.events("Page.javascriptDialogOpening") == []
            sent = [event["request"]["headers"] for event in tab.events("Network.requestWillBeSent")]
            assert not any(name.lower() == "hx-request" for headers in sent for name in headers)


@pytest.mark.parametrize("path", ["/", "/pools", f"/tasks/{task_id(0)}"])
def test_hostile_texts_stay_texts_in_what_is_loaded_anew(browser: Browser, hostile: str, path: str) -> None:
    with browser.tab() as tab:
        watch(tab)
        tab.open(hostile + path)
        tab.evaluate("window.seen = 0; document.addEventListener('htmx:after:swap', () => { window.seen += 1 })")
        tab.send("Emulation.setVirtualTimePolicy", policy="pauseIfNetworkFetchesPending", budget=12_000)
        tab.wait("Emulation.virtualTimeBudgetExpired")
        assert tab.evaluate("window.seen") > 0
        assert tab.evaluate(READ)["wrong"] == []
        assert told(tab) == []


def test_people_find_change_and_insert_tasks(browser: Browser) -> None:
    queue = AsyncMemoryQueue()

    async def prepare() -> Any:
        for order in range(1, 121):
            await queue.insert_task(Ship(order=order))

    asyncio.run(prepare())
    with served(queue) as address, browser.tab() as tab:
        watch(tab)
        tab.open(address + "/tasks")
        tab.type("input[name=kind]", "web-ship")
        tab.click("input[value=new]")
        tab.submit("form.filter button")
        rows = "document.querySelectorAll('.tasks tbody tr:not(.more)').length"
        assert tab.evaluate(rows) == 50
        for wanted in (100, 120):
            tab.click("tr.more a")
            tab.until(f"{rows} === {wanted}")
        assert tab.evaluate("document.querySelector('tr.more')") is None

        tab.submit("a[href*='action=cancel']")
        tab.type("input[name=reason]", "sold out")
        tab.submit("main form button")
        assert "120 tasks cancelled" in tab.evaluate("document.body.textContent")

        tab.open(address + "/tasks/new?kind=web-ship")
        tab.submit("main form button")
        assert "Field required" in tab.evaluate("document.body.textContent")
        tab.type("[name='payload.order']", "7")
        tab.type("[name='payload.note']", "one\ntwo")
        tab.submit("main form button")
        assert '"note": "one\\ntwo"' in tab.evaluate("document.querySelector('pre').textContent")
        tab.submit("form[action$=cancel-task] button")
        assert "cancelled" in tab.evaluate("document.querySelector('[role=status]').textContent")
        assert told(tab) == []
