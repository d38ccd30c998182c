"""The page on each backend, made of a URL: every room of it answers."""

from collections.abc import Iterator

import httpx
import pytest

from fang_backends import queue_of
from fang_core import Queueable, Runnable, TaskConfig
from fang_web import OpenOnLoopback, create_app
from tests.moving.places import URLS

ROOMS = ("/", "/tasks", "/tasks?state=failed", "/queues", "/queues/mail", "/kinds", "/schedules", "/pools", "/audit")


class Mail(Runnable):
    task_config = TaskConfig(kind="webevery.Mail", task_type="mail", max_retries=0)
    to: str = "ada"

    def run(self, queue: Queueable) -> None: ...


@pytest.fixture(params=URLS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    with URLS[request.param](request) as url:
        yield url


async def test_every_room_answers(database: str) -> None:
    with queue_of(database) as queue:
        waiting = queue.insert_task(Mail())
        queue.insert_task(Mail())
        held = queue.fetch_and_touch_task("mail")
        assert held is not None
        queue.fail_task(held, "no such mailbox")
        async with create_app(database, auth=OpenOnLoopback()) as page:
            transport = httpx.ASGITransport(page, client=("127.0.0.1", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                for room in (*ROOMS, f"/tasks/{waiting.id}", f"/tasks/{held.id}"):
                    answer = await client.get(room)
                    assert answer.status_code == 200, (room, answer.text)
                assert "no such mailbox" in (await client.get(f"/tasks/{held.id}")).text
