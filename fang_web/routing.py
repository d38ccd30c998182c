"""Ties functions to addresses: pages, which are read, and actions, which change something and are posted."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from starlette.responses import Response
from starlette.routing import compile_path

from fang_web.auth import Role
from fang_web.errors import MethodNotAllowed, NotFound
from fang_web.view import View

Handler: TypeAlias = Callable[[View], Awaitable[Response]]

_READING: Final = ("GET", "HEAD")


class Route(NamedTuple):
    """One address, what answers there, and who may ask it."""

    path: str
    handler: Handler
    role: Role
    is_action: bool


def page(path: str, handler: Handler, *, role: Role = Role.VIEWER) -> Route:
    """Returns a route that is read: with GET, by users who have the role. It must change nothing."""
    return Route(path, handler, role, is_action=False)


def action(path: str, handler: Handler, *, role: Role) -> Route:
    """Returns a route that changes something: with POST, from this page itself, and not on a read-only page.

    The handler makes its change in ``audited``.
    """
    return Route(path, handler, role, is_action=True)


class Routes:
    """Finds the route of a path."""

    def __init__(self, routes: "list[Route]") -> None:
        self._routes = [(*compile_path(route.path)[::2], route) for route in routes]

    def find(self, path: str, method: str) -> tuple[Route, dict[str, object]]:
        """Returns the route, and the parts of the path that it names. Raises ``NotFound`` or ``MethodNotAllowed``."""
        allowed: set[str] = set()
        for regex, convertors, route in self._routes:
            found = regex.match(path)
            if found is None:
                continue
            methods = ("POST",) if route.is_action else _READING
            if method in methods:
                try:
                    return route, {name: convertors[name].convert(text) for name, text in found.groupdict().items()}
                except ValueError:  # a number of thousands of digits
                    raise NotFound("there is no such page") from None
            allowed.update(methods)
        if allowed:
            allow = ", ".join(sorted(allowed))
            raise MethodNotAllowed(f"this address takes {allow}, not {method:.20}", headers={"Allow": allow})
        raise NotFound("there is no such page")
