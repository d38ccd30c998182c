"""The page: shows what a queue does and steers it, as an ASGI application that is mounted anywhere."""

from fang_core.errors import MissingExtra

try:
    import jinja2 as _jinja2  # noqa: F401
    import starlette as _starlette  # noqa: F401
except ImportError:
    raise MissingExtra("fang_web needs more: pip install 'fang-tasks[web]'") from None

from fang_web.application import Page, create_app
from fang_web.auth import Auth, OpenOnLoopback, Role, User, basic

__all__ = ("create_app", "Page", "Auth", "User", "Role", "basic", "OpenOnLoopback")
