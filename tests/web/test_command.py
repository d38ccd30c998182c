"""``fang web`` serves the page on a server of its own, and says who may see it."""

import asyncio

import httpx
import pytest
import uvicorn
from click.testing import CliRunner

from fang_async import AsyncQueue
from fang_cli.commands import fang
from fang_cli.web import serving
from fang_cli.web.listening import address as address_of
from fang_cli.web.listening import listen
from fang_core.errors import UsageError
from fang_web import OpenOnLoopback, User

URL = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say who may see the page"),
        (["--open-on-loopback", "--auth", "ada:HOME"], "say who may see the page"),
        (["--open-on-loopback", "--host", "0.0.0.0"], "is reached from other machines"),
        (["--auth", "ada"], "--auth is NAME:VARIABLE"),
        (["--auth", ":HOME"], "--auth is NAME:VARIABLE"),
        (["--auth", "ada:NOT_SET"], "the variable NOT_SET has no password for ada"),
        (["--auth", "ada:HOME", "--auth", "ada:HOME"], "names ada twice"),
        (["--auth", "ada:HOME:root"], "a role is one of"),
        (["--open-on-loopback", "--origin", "tasks.example.com"], "origin="),
        (["--open-on-loopback", "--app", "no.such.module"], "there is no module"),
    ],
)
def test_it_does_not_start_without_a_decision_that_holds(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(fang, ["web", *arguments, "--database-url", URL, "--port", "0"])
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_database_that_is_not_there_is_one_line() -> None:
    done = CliRunner().invoke(fang, ["web", "--open-on-loopback", "--database-url", URL, "--port", "0"])
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (69, 1, "")


def test_a_port_that_is_taken_is_said() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UsageError, match=r"cannot listen on \S+ port \d+: [\w ]+$"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_users_have_the_passwords_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAS", "secret\r")  # by an .env file of Windows
    auth = serving.auth_of(["ada:ADAS:viewer", "grace:ADAS"], "0.0.0.0")
    request = httpx.Request("GET", "http://x", headers={})
    for name, role in (("ada", "viewer"), ("grace", "admin")):
        request.headers["Authorization"] = httpx.BasicAuth(name, "secret")._auth_header
        assert auth(request) == User(name, role)  # type: ignore[arg-type, comparison-overlap]


async def test_the_page_is_served_until_the_server_ends(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = serving.settings_of(OpenOnLoopback(), read_only=True, masked=["iban"], origin=None)
    assert "iban" in settings.masked
    started: asyncio.Future[uvicorn.Server] = asyncio.get_running_loop().create_future()
    queue = AsyncQueue(url)
    with listen("127.0.0.1", 0) as listener:
        serving_page = asyncio.create_task(serving.serve(queue, settings, listener, "/tasks/", started.set_result))
        server = await started
        address = address_of(listener)
        assert capsys.readouterr().out == f"the page is at {address}/tasks/\n"
        async with httpx.AsyncClient(base_url=address) as client:
            for path in ("/audit", "/schedules", "/queues"):
                answer = await client.get(path)
                assert (answer.status_code, "read only" in answer.text) == (200, True), answer.text
                assert 'href="/tasks/kinds"' in answer.text
            assert "server" not in answer.headers
        server.should_exit = True
        await serving_page
    assert not queue.is_open
