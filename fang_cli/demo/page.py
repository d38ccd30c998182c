"""Serves the page during the demo, in a process that stands behind those which work."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final

from fang_cli.dev.page_process import PageProcess
from fang_cli.web.listening import address, listen
from fang_core.errors import FangError

_NICENESS: Final = 10
_ANSWERS_WITHIN: Final = 120.0
"""Seconds; a busy machine takes long to import a web server."""


class DemoPage:
    """The page of the demo, on a free port of loopback. Nothing runs before ``start()``.

    Attributes:
        address: where a browser finds it.
    """

    def __init__(self, url: str) -> None:
        self._listener = listen("127.0.0.1", 0)
        self._place: tuple[str, int] = self._listener.getsockname()
        self.address = f"{address(self._listener)}/"
        self._process = PageProcess(self._listener, url, "fang", ["fang_cli.demo.demo_tasks"], niceness=_NICENESS)

    def start(self) -> None:
        """Starts its process, which ends with this one."""
        self._process.start()
        self._listener.close()  # so that who waits hears of it if the process dies

    def get(self, path: str) -> str:
        """Returns what is at this path, once the page answers. Raises ``FangError`` if it does not."""
        connection = HTTPConnection(*self._place, timeout=_ANSWERS_WITHIN)
        try:
            connection.request("GET", path, headers={"Accept": "text/html"})
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, HTTPException) as error:
            raise FangError(f"the page does not answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if response.status != HTTPStatus.OK:
            raise FangError(f"the page answers with {response.status}")
        return body

    def stop(self) -> None:
        """Ends its process, and waits for that."""
        self._listener.close()
        self._process.stop()
