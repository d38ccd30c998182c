"""Makes a queue of a URL, whatever backend the URL names: for the command, the page, and applications that are told."""

from fang_backends.queues import async_queue_of, queue_of
from fang_backends.urls import Engine, engine_of

__all__ = ("queue_of", "async_queue_of", "engine_of", "Engine")
