"""A browser without JavaScript, for tests: asks the page in this process."""

from typing import Any

import httpx

from fang_web import OpenOnLoopback, create_app

HOME = "http://localhost:8000"
FROM_THE_PAGE = {"Sec-Fetch-Site": "same-origin"}


def browser(
    app: Any, *, client: tuple[str, int] = ("127.0.0.1", 4711), root_path: str = "", **options: Any
) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=client, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url=HOME, headers={"Accept": "text/html"}, **options)


def page_of(queue: Any, **options: Any) -> httpx.AsyncClient:
    """A browser at the page of a queue, at which everybody may do everything."""
    return browser(create_app(queue, **{"auth": OpenOnLoopback(), **options}))
