"""The page runs by itself and under a prefix, closes what it opened, and is small."""

import re
from importlib.resources import files
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from fang_async import AsyncQueue
from fang_core import AsyncMemoryQueue, MemoryQueue
from fang_core.errors import UsageError
from fang_web import OpenOnLoopback, create_app
from tests.web.client import browser, page_of


def fastapi_with(app: Any) -> FastAPI:
    outer = FastAPI()
    outer.mount("/admin/fang", app)
    return outer


@pytest.mark.parametrize(
    ("outer", "path", "cut_off"),
    [
        (lambda page: page, "/", ""),
        (lambda page: page, "/", "/behind"),
        (lambda page: Starlette(routes=[Mount("/fang", page)]), "/fang/", ""),
        (lambda page: Starlette(routes=[Mount("/a", routes=[Mount("/b", page)])]), "/a/b/", ""),
        (fastapi_with, "/admin/fang/", ""),
        (fastapi_with, "/admin/fang/", "/behind"),
    ],
)
async def test_it_is_mounted_anywhere(outer: Any, path: str, cut_off: str) -> None:
    app = outer(create_app(AsyncMemoryQueue(), auth=OpenOnLoopback()))
    prefix = cut_off + path
    async with browser(app, root_path=cut_off) as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        addresses = re.findall(r'(?:href|src|action|hx-get)="(/[^"]*)"', answer.text)
        assert len(addresses) > 10
        assert [address for address in addresses if not address.startswith(prefix)] == []
        static = next(address for address in addresses if "/static/" in address)
        assert (await client.get(path + static.removeprefix(prefix))).status_code == 200


async def test_an_error_in_the_page_is_not_the_outer_applications() -> None:
    app = Starlette(routes=[Mount("/fang", create_app(AsyncMemoryQueue(), auth=OpenOnLoopback()))])
    async with browser(app) as client:
        answer = await client.get("/fang/nowhere")
        assert (answer.status_code, "there is no such page" in answer.text) == (404, True)
        assert 'href="/fang/"' in answer.text


async def test_it_closes_the_queue_that_it_made_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    async def close(self: object) -> None:
        closed.append(self)

    monkeypatch.setattr(AsyncQueue, "close", close)
    monkeypatch.setattr(AsyncMemoryQueue, "close", close)
    async with create_app(AsyncMemoryQueue(), auth=OpenOnLoopback()):
        pass
    assert closed == []
    async with create_app("postgresql://nobody@localhost/none", auth=OpenOnLoopback()):
        pass
    assert [type(queue) for queue in closed] == [AsyncQueue]


async def test_a_server_that_runs_it_alone_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    page, sent = create_app(AsyncMemoryQueue(), auth=OpenOnLoopback()), []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await page({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("queue", [MemoryQueue(), 7, None, AsyncMemoryQueue])
def test_what_is_no_queue_is_refused(queue: Any) -> None:
    with pytest.raises(UsageError, match="takes an AsyncQueue, or a database URL"):
        create_app(queue, auth=OpenOnLoopback())


@pytest.mark.parametrize("origin", ["tasks.example.com", "https://tasks.example.com/", "ftp://x", "https://x/y", ""])
def test_an_origin_is_what_browsers_call_one(origin: str) -> None:
    with pytest.raises(UsageError, match="origin="):
        create_app(AsyncMemoryQueue(), auth=OpenOnLoopback(), origin=origin)


async def test_htmx_gets_the_live_part_alone() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        whole, live = await client.get("/"), await client.get("/", headers={"HX-Request": "true"})
    assert live.text.strip() in whole.text
    assert "<html" not in live.text


async def test_a_head_request_has_no_body() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        answer = await client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_all_files_for_browsers_are_below_100_kb() -> None:
    names = {entry.name for entry in files("fang_web").joinpath("static").iterdir()}
    assert names == {"htmx.min.js", "hx-csp.min.js", "htmx.LICENSE", "fang.css"}
    assert sum(len(files("fang_web").joinpath("static", name).read_bytes()) for name in names) < 100_000


def test_no_template_takes_text_for_markup() -> None:
    for template in files("fang_web").joinpath("templates").iterdir():
        text = template.read_text("utf-8")
        assert re.search(r"\|\s*safe|autoescape|Markup|=\s*\{\{", text) is None, template.name
