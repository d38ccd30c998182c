"""Holds one request: who makes it, its parameters, the queue, and how its response is made."""

import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Scope

from fang_core.tasks.async_queueable import AsyncQueueable
from fang_web.auth import Role, User
from fang_web.lasting import LastingChanges
from fang_web.parameters import Parameters, checked_name, of_query
from fang_web.rendering import render
from fang_web.settings import Settings

REFRESHES: Final[Mapping[str, int]] = {"0": 0, "5": 5, "30": 30}
"""The intervals, in seconds, at which a page may reload its live part, by the parameter ``refresh``."""


class Behind(NamedTuple):
    """Holds what all requests share: the queue, the arguments of ``create_app``, and the changes in progress."""

    queue: AsyncQueueable
    settings: Settings
    lasting: LastingChanges


class View:
    """One request, as the function of a page or of an action gets it.

    Attributes:
        request: the request.
        user: who makes it.
        queue: what the page shows. Pages ask it for everything, its ``audit`` too, and use nothing else.
        settings: what ``create_app`` was given.
        lasting: the changes of this page that may outlive their requests.
        parameters: those of the query string.
        form: the fields of the form, in an action; none in a page.
        nonce: of the scripts of this response, and of every element with attributes of htmx, as ``hx-nonce``.
    """

    def __init__(self, request: Request, user: User, behind: Behind, *, nonce: str, form: Parameters) -> None:
        self.request = request
        self.user = user
        self.queue: Any = behind.queue
        self.settings = behind.settings
        self.lasting = behind.lasting
        self.nonce = nonce
        self.parameters = of_query(request)
        self.form = form

    def segment(self, name: str) -> str:
        """Returns a part of the path, like ``kind`` of ``/kinds/{kind:path}``. Raises ``BadRequest``."""
        return checked_name(_named(str(self.request.path_params[name])), name)

    @property
    def is_fragment(self) -> bool:
        """Returns whether htmx asks for the live part of the page alone."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def refresh(self) -> int:
        """Returns how many seconds pass between reloads of the live part; 0 for no reloads."""
        return REFRESHES[self.parameters.choice("refresh", REFRESHES, default="5")]

    def may(self, role: Role | str) -> bool:
        """Returns whether the user may do what this role may, here: no user changes anything on a read-only page."""
        wanted = Role(role)
        return self.user.may(wanted) and (wanted is Role.VIEWER or not self.settings.read_only)

    def link(self, *segments: object, **query: object) -> str:
        """Returns the address of a page: ``link("kinds", kind, since="1d")``. What is None or empty is left out."""
        return link(self.request, *segments, **query)

    def here(self, **query: object) -> str:
        """Returns the address of this page with other parameters."""
        kept: dict[str, object] = dict(self.parameters.items())
        kept.update(query)
        return _with_query(_root(self.request) + quote(path_below_mount(self.request.scope), safe="/"), kept)

    # Responses --------------------------------------------------------------------------------------------------------

    def render(self, template: str, status: int = 200, /, **context: Any) -> Response:
        """Returns a page: a template that extends ``layout``, whose block ``live`` is all that htmx gets."""
        layout = "fragment.html" if self.is_fragment else "layout.html"
        return HTMLResponse(render(template, view=self, layout=layout, **context), status)

    def json(self, content: Any, status: int = 200) -> Response:
        """Returns JSON, never as HTML."""
        return JSONResponse(content, status)

    def redirect(self, *segments: object, **query: object) -> Response:
        """Returns what an action answers: see that page."""
        return RedirectResponse(self.link(*segments, **query), 303)


def link(request: Request, /, *segments: object, **query: object) -> str:
    """Returns the address of a page under the prefix at which the application is mounted."""
    return _with_query(_root(request) + "/" + "/".join(quote(_segment(str(part)), safe="") for part in segments), query)


_IN_HEX: Final = "~"
"""Comes before a name that is written in hexadecimal digits in an address."""


def _segment(name: str) -> str:
    """Returns a name as a part of a path. Browsers and proxies resolve ``..`` and drop empty parts, even quoted ones:
    a name with such parts is written in hexadecimal digits."""
    if name.startswith(_IN_HEX) or not {"", ".", ".."}.isdisjoint(name.split("/")):
        return _IN_HEX + name.encode().hex()
    return name


def _named(segment: str) -> str:
    """Returns the name that ``_segment`` has written."""
    if not segment.startswith(_IN_HEX):
        return segment
    try:
        return bytes.fromhex(segment.removeprefix(_IN_HEX)).decode()
    except ValueError:  # somebody has typed the address
        return segment


def path_below_mount(scope: Scope) -> str:
    """Returns the path as the page knows it, without the prefix at which it is mounted."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    # A proxy may have cut off the outer application's own prefix, but not that of a mount.
    for prefix in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if prefix and (path == prefix or path.startswith(prefix + "/")):
            return path[len(prefix) :] or "/"
    return path or "/"


def _root(request: Request) -> str:
    return quote(request.scope.get("root_path", "").rstrip("/"), safe="/")


def _with_query(path: str, query: Mapping[str, object]) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        several = value if isinstance(value, list | tuple) else (value,)
        pairs += [(name, str(each)) for each in several if each is not None and each != ""]
    # Two slashes at the start would be another host.
    return "/" + path.lstrip("/") + ("?" + urlencode(pairs) if pairs else "")


def new_id() -> str:
    """Returns a short id under which the log tells more of an error than its page."""
    return secrets.token_hex(4)
