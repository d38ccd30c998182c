"""Takes a picture of the page by a headless Chromium.

What the page says is kept while the pools work, which costs one request. The browser, which needs seconds of two
processors, shows that once they are through.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from fang_core.errors import FangError

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SHOWN_WITHIN: Final = 120.0
_SIZE: Final = "1100,800"
_STYLE: Final = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_SCRIPT: Final = re.compile(r"<script\b[^>]*></script>")


class Picture:
    """A picture of the page, taken in two steps: ``keep()``, and later ``draw()``.

    Args:
        target: the file that it becomes.
        get: returns what is at a path of the page.
    """

    def __init__(self, target: Path, get: Callable[[str], str]) -> None:
        self._target = target
        self._get = get
        self._kept = ""

    def keep(self) -> None:
        """Keeps what the page says now, with its style. Raises like ``get``."""
        html = _SCRIPT.sub("", self._get("/?since=15m"))
        self._kept = _STYLE.sub(lambda link: f"<style>{self._get(link[1])}</style>", html)

    def draw(self, starting: AbstractContextManager[None]) -> str:
        """Draws what is kept, and returns a line that says where it is, or why there is none.

        ``starting`` is entered while the browser is started, so that it does not stay behind if a signal comes.
        """
        browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
        if browser is None:
            return "no picture of the page: it needs Chromium (apt-get install chromium)"
        if not self._kept:
            self.keep()
        with tempfile.TemporaryDirectory(prefix="fang-demo-", ignore_cleanup_errors=True) as folder:
            html, png = Path(folder, "page.html"), Path(folder, "page.png")
            html.write_text(self._kept, "utf-8")
            _run(_command(browser, html, png), starting)
            if not png.is_file():
                return f"no picture of the page: {Path(browser).name} made none"
            try:
                shutil.copyfile(png, self._target)
            except OSError as error:
                raise FangError(f"cannot write {self._target}: {error.strerror}") from error
        return f"a picture of the page, as it was when half of the work was done, is in {self._target}"


def _command(browser: str, html: Path, png: Path) -> list[str]:
    return [
        *(browser, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
        *("--disable-component-update", "--disable-extensions", "--disable-sync", "--no-first-run"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root has none; it shows a file that we have written
        *("--hide-scrollbars", f"--window-size={_SIZE}", f"--user-data-dir={html.parent / 'browser'}"),
        f"--screenshot={png}",
        html.as_uri(),
    ]


def _run(command: list[str], starting: AbstractContextManager[None]) -> None:
    """Runs a browser to its end, and leaves none of its processes."""
    process: subprocess.Popen[bytes] | None = None
    try:
        with starting:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the demo; and its group can be killed
            )
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SHOWN_WITHIN)
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
