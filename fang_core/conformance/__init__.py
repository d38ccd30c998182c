"""Tests what every backend must do alike, in both modes, pools included.

The author of a backend supplies one fixture, ``backend``, and a class that inherits the tests::

    from functools import partial

    import pytest
    from fang_core.conformance import Backend, ConformanceSuite
    from fang_threaded import WorkerPool

    @pytest.fixture
    def backend():
        made = Backend("threaded", queue=partial(RedisQueue, URL), pool=WorkerPool, set_crashes=partial(crash, URL))
        yield made
        made.close()

    class TestRedis(ConformanceSuite):
        pass

Each test starts from an empty backend. A feature that a backend may lack is a capability, and its queue says which it
has: a test asks for a capability, never for a backend's name, and is skipped if it is missing. Tests reach the stores
of pools only through ``Client``, whose methods ``Backend.call`` drives as the mode needs.
"""

import pkgutil

from fang_core.errors import MissingExtra

try:
    import pytest
except ImportError:
    raise MissingExtra("fang_core.conformance needs pytest: pip install 'fang-tasks[testing]'") from None

# This must come before the imports: pytest then explains the asserts in these modules as it does in a test module.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from fang_core.conformance.backend import Backend  # noqa: E402
from fang_core.conformance.clients import Client  # noqa: E402
from fang_core.conformance.exceptions import ExceptionSuite  # noqa: E402
from fang_core.conformance.outcomes import OutcomeSuite  # noqa: E402
from fang_core.conformance.pools import PoolSuite  # noqa: E402
from fang_core.conformance.queue.audit import AuditSuite  # noqa: E402
from fang_core.conformance.queue.bulk import BulkSuite  # noqa: E402
from fang_core.conformance.queue.by_hand import ByHandSuite  # noqa: E402
from fang_core.conformance.queue.cancelling import CancelSuite  # noqa: E402
from fang_core.conformance.queue.editing import EditSuite  # noqa: E402
from fang_core.conformance.queue.every_method import EveryMethodSuite  # noqa: E402
from fang_core.conformance.queue.explaining import ExplainSuite  # noqa: E402
from fang_core.conformance.queue.listing import ListSuite  # noqa: E402
from fang_core.conformance.queue.managing import ManagingSuite  # noqa: E402
from fang_core.conformance.queue.options import OptionSuite  # noqa: E402
from fang_core.conformance.queue.queues import QueueSuite  # noqa: E402
from fang_core.conformance.queue.refusals import RefusalSuite  # noqa: E402
from fang_core.conformance.queue.removals import RemovalSuite  # noqa: E402
from fang_core.conformance.queue.schedules import ScheduleSuite  # noqa: E402
from fang_core.conformance.queue.stats import StatsSuite  # noqa: E402
from fang_core.conformance.queue.stored_schedules import StoredScheduleSuite  # noqa: E402
from fang_core.conformance.queue.transactions import TransactionSuite  # noqa: E402
from fang_core.conformance.queue.unique import UniqueSuite  # noqa: E402
from fang_core.conformance.queue.uniqueness import UniquenessSuite  # noqa: E402
from fang_core.conformance.store.claims import ClaimSuite  # noqa: E402
from fang_core.conformance.store.completions import CompletionSuite  # noqa: E402
from fang_core.conformance.store.control import ControlSuite  # noqa: E402
from fang_core.conformance.store.flow import FlowSuite  # noqa: E402
from fang_core.conformance.store.history import HistorySuite  # noqa: E402
from fang_core.conformance.store.leases import LeaseSuite  # noqa: E402
from fang_core.conformance.store.outlook import OutlookSuite  # noqa: E402
from fang_core.conformance.store.reconciling import ReconcileSuite  # noqa: E402
from fang_core.conformance.store.ticks import TickSuite  # noqa: E402
from fang_core.conformance.store.waking import WakeSuite  # noqa: E402
from fang_core.conformance.tasks import (  # noqa: E402
    AsyncLimitedNote,
    AsyncNote,
    AsyncUniqueNote,
    AsyncYearlyNote,
    ThreadedLimitedNote,
    ThreadedNote,
    ThreadedUniqueNote,
    ThreadedYearlyNote,
)


class ConformanceSuite(
    QueueSuite,
    UniqueSuite,
    UniquenessSuite,
    ByHandSuite,
    CancelSuite,
    ListSuite,
    BulkSuite,
    EditSuite,
    StatsSuite,
    ManagingSuite,
    AuditSuite,
    RemovalSuite,
    ScheduleSuite,
    StoredScheduleSuite,
    RefusalSuite,
    OptionSuite,
    TransactionSuite,
    EveryMethodSuite,
    ClaimSuite,
    CompletionSuite,
    ReconcileSuite,
    FlowSuite,
    LeaseSuite,
    ControlSuite,
    ExplainSuite,
    HistorySuite,
    WakeSuite,
    TickSuite,
    OutlookSuite,
    PoolSuite,
    OutcomeSuite,
    ExceptionSuite,
):
    """Has all tests; a backend that inherits it gets the groups of later versions too."""


__all__ = (
    "Backend",
    "Client",
    "ThreadedNote",
    "AsyncNote",
    "ThreadedUniqueNote",
    "AsyncUniqueNote",
    "ThreadedYearlyNote",
    "AsyncYearlyNote",
    "ThreadedLimitedNote",
    "AsyncLimitedNote",
    # The suite and its groups
    "ConformanceSuite",
    "QueueSuite",
    "UniqueSuite",
    "UniquenessSuite",
    "ByHandSuite",
    "CancelSuite",
    "AuditSuite",
    "ListSuite",
    "BulkSuite",
    "EditSuite",
    "StatsSuite",
    "ManagingSuite",
    "RemovalSuite",
    "ScheduleSuite",
    "StoredScheduleSuite",
    "RefusalSuite",
    "OptionSuite",
    "TransactionSuite",
    "EveryMethodSuite",
    "ClaimSuite",
    "CompletionSuite",
    "ReconcileSuite",
    "FlowSuite",
    "LeaseSuite",
    "ControlSuite",
    "ExplainSuite",
    "HistorySuite",
    "TickSuite",
    "WakeSuite",
    "OutlookSuite",
    "PoolSuite",
    "OutcomeSuite",
    "ExceptionSuite",
)
