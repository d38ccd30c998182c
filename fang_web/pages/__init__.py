"""The pages, each a module with its ``ROUTES``."""

from itertools import chain
from typing import Final

from fang_web.pages import audit, kinds, limiting, metrics, overview, pools, queues, schedules, tasks
from fang_web.routing import Route

ROUTES: Final[list[Route]] = list(
    chain.from_iterable(
        module.ROUTES for module in (overview, kinds, tasks, pools, schedules, queues, limiting, audit, metrics)
    )
)
"""All addresses, in the order in which they are looked for."""
