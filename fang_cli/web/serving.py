"""Serves the page by uvicorn, which stops in order when a signal comes."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import click

from fang_backends.queues import OwnAsyncQueue, async_queue_of
from fang_cli.ending import Ended
from fang_cli.settings import chosen_masks
from fang_cli.settings import settings as chosen_settings
from fang_cli.targets import import_modules
from fang_cli.web.listening import address, listen
from fang_core.errors import MissingExtra, UsageError
from fang_web import Auth, OpenOnLoopback, Page, basic
from fang_web.auth import is_loopback
from fang_web.settings import Settings, checked_settings

try:
    import uvicorn
except ImportError:
    raise MissingExtra("fang web needs more: pip install 'fang-tasks[cli,web]'") from None

_ENDS_WITHIN: Final = 5  # seconds


def auth_of(users: Sequence[str], host: str) -> Auth:
    """Returns who may see the page: these users, or this machine if there are none. Raises ``UsageError``."""
    if not users:
        if host != "localhost" and not is_loopback(host):
            raise UsageError(
                f"--open-on-loopback is for this machine: --host {host} is reached from other machines; give --auth"
            )
        return OpenOnLoopback()
    passwords: dict[str, str] = {}
    roles: dict[str, str] = {}
    for user in users:
        name, variable, role = (*user.split(":"), "admin")[:3] if user.count(":") in {1, 2} else ("", "", "")
        if not name or not variable:
            raise UsageError("--auth is NAME:VARIABLE or NAME:VARIABLE:ROLE, as in ada:ADAS_PASSWORD:viewer")
        if name in passwords:
            raise UsageError(f"--auth names {name} twice")
        password = os.environ.get(variable, "").rstrip("\r\n")  # an .env file of Windows leaves a carriage return
        if not password:
            raise UsageError(f"--auth: the variable {variable} has no password for {name}")
        passwords[name], roles[name] = password, role
    return basic(passwords, roles=roles)


def settings_of(auth: Auth, *, read_only: bool, masked: Sequence[str], origin: str | None) -> Settings:
    """Returns the settings of the page; ``masked`` adds to the words of the setting. Raises ``UsageError``."""
    return checked_settings(auth, read_only=read_only, masked=chosen_masks(masked), origin=origin)


def import_classes(app: Sequence[str]) -> None:
    """Imports the modules of task classes, or those of the setting ``app``. Raises like ``targets.import_modules``."""
    import_modules(app or chosen_settings().app)


def run(url: str, settings: Settings, *, schema: str, host: str, port: int, root_path: str) -> None:
    """Serves the page until a signal comes. Raises ``UsageError`` if it cannot listen, and like ``open`` of a queue."""
    listener = listen(host, port)
    queue = async_queue_of(url, name=schema, max_pool_size=4)
    try:
        asyncio.run(serve(queue, settings, listener, root_path))
    except (Ended, KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        return
    finally:
        listener.close()


async def serve(
    queue: OwnAsyncQueue,
    settings: Settings,
    listener: socket.socket,
    root_path: str = "",
    on_start: Callable[[uvicorn.Server], None] | None = None,
) -> None:
    """Opens the queue, says where the page is, and serves it; the server closes the queue when it ends."""
    page = Page(queue, settings, owns_queue=True)
    config = uvicorn.Config(
        page,
        log_level="warning",
        access_log=False,
        root_path=root_path.rstrip("/"),
        lifespan="on",
        proxy_headers=False,  # no header decides who is on this machine
        server_header=False,
        timeout_graceful_shutdown=_ENDS_WITHIN,
    )
    server = uvicorn.Server(config)
    async with page:
        await queue.open()
        click.echo(f"the page is at {address(listener)}{root_path.rstrip('/')}/")
        if on_start is not None:
            on_start(server)
        await server.serve(sockets=[listener])
