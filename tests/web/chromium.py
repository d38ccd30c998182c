"""Drives Debian's Chromium over the DevTools protocol, through two pipes: no port, no driver, no library.

One browser serves a whole file of tests; each page is a tab of its own.
"""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
WHY_NOT = "chromium is not installed: apt-get install chromium"

DEADLINE = 60.0  # of whatever is awaited; a slow machine needs a few seconds for the first page


class Failed(AssertionError):
    """The browser refused a command, or what was awaited did not come."""


class Browser:
    """A running Chromium."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None, WHY_NOT
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def hand_over() -> None:  # the protocol speaks on 3 and 4
            low, high = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(low, 3)
            os.dup2(high, 4)

        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--no-sandbox",  # tests may run as root, where Chromium has none
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-extensions",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--mute-audio",
                "--remote-debugging-pipe",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=hand_over,  # noqa: PLW1509 - it calls dup2 only
            close_fds=False,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """Ends the browser."""
        os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own, with all that it has started
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def send(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Sends a command, and returns what it answers."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + DEADLINE
        while True:
            got = self._next(until, method)
            if got.get("id") != number:
                self.events.append(got)
            elif "error" in got:
                raise Failed(f"{method}: {got['error']}")
            else:
                return got["result"]

    def wait(self, is_it: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Waits for an event, and returns it; those before it are kept."""
        seen = 0
        until = time.monotonic() + DEADLINE
        while True:
            for number in range(seen, len(self.events)):
                if is_it(self.events[number]):
                    return self.events.pop(number)
            seen = len(self.events)
            self.events.append(self._next(until, what))

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise Failed(f"nothing came of {what}")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise Failed("the browser has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        read: dict[str, Any] = json.loads(line)
        return read

    @contextmanager
    def tab(self, *, script: bool = True, width: int = 1200, headers: dict[str, str] | None = None) -> "Iterator[Tab]":
        """Opens a tab, with JavaScript or without it."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        tab.send("Page.enable")
        tab.send("Runtime.enable")
        tab.send("Log.enable")
        tab.send("Network.enable")
        tab.resize(width)
        if headers:
            tab.send("Network.setExtraHTTPHeaders", headers=headers)
        if not script:
            tab.send("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield tab
        finally:
            self.send("Target.closeTarget", targetId=target)


class Tab:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def send(self, method: str, **params: Any) -> Any:
        """Sends a command to the tab."""
        return self._browser.send(method, self._session, **params)

    def resize(self, width: int) -> None:
        """Gives the tab the width of a phone or of a desk."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )

    def run_first(self, script: str) -> None:
        """Has each page of the tab run a script before its own."""
        self.send("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Opens an address, and waits until all of it is loaded."""
        self.loads(lambda: self.send("Page.navigate", url=url))

    def submit(self, selector: str) -> None:
        """Clicks what leads to another page, and waits until that is loaded."""
        self.loads(lambda: self.click(selector))

    def press(self, key: str) -> None:
        """Presses a key: ``Tab``, ``Enter``, or the space bar."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        for kind in ("keyDown", "keyUp"):
            typed = {"text": {"Enter": "\r", " ": " "}.get(key, "")} if kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def loads(self, act: Callable[[], object]) -> None:
        """Does what leads to another page, and waits until that is loaded."""
        self._forget("Page.loadEventFired")
        act()
        self.wait("Page.loadEventFired")

    def click(self, selector: str) -> None:
        """Clicks an element as a mouse does."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Puts a text into a field in place of what stands in it."""
        self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.value = '' }})()"
        )
        self.send("Input.insertText", text=text)

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression, evaluated under the page's own policy."""
        got = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,  # or what the policy blocks would run after all
        )
        if "exceptionDetails" in got:
            raise Failed(f"{expression:.200}: {got['exceptionDetails']}")
        return got["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until a condition holds, which is looked at with every change of the page."""
        self.evaluate(
            f"new Promise(done => {{ const look = () => {{ if ({condition}) {{ watcher.disconnect(); done() }} }}; "
            "const watcher = new MutationObserver(look); "
            "watcher.observe(document, {subtree: true, childList: true, attributes: true}); look() })"
        )

    def wait(self, method: str) -> dict[str, Any]:
        """Waits for an event of the tab."""
        return self._browser.wait(
            lambda event: event.get("method") == method and event.get("sessionId") == self._session, method
        )

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """Returns what the tab has told so far of these kinds."""
        self.send("Runtime.getIsolateId")  # its answer comes after all that was told before
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event.get("method") in methods
        ]

    def _forget(self, method: str) -> None:
        self._browser.events[:] = [
            event
            for event in self._browser.events
            if event.get("method") != method or event.get("sessionId") != self._session
        ]
