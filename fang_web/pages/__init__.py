"""The pages, each a module with its ``ROUTES``."""

from typing import Final

from fang_web.pages import overview
from fang_web.routing import Route

ROUTES: Final[list[Route]] = [*overview.ROUTES]
