"""Names the test that has left a transport of asyncio's open, in the warning of it.

That comes when the transport is collected: most often in the middle of another test, which then fails.
"""

import os
from asyncio import selector_events
from typing import Any, Final

_CLASS: Final[Any] = selector_events._SelectorTransport
_init, _repr = _CLASS.__init__, _CLASS.__repr__


def _noted(transport: Any, *args: Any, **kwargs: Any) -> None:
    transport._made_in = os.environ.get("PYTEST_CURRENT_TEST")
    _init(transport, *args, **kwargs)


def _told(transport: Any) -> str:
    return f"{_repr(transport)} made in {getattr(transport, '_made_in', None)}"


_CLASS.__init__, _CLASS.__repr__ = _noted, _told
