"""Names the function of each verb of ``fang_core.backends.verbs``: it takes a transaction before its arguments."""

from types import SimpleNamespace
from typing import Any, Final

from fang_core.backends.verbs import Call
from fang_sqlite.connections.transaction import Transaction
from fang_sqlite.pools import pools
from fang_sqlite.reading import audit, explaining, history, listing
from fang_sqlite.tasks import bulk, by_hand, completing, flow, inserting, moving, schedules

VERBS: Final = SimpleNamespace(
    insert=inserting.insert,
    insert_many=inserting.insert_many,
    tick_by_hand=schedules.tick_by_hand,
    find=by_hand.find,
    fetch=by_hand.fetch,
    complete_run=completing.complete_run,
    change=by_hand.change,
    edit=by_hand.edit,
    cancel=by_hand.cancel,
    remove=by_hand.remove,
    remove_twin=by_hand.remove_twin,
    cancel_batch=bulk.cancel_batch,
    retry_batch=bulk.retry_batch,
    remove_batch=bulk.remove_batch,
    remove_scheduled_batch=bulk.remove_scheduled_batch,
    list_pools=pools.list_pools,
    send=pools.send,
    list_types=flow.list_types,
    set_limits=flow.set_limits,
    pause_type=flow.pause_type,
    resume_type=flow.resume_type,
    list_tasks=listing.list_tasks,
    count_tasks=listing.count_tasks,
    explain=explaining.explain,
    stats=history.stats,
    heat_map=history.heat_map,
    tasks_of_kinds=listing.tasks_of_kinds,
    count_by_kind=listing.count_by_kind,
    schedules=schedules,
    audit=audit,
    moving=moving,
)


def done(tx: Transaction, call: Call[Any]) -> Any:
    """Carries out a call in a transaction."""
    return call.on(VERBS, tx)


def completes(call: Call[Any]) -> bool:
    """Returns whether a call completes a run, for which a caller's connection must be in a transaction."""
    return call.name == "complete_run"
