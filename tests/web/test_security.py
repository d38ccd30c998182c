"""Each line of the security record of other pages, tried on this one."""

import base64
import logging
import re
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse

from fang_core import AsyncMemoryQueue
from fang_core.errors import UsageError
from fang_web import OpenOnLoopback, Role, User, basic, create_app
from fang_web.pages import ROUTES
from tests.web.client import FROM_THE_PAGE, browser, page_of
from tests.web.telling import TellingQueue


def as_(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


# Who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, True, OpenOnLoopback, "admin:admin", ()])
def test_it_does_not_start_without_a_decision(auth: Any) -> None:
    with pytest.raises(UsageError, match="auth= decides who sees the page"):
        create_app(AsyncMemoryQueue(), auth=auth)


@pytest.mark.parametrize("path", ["/", "/kinds", "/static/x/fang.css", "/actions/nothing", "/nowhere"])
async def test_nothing_is_answered_to_a_stranger(path: str) -> None:
    async with page_of(AsyncMemoryQueue(), auth=basic({"ada": "pass"})) as client:
        for headers in ({}, as_("ada", "wrong"), as_("bob", "pass"), as_("", ""), {"Authorization": "Basic %%%"}):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_basic_lets_in_who_has_the_password() -> None:
    auth = basic({"ada": "pa:ss", "zoë": "ü"}, role="viewer", roles={"zoë": "admin"})
    async with page_of(AsyncMemoryQueue(), auth=auth) as client:
        assert "viewer" in (await client.get("/", headers=as_("ada", "pa:ss"))).text
        assert "admin" in (await client.get("/", headers=as_("zoë", "ü"))).text


@pytest.mark.parametrize(
    ("passwords", "roles"),
    [({}, {}), ({"ada": ""}, {}), ({"a:b": "x"}, {}), ({"ada": "x"}, {"bob": "admin"}), ({"a": "x"}, {"a": "root"})],
)
def test_basic_refuses_what_is_no_protection(passwords: dict[str, str], roles: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        basic(passwords, roles=roles)


@pytest.mark.parametrize(
    ("client", "headers", "is_let_in"),
    [
        (("127.0.0.1", 1), {}, True),
        (("::1", 1), {"Host": "[::1]:8000"}, True),
        (("::ffff:127.0.0.1", 1), {"Host": "127.0.0.1"}, True),
        (("10.0.0.7", 1), {}, False),
        (("", 1), {}, False),
        (("127.0.0.1", 1), {"Host": "evil.example"}, False),
        (("127.0.0.1", 1), {"Host": "localhost.evil.example"}, False),
        (("127.0.0.1", 1), {"X-Forwarded-For": "1.2.3.4"}, False),
        (("127.0.0.1", 1), {"Forwarded": "for=1.2.3.4"}, False),
        (("127.0.0.1", 1), {"X-Forwarded-Proto": "https"}, False),
        (("127.0.0.1", 1), {"X-Forwarded-Prefix": "/tasks"}, False),
        (("127.0.0.1", 1), {"CF-Connecting-IP": "1.2.3.4"}, False),
    ],
)
async def test_open_on_loopback_refuses_others(
    client: tuple[str, int], headers: dict[str, str], is_let_in: bool
) -> None:
    app = create_app(AsyncMemoryQueue(), auth=OpenOnLoopback())
    async with browser(app, client=client) as visitor:
        assert (await visitor.get("/", headers=headers)).status_code == (200 if is_let_in else 403)


async def test_a_function_says_who_it_is_or_where_to_log_in() -> None:
    async def auth(request: Request) -> Any:
        return {"ada": User("ada", Role.VIEWER), "guest": None}.get(
            request.headers.get("x-user", ""), RedirectResponse("/login")
        )

    async with page_of(AsyncMemoryQueue(), auth=auth) as client:
        assert (await client.get("/", headers={"X-User": "ada"})).status_code == 200
        assert (await client.get("/", headers={"X-User": "guest"})).status_code == 401
        assert (await client.get("/")).headers["location"] == "/login"


@pytest.mark.parametrize("answer", [True, "ada", {"name": "ada"}, User("", Role.ADMIN), User("ada", "root")])  # type: ignore[arg-type]
async def test_what_is_no_user_is_not_let_in(answer: Any) -> None:
    async with page_of(AsyncMemoryQueue(), auth=lambda request: answer) as client:
        answered = await client.get("/")
        assert answered.status_code == 500
        assert "<nav" not in answered.text


async def test_a_name_that_no_page_can_hold_is_cleaned() -> None:
    queue = AsyncMemoryQueue()
    async with page_of(queue, auth=lambda request: User("a\ud800\0" + "b" * 5_000, Role.ADMIN)) as client:
        assert (await client.get("/")).status_code == 200
        await client.post("/actions/pause-type", data={"name": "orders"}, headers=FROM_THE_PAGE)
        assert (await client.get("/audit")).status_code == 200
    (entry,) = await queue.audit.list()
    assert entry.who == "a?\N{SYMBOL FOR NULL}" + "b" * 495


@pytest.mark.parametrize("masked", ["iban", b"iban", 5, [""], [5]])
def test_what_is_masked_is_several_names(masked: Any) -> None:
    with pytest.raises(UsageError, match="masked= takes several names"):
        create_app(AsyncMemoryQueue(), auth=OpenOnLoopback(), masked=masked)


def test_an_iterator_of_names_is_refused_since_its_check_would_use_it_up() -> None:
    names: Any = (name for name in ("iban", "password"))
    with pytest.raises(UsageError, match="masked= takes several names"):
        create_app(AsyncMemoryQueue(), auth=OpenOnLoopback(), masked=names)


# What a response may do ---------------------------------------------------------------------------------------------


async def test_the_policy_has_a_nonce_for_each_response_and_no_way_around_it() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        answers = [await client.get("/") for _ in range(2)]
    nonces = set()
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        found = re.search(r"script-src 'nonce-([\w-]{22,})';", policy)
        assert found is not None
        nonces.add(found[1])
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert policy.endswith("require-trusted-types-for 'script'; trusted-types htmx")
        assert set(re.findall(r"<script[^>]* nonce=\"([^\"]*)\"", answer.text)) == {found[1]}
    assert len(nonces) == 2


async def test_pages_have_no_script_and_no_style_of_their_own() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        for path in (route.path for route in ROUTES if not route.is_action and "{" not in route.path):
            text = (await client.get(path)).text
            assert re.search(r"<script(?![^>]*\bsrc=)", text) is None
            assert re.search(r"\sstyle=|<style|\son\w+=|javascript:|hx-on|hx-vals|js:", text) is None


async def test_every_response_is_typed_and_only_files_are_kept() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        page = await client.get("/")
        static = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert len(static) == 3
        for path, kept in [("/", False), ("/nowhere", False), *((path, True) for path in static)]:
            answer = await client.get(path)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert ("immutable" in answer.headers["Cache-Control"]) is kept
            assert kept or answer.headers["Cache-Control"] == "no-store"
            kinds = {".css": "text/css", ".js": "text/javascript"}
            kind = next((kinds[end] for end in kinds if path.endswith(end)), "text/html")
            assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"


@pytest.mark.parametrize("path", ["/static/../pyproject.toml", "/static//etc/passwd", "/static/0/fang.css", "/static/"])
async def test_only_the_known_files_are_served(path: str) -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        assert (await client.get(path)).status_code == 404


# Errors ---------------------------------------------------------------------------------------------------------------


async def test_an_error_is_one_line_and_tells_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    def auth(request: Request) -> User:
        raise RuntimeError("the secret is hunter2 <script>alert(1)</script>")

    async with page_of(AsyncMemoryQueue(), auth=auth) as client:
        with caplog.at_level(logging.DEBUG):
            answer = await client.get("/")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "hunter2" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text  # its type and its place


async def test_what_is_asked_is_escaped_in_the_answer() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        for path in ("/<script>alert(1)</script>", '/?refresh="><script>alert(1)</script>'):
            answer = await client.get(path)
            assert answer.status_code in {400, 404}
            assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "refresh=1",
        "refresh=0.001",
        "refresh=9" + "9" * 400,
        "refresh=5&refresh=5",
        "refresh=%00",
        "refresh=%ff",
        "a=" + "x" * 9000,
        "&".join(f"a{n}" for n in range(2_001)),
    ],
)
async def test_parameters_have_bounds(query: str) -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        answer = await client.get(f"/?{query}")
        assert answer.status_code == 400
        assert len(answer.text) < 2_000


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ["since", "refresh"]),
        ("/kinds", ["since", "sort", "q", "refresh"]),
        ("/kinds/Mail", ["since", "refresh"]),
        ("/pools", ["refresh"]),
        ("/schedules", ["q", "done"]),
        ("/queues", ["q", "done"]),
        ("/queues/mails", ["since", "done"]),
        ("/audit", ["before"]),
    ],
)
async def test_every_parameter_of_every_page_has_bounds(path: str, names: list[str]) -> None:
    async with page_of(TellingQueue()) as client:
        for name in names:
            for value in ("x" * 5_000, "%00", "%ff", "<script>alert(1)</script>" * 20, f"a&{name}=b"):
                answer = await client.get(f"{path}?{name}={value}")
                assert answer.status_code == 400, (name, value)
                assert len(answer.text) < 1_000
                assert "<script>alert" not in answer.text


@pytest.mark.parametrize("path", ["/kinds/", "/queues/"])
async def test_names_in_a_path_have_bounds(path: str) -> None:
    async with page_of(TellingQueue()) as client:
        for name in ("x" * 501, "a%00b", "%ff" * 501):
            assert (await client.get(path + name)).status_code == 400
        for name in ("..%2f..%2fetc%2fpasswd", "%3Cscript%3Ealert(1)%3C/script%3E", "%ff", "%E2%80%AE"):
            answer = await client.get(path + name)
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text


async def test_an_error_that_is_no_page_is_no_markup() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        answer = await client.get("/?refresh=<b>", headers={"Accept": "application/json"})
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Changes --------------------------------------------------------------------------------------------------------------


async def test_a_page_is_not_posted() -> None:
    async with page_of(AsyncMemoryQueue()) as client:
        answer = await client.post("/", headers=FROM_THE_PAGE)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
