"""Says what a response may do in a browser, and where a change may come from."""

import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from fang_core.errors import UsageError
from fang_web.errors import Forbidden

_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types htmx"
)

_ALWAYS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send `Origin: null` with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

NO_CACHE: Final = "no-store"


def new_nonce() -> str:
    """Returns what the scripts of one response carry, so that the browser runs only these."""
    return secrets.token_urlsafe(18)


def headers(nonce: str) -> dict[str, str]:
    """Returns the headers of every response."""
    return {"Content-Security-Policy": _POLICY.format(nonce=nonce), **_ALWAYS}


def refuse_other_sites(request: Request, origin: str | None) -> None:
    """Raises ``Forbidden`` unless a change comes from a page of ours.

    Browsers say in ``Sec-Fetch-Site`` where a request comes from, and no page can forge it. They leave it out where the
    address is neither https nor this machine; then ``Origin`` must be our own.

    Args:
        request: the request.
        origin: our own origin, as browsers see it; None if no proxy changes it, so that it is that of the Host.
    """
    sites, origins = (request.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    if sites:
        is_ours = set(sites) == {"same-origin"}
    else:
        host = request.headers.get("host", "")
        own = origin or (f"{request.url.scheme}://{host}" if host else "")
        is_ours = bool(own) and {each.lower() for each in origins} == {own.lower()}
    if not is_ours:
        raise Forbidden(
            "a change must come from this page itself; behind a proxy, give create_app the origin= that browsers see"
        )


def checked_origin(origin: str | None) -> str | None:
    """Returns the page's own origin. Raises ``UsageError`` for anything but scheme, host and port."""
    if origin is None:
        return None
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != origin:
        raise UsageError("origin= is what browsers see, without a path: https://tasks.example.com")
    return origin
