"""The pages about tasks: the list, one task, changes of one or many, and the forms that edit and insert."""

from typing import Final

from fang_web.pages.tasks import editing, inserting, listing, many, one
from fang_web.routing import Route

ROUTES: Final[list[Route]] = [*listing.ROUTES, *many.ROUTES, *inserting.ROUTES, *editing.ROUTES, *one.ROUTES]
"""Pages with a name of their own come before those with an id."""
