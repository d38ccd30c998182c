"""Defines ``fang healthcheck``, for the probes of Docker and Kubernetes that run a command."""

import http.client
from typing import Final
from urllib.parse import urlsplit

import click

from fang_cli import arguments
from fang_cli.settings import settings
from fang_core.errors import FangError, UsageError

MOST_READ: Final = 100_000
"""Bytes of an answer; more say nothing more."""


@click.command()
@click.option("--live", is_flag=True, help="Ask whether the process lives, instead of whether it is ready for tasks.")
@click.option("--url", metavar="URL", help="Ask there; else /ready or /live at FANG_PROBE_PORT on this machine.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    callback=arguments.seconds,
    default="5",
    show_default=True,
    help="How long to wait for the answer.",
)
def healthcheck(*, live: bool, url: str | None, timeout: float) -> None:
    """Ask a running worker whether it is ready, or lives.

    The worker was started with --probe-port, or with the same FANG_PROBE_PORT. Exit codes: 0 if it is; 1 if it is not,
    or does not answer, with one line that says why.
    """
    if url is None:
        port = settings().probe_port
        if not port:
            raise UsageError("give --url, or set FANG_PROBE_PORT as for the worker, or probe_port in [tool.fang]")
        url = f"http://127.0.0.1:{port}/{'live' if live else 'ready'}"
    elif live:
        raise UsageError("give --url or --live: the URL says what is asked")
    status, text = ask(url, timeout)
    if status != http.client.OK:
        raise FangError(f"{url} answers {status}: {'; '.join(text.split(chr(10))[:5]).strip('; ') or 'nothing'}")


def ask(url: str, timeout: float) -> tuple[int, str]:
    """Returns the status and the text of an answer. Raises ``UsageError``, and ``FangError`` if there is none."""
    place = urlsplit(url)
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if place.scheme != "http" or host is None or place.username is not None:
        raise UsageError("--url must be like http://127.0.0.1:9187/ready")
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", place.path or "/")
        reply = connection.getresponse()
        return reply.status, reply.read(MOST_READ).decode("utf-8", "replace")
    except (OSError, UnicodeError, http.client.HTTPException) as error:  # no host has the name that cannot be written
        raise FangError(f"{url} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
