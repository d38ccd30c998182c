"""Shows how the task types stand to Prometheus: what is the same in every process; workers show what they count."""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from starlette.responses import Response

from fang_web.errors import NotFound
from fang_web.routing import Route, page
from fang_web.view import View

if TYPE_CHECKING:
    from fang_telemetry.prometheus import QueueCollector

_COLLECTORS: Final[WeakKeyDictionary[object, tuple[asyncio.AbstractEventLoop, "QueueCollector"]]] = WeakKeyDictionary()
"""One for each queue, and the event loop that it was made on: it keeps answers for some seconds."""


async def metrics(view: View) -> Response:
    """Answers a scrape."""
    if find_spec("prometheus_client") is None:
        raise NotFound("metrics need more: pip install 'fang-tasks[prometheus]'")
    from prometheus_client import CollectorRegistry, generate_latest

    from fang_telemetry.exposition import CONTENT_TYPE

    collector = _collector_of(view.queue)
    await collector.refresh()
    registry = CollectorRegistry()
    registry.register(collector)
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})


def _collector_of(queue: object) -> "QueueCollector":
    from fang_telemetry.prometheus import QueueCollector

    loop = asyncio.get_running_loop()
    made_on, collector = _COLLECTORS.get(queue, (None, None))
    if made_on is not loop or collector is None:
        collector = QueueCollector(queue)
        _COLLECTORS[queue] = loop, collector
    return collector


ROUTES: Final[list[Route]] = [page("/metrics", metrics)]
