"""Makes a queue of a URL, whatever backend the URL names: for the command, the page, and applications."""

from typing import TYPE_CHECKING

from fang_core.interpreter.lazy import lazily

if TYPE_CHECKING:
    from fang_backends.queues import async_queue_of, queue_of
    from fang_backends.urls import Engine, engine_of
else:
    # To ask which backend a URL names needs none of the modules that queues need.
    __getattr__ = lazily(
        __name__,
        {
            "queue_of": "fang_backends.queues",
            "async_queue_of": "fang_backends.queues",
            "engine_of": "fang_backends.urls",
            "Engine": "fang_backends.urls",
        },
    )

__all__ = ("queue_of", "async_queue_of", "engine_of", "Engine")
