"""Answers the ports of ``fang worker --processes``: asks the processes, on threads, and joins what they say.

So there is one port however many processes there are, and a process that takes the place of another one needs none of
its own. Each process answers its supervisor alone, on the loopback interface, at a free port that its report names.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from fang_core.logs import SafeLogger

if TYPE_CHECKING:
    from fang_cli.worker.serving import Ports
    from fang_telemetry.http import Reply

logger = SafeLogger("fang_cli")

ANSWERS_WITHIN: Final = 2.0
"""Seconds that a process has to answer. Of one that takes longer the metrics are left out, and it is not ready."""

LOOP_LATE: Final = 15.0
"""Seconds without a turn after which the supervisor's own loop hangs."""

_UP: Final = "fang_process_up"


class Asked(NamedTuple):
    """One process.

    Attributes:
        name: the number of its place, and what else there is to say of it.
        port: where it answers; 0 if it does not yet.
        fills_place: whether the supervisor counts on it; if not, it ends.
    """

    name: str
    port: int
    fills_place: bool


class Answering:
    """Knows the processes, as the supervisor's loop has told it last, and makes the pages."""

    def __init__(self) -> None:
        self._asked: Sequence[Asked] = ()
        self._is_stopping = False
        self._told_at = time.monotonic()

    def told(self, asked: Sequence[Asked], *, is_stopping: bool, now: float) -> None:
        """Notes how things are; the supervisor's loop calls this with each turn."""
        self._asked, self._is_stopping, self._told_at = asked, is_stopping, now

    def pages(self, ports: "Ports") -> dict[int, dict[str, "Callable[[], Reply]"]]:
        """Returns the pages by their ports and paths."""
        pages: dict[int, dict[str, Callable[[], Reply]]] = {}
        if ports.probes is not None:
            pages.setdefault(ports.probes, {}).update({"/live": self.live, "/ready": self.ready})
        if ports.metrics is not None:
            pages.setdefault(ports.metrics, {})["/metrics"] = self.metrics
        return pages

    def live(self) -> "Reply":
        """Returns 200 if the supervisor's loop goes on, and each process that has begun says that it lives."""
        from fang_telemetry.probes import verdict

        late = time.monotonic() - self._told_at
        if late > LOOP_LATE:
            return verdict([f"the supervisor has not looked at its processes for {late:.0f} s"])
        return verdict(self._faults("/live", [each for each in self._asked if each.fills_place and each.port]))

    def ready(self) -> "Reply":
        """Returns 200 if all processes say that they are ready."""
        from fang_telemetry.probes import verdict

        if self._is_stopping:
            return verdict(["the supervisor stops"])
        if not self._asked:
            return verdict(["no process runs"])
        placed = [each for each in self._asked if each.fills_place]
        starting = [f"process {each.name}: it starts" for each in placed if not each.port]
        return verdict([*starting, *self._faults("/ready", [each for each in placed if each.port])])

    def metrics(self) -> "Reply":
        """Returns the metrics of all processes, each with the label ``process``, and those of the database once."""
        from fang_telemetry.exposition import CONTENT_TYPE, joined
        from fang_telemetry.http import Reply

        asked = [each for each in self._asked if each.port]
        answers = _ask([(each.name, each.port, "/metrics") for each in asked])
        texts = {name: body for name, (status, body) in answers.items() if status == 200}
        for each in asked:
            if each.fills_place and each.name in texts:
                status, body = _ask([(each.name, each.port, "/database")]).get(each.name, (0, ""))
                if status == 200:
                    return Reply(200, joined(_with_up(texts, self._asked), [body]).encode(), CONTENT_TYPE)
        return Reply(200, joined(_with_up(texts, self._asked)).encode(), CONTENT_TYPE)

    def _faults(self, path: str, asked: Iterable[Asked]) -> list[str]:
        named = [(each.name, each.port, path) for each in asked]
        answers = _ask(named)
        faults = []
        for name, _, _ in named:
            status, body = answers.get(name, (0, "it does not answer\n"))
            if status != 200:
                faults += [f"process {name}: {line}" for line in body.splitlines()]
        return faults


@contextmanager
def answering(ports: "Ports") -> Iterator[Answering]:
    """Answers at these ports while it is entered. Raises ``UsageError`` if one cannot be listened on."""
    answers = Answering()
    servers = []
    pages = answers.pages(ports)
    if pages:
        from fang_telemetry.http import TelemetryServer

        for port, served in pages.items():
            server = TelemetryServer(served, ports.host, port).start()
            servers.append(server)
            logger.info("http://%s:%d answers %s", ports.host, server.port, ", ".join(served))
    try:
        yield answers
    finally:
        for server in servers:
            server.close()


def _with_up(texts: dict[str, str], asked: Iterable[Asked]) -> dict[str, str]:
    """Adds to each text whether its process has answered; a process that has not has this line alone."""
    head = f"# HELP {_UP} Whether the process has answered its supervisor.\n# TYPE {_UP} gauge\n"
    names = [each.name for each in asked if each.fills_place or each.name in texts]
    return {name: f"{head}{_UP} {1.0 if name in texts else 0.0}\n{texts.get(name, '')}" for name in names}


def _ask(pages: Sequence[tuple[str, int, str]]) -> dict[str, tuple[int, str]]:
    """Asks processes for pages, all at once; returns status and text by name of those that have answered in time."""
    answers: dict[str, tuple[int, str]] = {}
    threads = [
        threading.Thread(target=_ask_one, args=(answers, *page), name="fang-http", daemon=True) for page in pages
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ANSWERS_WITHIN
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _ask_one(answers: dict[str, tuple[int, str]], name: str, port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWERS_WITHIN)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        answers[name] = reply.status, reply.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
