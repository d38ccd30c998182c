"""The conformance suite: what every backend must do alike, in both modes, pools included.

The author of a backend supplies one fixture, ``backend``, and a class that takes the tests over::

    from functools import partial

    import pytest
    from fang_core.conformance import Backend, ConformanceSuite
    from fang_threaded import WorkerPool

    @pytest.fixture
    def backend():
        made = Backend("threaded", queue=partial(RedisQueue, URL), pool=WorkerPool)
        yield made
        made.close()

    class TestRedis(ConformanceSuite):
        pass

Each test starts from an empty backend. What a backend may lack is a capability: a test asks for it, never for a
backend's name, and is skipped where it is missing.
"""

import pkgutil

from fang_core.errors import MissingExtra

try:
    import pytest
except ImportError:
    raise MissingExtra("fang_core.conformance needs pytest: pip install 'fang-tasks[testing]'") from None

# Before the modules are imported: pytest then explains the asserts in them as it does those of a test module.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from fang_core.conformance.backend import Backend  # noqa: E402
from fang_core.conformance.by_hand import ByHandSuite  # noqa: E402
from fang_core.conformance.exceptions import ExceptionSuite  # noqa: E402
from fang_core.conformance.outcomes import OutcomeSuite  # noqa: E402
from fang_core.conformance.pools import PoolSuite  # noqa: E402
from fang_core.conformance.queues import QueueSuite  # noqa: E402
from fang_core.conformance.refusals import RefusalSuite  # noqa: E402
from fang_core.conformance.removals import RemovalSuite  # noqa: E402
from fang_core.conformance.schedules import ScheduleSuite  # noqa: E402
from fang_core.conformance.tasks import (  # noqa: E402
    AsyncNote,
    AsyncUniqueNote,
    AsyncYearlyNote,
    ThreadedNote,
    ThreadedUniqueNote,
    ThreadedYearlyNote,
)
from fang_core.conformance.transactions import TransactionSuite  # noqa: E402
from fang_core.conformance.unique import UniqueSuite  # noqa: E402


class ConformanceSuite(
    QueueSuite,
    UniqueSuite,
    ByHandSuite,
    RemovalSuite,
    ScheduleSuite,
    RefusalSuite,
    TransactionSuite,
    PoolSuite,
    OutcomeSuite,
    ExceptionSuite,
):
    """All of it; a backend that takes this over gets the groups of later versions as well."""


__all__ = (
    "Backend",
    "ThreadedNote",
    "AsyncNote",
    "ThreadedUniqueNote",
    "AsyncUniqueNote",
    "ThreadedYearlyNote",
    "AsyncYearlyNote",
    # The tests, and their groups
    "ConformanceSuite",
    "QueueSuite",
    "UniqueSuite",
    "ByHandSuite",
    "RemovalSuite",
    "ScheduleSuite",
    "RefusalSuite",
    "TransactionSuite",
    "PoolSuite",
    "OutcomeSuite",
    "ExceptionSuite",
)
