"""Builds every statement of Fang, for one schema name. Read the resulting SQL in ``tests/postgres/golden``.

Rules that these forms follow, each learned from a plan or a race that went wrong:

- A write has exactly one base relation. Lists come in through ``ARRAY(SELECT unnest(..))``, which the planner always
  takes for ten rows, and values for each row through array subscripts. Joins by id turned quadratic under stale
  statistics.
- The fence is in the outermost WHERE, so that a concurrent change is checked again against all of it.
- Constants are literals in the text: under a generic plan ``state = $2`` would miss the partial indexes.
- A limit is hidden in a subquery. A custom plan that sees it, and believes that fewer rows wait, drops the order of the
  index and sorts the whole backlog (540 ms instead of 5 for a claim of 500 from a million). One that does not see it
  expects to read a tenth of the rows, and goes by the index.
"""

from functools import lru_cache

from sqlalchemy import DateTime, func, select

from fang_core.record import TaskState
from fang_postgres.once import once
from fang_postgres.schema import tables
from fang_postgres.sql import (
    audit,
    by_hand,
    cancelling,
    explaining,
    flow,
    inserts,
    live,
    liveness,
    managing,
    outcomes,
    pools,
    schedules,
    stats,
    stored_schedules,
    stored_ticks,
    uniques,
    version,
)
from fang_postgres.statement import Statement


class Statements:
    """All statements under one schema name, each built and compiled when it is first used."""

    def __init__(self, schema: str) -> None:
        self.tables = tables(schema)

    insert = once(inserts.insert)
    insert_many = once(inserts.insert_many)
    insert_unique = once(lambda t: inserts.insert_unique(t, "insert_unique", "uniq_hash"))
    begin_periods = once(uniques.begin_periods)
    end_periods = once(uniques.end_periods)
    insert_on_terms = once(lambda t: inserts.insert_unique(t, "insert_on_terms", "uniq_hash", "uniq_waiting"))
    insert_past = once(inserts.insert_past)
    undo_inserts = once(uniques.undo_inserts)
    keeping_out = once(uniques.keeping_out)
    replace_twins = once(lambda t: uniques.change_twins(t, replaces=True))
    postpone_twins = once(lambda t: uniques.change_twins(t, replaces=False))
    existing = once(inserts.existing)
    twins = once(inserts.twins)
    find = once(by_hand.find)
    of_kinds = once(by_hand.of_kinds)
    kinds = once(by_hand.kinds)
    change = once(by_hand.change)
    cancel = once(cancelling.cancel)
    cancel_ids = once(cancelling.cancel_ids)
    cancel_held = once(cancelling.cancel_held)
    cancel_waiting = once(cancelling.cancel_waiting)
    touch = once(by_hand.touch)
    touch_lane = once(flow.touch_lane)
    remove_one = once(by_hand.remove_one)
    remove_twin = once(by_hand.remove_twin)
    last_id = once(by_hand.last_id)
    remove_type = once(lambda t: by_hand.removal_batch(t, "type", by_hand.is_of_type))
    remove_all = once(lambda t: by_hand.removal_batch(t, "all", lambda _: []))
    remove_scheduled = once(lambda t: by_hand.removal_batch(t, "scheduled", by_hand.is_scheduled))
    clock = once(lambda _: Statement("clock", select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"))))
    read_schedules = once(schedules.read_schedules)
    tick = once(schedules.tick)
    declare_schedules = once(stored_schedules.declare_schedules)
    drop_schedules = once(stored_schedules.drop_schedules)
    read_stored = once(stored_schedules.read_stored)
    list_schedules = once(stored_schedules.list_schedules)
    put_schedule = once(stored_schedules.put_schedule)
    pause_schedule = once(stored_schedules.pause_schedule)
    resume_schedule = once(stored_schedules.resume_schedule)
    remove_schedule = once(stored_schedules.remove_schedule)
    hold_schedule = once(stored_schedules.hold_schedule)
    tick_stored = once(stored_ticks.tick_stored)
    register = once(pools.register)
    update_kinds = once(pools.update_kinds)
    unregister = once(pools.unregister)
    list_pools = once(pools.list_pools)
    send = once(pools.send)
    forget_messages = once(pools.forget_messages)
    forget_live = once(pools.forget_live)
    set_waiting = once(pools.set_waiting)
    has_taker = once(pools.has_taker)
    claim = once(pools.claim)
    claim_retries_first = once(lambda t: pools.claim(t, retries_first=True))
    claim_lanes = once(lambda t: flow.claim_lanes(t, rated=False))
    claim_rated_lanes = once(lambda t: flow.claim_lanes(t, rated=True))
    beat = once(liveness.beat)
    lost_or_cancelled = once(liveness.lost_or_cancelled)
    still_dead = once(liveness.still_dead)
    orphaned = once(liveness.orphaned)
    rescue = once(liveness.rescue)
    declare_dead = once(liveness.declare_dead)
    reconcile = once(liveness.reconcile)
    remove = once(outcomes.remove)
    finish = once(outcomes.finish)
    settle = once(outcomes.settle)
    unlocked = once(outcomes.unlocked)
    held = once(outcomes.held)
    complete_and_keep = once(lambda t: outcomes.complete_one(t, keep=True))
    complete_and_remove = once(lambda t: outcomes.complete_one(t, keep=False))
    prune_finished = once(lambda t: outcomes.prune(t, TaskState.FINISHED))
    prune_cancelled = once(lambda t: outcomes.prune(t, TaskState.CANCELLED))
    prune_failed = once(lambda t: outcomes.prune(t, TaskState.FAILED))
    prune_periods = once(uniques.prune_periods)
    prune_lanes = once(flow.prune_lanes)
    waiting_types = once(pools.waiting_types)
    next_due = once(pools.next_due)
    unknown_kinds = once(pools.unknown_kinds)
    unserved_types = once(pools.unserved_types)
    list_types = once(managing.list_types)
    pause_type = once(managing.pause_type)
    resume_type = once(managing.resume_type)
    settle_type = once(managing.settle_type)
    older_statements = once(managing.older_statements)
    nap = once(managing.nap)
    write_limits = once(managing.write_limits)
    drop_type = once(managing.drop_type)
    adopt_running = once(managing.adopt_running)
    adopt_waiting = once(managing.adopt_waiting)
    tell_types = once(managing.tell_types)
    list_audit = once(audit.list_audit)
    begin_audit = once(audit.begin_audit)
    end_audit = once(audit.end_audit)
    tell_live = once(live.tell_live)
    explain = once(explaining.explain)
    flush_stats = once(stats.flush_stats)
    unmerged_minute = once(stats.unmerged_minute)
    merge_minute = once(stats.merge_minute)
    unfolded_hour = once(stats.unfolded_hour)
    fold_hour = once(stats.fold_hour)
    refold_hour = once(stats.refold_hour)
    prune_stats = once(stats.prune_stats)
    read_stats = once(stats.read_stats)
    read_histograms = once(stats.read_histograms)
    read_heat = once(stats.read_heat)
    read_types = once(stats.read_types)
    version = once(version.version)


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Returns the statements of a schema name: the same ones each time, as they are compiled only once."""
    return Statements(schema)
