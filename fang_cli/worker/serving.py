"""Opens the HTTP ports of ``fang worker``: ``/metrics`` for Prometheus, ``/live`` and ``/ready`` for probes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fang_core.errors import MissingExtra
from fang_core.logs import SafeLogger

if TYPE_CHECKING:
    from fang_cli.targets import Target

logger = SafeLogger("fang_cli")

LOOPBACK: Final = "127.0.0.1"


class Ports(NamedTuple):
    """Says where to listen.

    Attributes:
        host: the address of one interface, or of all.
        metrics, probes: the ports, which may be the same one; 0 for any free one, None for none.
        is_supervised: whether a supervisor asks, and serves what it hears; it asks for the database's part by itself.
    """

    host: str = LOOPBACK
    metrics: int | None = None
    probes: int | None = None
    is_supervised: bool = False


NO_PORTS: Final = Ports()


def check_extra(ports: Ports) -> None:
    """Raises ``MissingExtra`` if metrics are asked for, and their library is not installed."""
    if ports.metrics is not None and find_spec("prometheus_client") is None:
        raise MissingExtra("--metrics-port needs more: pip install 'fang-tasks[prometheus]'")


@contextmanager
def serving(targets: "Sequence[Target]", ports: Ports, loop: Any) -> Iterator[int]:
    """Answers at these ports while it is entered. Gives the last port, or 0 if there is none.

    ``loop`` is the event loop of async pools. Raises ``UsageError`` if a port cannot be listened on, and
    ``MissingExtra``.
    """
    if ports.metrics is None and ports.probes is None:
        yield 0
        return
    check_extra(ports)
    from fang_telemetry import probes
    from fang_telemetry.http import Reply, TelemetryServer

    pages: dict[int, dict[str, Callable[[], Reply]]] = {}
    pools = {target.name: target.pool for target in targets}
    with ExitStack() as stack:
        if ports.probes is not None:
            pages.setdefault(ports.probes, {}).update(probes.pages(pools))
        if ports.metrics is not None:
            from fang_telemetry import prometheus

            shown = prometheus.pages(pools, loop=loop, is_supervised=ports.is_supervised)
            pages.setdefault(ports.metrics, {}).update(stack.enter_context(shown))
        last = 0
        for port, served in pages.items():
            server = TelemetryServer(served, ports.host, port).start()
            stack.callback(server.close)
            last = server.port
            if not ports.is_supervised:
                logger.info("http://%s:%d answers %s", ports.host, last, ", ".join(served))
        yield last
