"""The ASGI application: takes a request through its checks, in order, and makes every failure a page of one line."""

from collections.abc import Collection
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, Self, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from fang_backends.queues import async_queue_of
from fang_core.errors import FangError, UsageError
from fang_core.failure import describe, origin
from fang_core.logs import SafeLogger
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_web import security
from fang_web.auth import User, known_user
from fang_web.errors import Forbidden, MethodNotAllowed, PageError, status_of
from fang_web.lasting import LastingChanges
from fang_web.pages import ROUTES
from fang_web.parameters import Parameters, of_form
from fang_web.rendering import render
from fang_web.routing import Routes
from fang_web.settings import DEFAULT_MASKED, Settings, checked_settings
from fang_web.static import serve
from fang_web.view import Behind, View, link, new_id, path_below_mount

logger: Final = SafeLogger("fang_web")


def create_app(
    url_or_queue: Any,
    /,
    *,
    auth: Any = None,
    read_only: bool = False,
    masked: Collection[str] = DEFAULT_MASKED,
    origin: str | None = None,
) -> "Page":
    """Makes the page of a queue: an ASGI application that runs by itself or is mounted in another one.

    Args:
        url_or_queue: an ``AsyncQueue``, or another ``AsyncQueueable``, which stays open when the page is closed; or a
            database URL, from which the page makes its own queue.
        auth: who may see the page, and what they may do: ``basic(...)``, a function of the request that returns a
            ``User``, or ``OpenOnLoopback()``. There is no default: without it the page does not start.
        read_only: whether no user can change anything, whatever their role.
        masked: fields of payloads whose names contain one of these are shown as asterisks, to every user.
        origin: the origin of the page as browsers see it, like ``https://tasks.example.com``, if a proxy stands before
            it.

    Raises ``UsageError`` for arguments that cannot be used, and ``MissingExtra`` if a URL needs a driver.
    """
    settings = checked_settings(auth, read_only=read_only, masked=masked, origin=origin)
    is_queue = not isinstance(url_or_queue, type) and iscoroutinefunction(
        getattr(url_or_queue, "find_task_by_id", None)
    )
    return Page(url_or_queue if is_queue else _queue_at(url_or_queue), settings, owns_queue=not is_queue)


def _queue_at(url: object) -> AsyncQueueable:
    if isinstance(url, str) or hasattr(url, "render_as_string"):  # a text, or SQLAlchemy's URL
        return async_queue_of(url, max_pool_size=4)
    raise UsageError(
        f"the page takes an AsyncQueue, or a database URL, not {type(url).__name__}: give it the URL of a Queue"
    )


class Page:
    """The ASGI application that ``create_app`` makes.

    A server that runs it by itself ends it; where it is mounted, ``close`` it when the outer application ends, or
    enter it: ``async with page: ...``.
    """

    def __init__(self, queue: AsyncQueueable, settings: Settings, *, owns_queue: bool) -> None:
        self._queue = queue
        self._settings = settings
        self._owns_queue = owns_queue
        self._lasting = LastingChanges()
        self._routes = Routes(ROUTES)

    async def close(self) -> None:
        """Ends the changes of many tasks that go on, and closes the queue, if the page made that itself. Idempotent."""
        await self._lasting.stop()
        if self._owns_queue:
            await cast(Any, self._queue).close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(Request(scope, receive), send)
        else:  # a websocket: there are none
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, request: Request, send: Send) -> None:
        nonce = security.new_nonce()
        shown = _Shown(request, nonce)
        try:
            response = await self._respond(request, nonce, shown)
        except ClientDisconnect:
            return
        except PageError as error:
            response = shown.error(error.status, str(error))
            response.headers.update(error.headers)
        except FangError as error:
            response = shown.error(status_of(error), str(error))
        except Exception as error:  # noqa: BLE001
            name = new_id()
            logger.error("the page failed (%s): %s", name, origin(describe(error, "fang_web")))
            response = shown.error(500, f"something is wrong with this page; the log says more under {name}")
        for header, value in security.headers(nonce).items():
            response.headers[header] = value
        response.headers.setdefault("Cache-Control", security.NO_CACHE)
        await response(request.scope, request.receive, _without_body(send) if request.method == "HEAD" else send)

    async def _respond(self, request: Request, nonce: str, shown: "_Shown") -> Response:
        """Takes a request through the checks, in this order: who, what, whence, with which parameters."""
        user = await self._user(request)
        if isinstance(user, Response):
            return user
        shown.user = user
        path = path_below_mount(request.scope)
        if path.startswith("/static/"):
            if request.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed("files are read", headers={"Allow": "GET, HEAD"})
            return serve(*path.removeprefix("/static/").partition("/")[::-2])
        route, request.scope["path_params"] = self._routes.find(path, request.method)
        form = Parameters(())
        if route.is_action:
            security.refuse_other_sites(request, self._settings.origin)
            if self._settings.read_only:
                raise Forbidden("this page is read only")
        if not user.may(route.role):
            raise Forbidden(f"this needs the role {route.role}, and {user.name} is {user.role}")
        if route.is_action:
            form = await of_form(request)
        behind = Behind(self._queue, self._settings, self._lasting)
        return await route.handler(View(request, user, behind, nonce=nonce, form=form))

    async def _user(self, request: Request) -> User | Response:
        answer = self._settings.auth(request)
        if isawaitable(answer):
            answer = await answer
        return answer if isinstance(answer, Response) else known_user(answer)


class _Shown:
    """Shows errors: with the navigation to a known user, and as a bare line to any other."""

    def __init__(self, request: Request, nonce: str) -> None:
        self._request = request
        self._nonce = nonce
        self.user: User | None = None

    def error(self, status: int, text: str) -> Response:
        """Returns the page of an error."""
        line = " ".join(text.split())
        if "text/html" not in self._request.headers.get("accept", "text/html"):
            return PlainTextResponse(line + "\n", status)
        home = None if self.user is None else link(self._request)
        return HTMLResponse(render("error.html", line=line, status=status, home=home), status)


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_headers
