"""Serves the files that never change: two scripts of htmx, and one style sheet."""

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.responses import Response

from fang_web.errors import NotFound


class StaticFile(NamedTuple):
    """One file, under an address that holds its digest, so that browsers may keep it."""

    content: bytes
    media_type: str
    digest: str


def _read(name: str, media_type: str) -> StaticFile:
    content = files("fang_web").joinpath("static", name).read_bytes()
    return StaticFile(content, media_type, hashlib.sha256(content).hexdigest()[:16])


FILES: Final = {
    name: _read(name, media_type)
    for name, media_type in (
        ("htmx.min.js", "text/javascript; charset=utf-8"),
        ("hx-csp.min.js", "text/javascript; charset=utf-8"),
        ("fang.css", "text/css; charset=utf-8"),
    )
}
"""All that are served. A name is looked up here, and never on a disk."""


def serve(name: str, digest: str) -> Response:
    """Returns the response with a file. Raises ``NotFound``."""
    file = FILES.get(name)
    if file is None or digest != file.digest:
        raise NotFound("there is no such file")
    headers = {"Content-Type": file.media_type, "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(file.content, headers=headers)
