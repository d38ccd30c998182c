"""What people need to read and use the page, in a real browser: contrast, names of controls, room on a phone, keys.

Skipped where Chromium is not installed.
"""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from fang_core.flow.limits import Limit
from tests.web.chromium import PROGRAM, WHY_NOT, Browser, Tab
from tests.web.served import served
from tests.web.tasks_of_tests import Ship
from tests.web.telling import TellingQueue, kind_stats, live_run, pool, stats, type_stats

pytestmark = [pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT), pytest.mark.timeout(300)]

KIND = "ReconcileEveryLedgerOfEveryTenantAcrossAllRegionsAndCurrencies" * 2
TYPE = "a-very-long-task-type-of-the-finance-department-of-the-north" * 2

ENOUGH = 4.5
"""The contrast of text that WCAG asks for at level AA."""

TOO_FAINT = """
(() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => color.slice(0, 3)
      .map(v => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = numbers(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    throw new Error('nothing is behind it');
  };
  const found = {};
  let looked = 0;
  const look = (e, color, name) => {
    const [a, b] = [luminance(numbers(color)), luminance(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    looked += 1;
    if (contrast < ENOUGH) found[name] = contrast;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; text = texts.nextNode();) {
    const e = text.parentElement, style = getComputedStyle(e);
    if (text.data.trim()) look(e, e.namespaceURI.endsWith('svg') ? style.fill : style.color, text.data.trim());
  }
  for (const e of document.querySelectorAll('[placeholder]'))
    look(e, getComputedStyle(e, '::placeholder').color, e.placeholder);
  return {found, looked};
})()
"""

CONTROLS = {"button", "checkbox", "combobox", "link", "searchbox", "spinbutton", "textbox"}

FOCUSED = """
(() => {
  const e = document.activeElement, style = getComputedStyle(e);
  return {text: e.textContent.trim(), name: e.name, left: e.getBoundingClientRect().x,
          outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth)};
})()
"""


def focused(tab: Tab) -> dict[str, Any]:
    """Returns what has the focus; it can be seen, and has a frame."""
    it: dict[str, Any] = tab.evaluate(FOCUSED)
    assert it["outline"] >= 2, it
    assert it["left"] >= 0, it
    return it


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium") / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def queue() -> TellingQueue:
    told = stats(kind_stats(TYPE, KIND, failed=9), types=[type_stats(TYPE, workers=0)])
    live = live_run(KIND, done=1, total=2, text=KIND)
    return TellingQueue(told, [pool(live, host=KIND, task_types=(TYPE,), kinds=(KIND,))])


@pytest.fixture(scope="module")
def addresses(queue: TellingQueue) -> Iterator[list[str]]:
    """One address of each page, with long names wherever there are names."""

    async def prepare() -> str:
        task = await queue.insert_task(Ship(order=1, note=KIND))
        await queue.pause(TYPE, reason=KIND, by=KIND)
        await queue.limits.set(TYPE, [Limit(1)], reason=KIND, by=KIND)
        await queue.audit.end(await queue.audit.begin(KIND, "retry tasks", KIND, {KIND: KIND}), KIND)
        await queue.schedules.put(KIND, Ship(order=1), every=timedelta(hours=1), reason=KIND, by=KIND)
        return str(task.id)

    task_id = asyncio.run(prepare())
    pages = ["", "kinds", f"kinds/{KIND}", "pools", "schedules", "queues", f"queues/{TYPE}", "audit", "tasks"]
    pages += [f"tasks/{task_id}", f"tasks/{task_id}/edit", "tasks/new", "tasks/new?kind=web-ship"]
    pages += ["tasks/change?action=cancel&kind=web-ship", "tasks/change?action=remove&kind=web-ship"]
    with served(queue) as address:
        yield [f"{address}/{page}" for page in pages]


class Seen(NamedTuple):
    """What the browser makes of a page."""

    address: str
    contrasts: dict[str, Any]
    """By color scheme, what ``TOO_FAINT`` finds."""
    controls: list[tuple[str, str]]
    """The role and the name of each."""
    heads_on_a_phone: list[float]
    """How wide the first columns of tables are."""
    width_on_a_phone: float


@pytest.fixture(scope="module")
def pages(browser: Browser, addresses: list[str]) -> list[Seen]:
    """All pages, each of them loaded once: that takes more of the processor than to look at it."""
    with browser.tab() as tab:
        return [look_at(tab, address) for address in addresses]


def look_at(tab: Tab, address: str) -> Seen:
    tab.resize(1200)
    tab.open(address)
    contrasts = {}
    for scheme in ("light", "dark"):
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}  # no color that still changes
        tab.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": wanted[name]} for name in wanted])
        assert tab.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        contrasts[scheme] = tab.evaluate(TOO_FAINT.replace("ENOUGH", str(ENOUGH)))
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if node.get("role", {}).get("value") in CONTROLS]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in controls]
    tab.resize(390)
    heads = tab.evaluate("[...document.querySelectorAll('tbody th')].map(e => e.getBoundingClientRect().width)")
    return Seen(address, contrasts, names, heads, tab.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(pages: list[Seen], scheme: str) -> None:
    for page in pages:
        assert page.contrasts[scheme]["looked"] > 10
        assert page.contrasts[scheme]["found"] == {}, page.address


def test_every_control_has_a_name(pages: list[Seen]) -> None:
    for page in pages:
        assert [role for role, name in page.controls if not name] == [], page.address
    seen = {role for page in pages for role, _ in page.controls}
    assert seen >= {"button", "checkbox", "combobox", "link", "spinbutton", "textbox"}


def test_a_long_name_leaves_room_on_a_phone_for_what_is_said_of_it(pages: list[Seen]) -> None:
    for page in pages:
        assert [width for width in page.heads_on_a_phone if width > 260] == [], page.address
        assert page.width_on_a_phone == 390, page.address
    assert sum(len(page.heads_on_a_phone) for page in pages) >= 3


def test_tasks_are_removed_with_the_keyboard_alone(browser: Browser, queue: TellingQueue, addresses: list[str]) -> None:
    (address,) = (each for each in addresses if "action=remove" in each)
    with browser.tab() as tab:
        tab.open(address)
        tab.press("Tab")
        assert focused(tab)["text"] == "Skip to the content"
        tab.press("Enter")
        tab.press("Tab")
        assert focused(tab)["name"] == "sure"
        tab.press(" ")
        tab.press("Tab")
        assert focused(tab)["text"] == "Remove 1 task"
        tab.loads(lambda: tab.press("Enter"))
        assert "1 task removed" in tab.evaluate("document.querySelector('[role=status]').textContent")
