"""Names every statement of Fang, for one schema name. Read the SQL in ``fang_postgres/texts``.

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

from fang_core.record import TaskState
from fang_postgres.once import OfSchema, once


class Statements(OfSchema):
    """All statements under one schema name, each made when it is first used."""

    insert = once("inserts.insert")
    insert_many = once("inserts.insert_many")
    insert_unique = once("inserts.insert_unique", "insert_unique", "uniq_hash")
    begin_periods = once("uniques.begin_periods")
    end_periods = once("uniques.end_periods")
    insert_on_terms = once("inserts.insert_unique", "insert_on_terms", "uniq_hash", "uniq_waiting")
    insert_past = once("inserts.insert_past")
    undo_inserts = once("uniques.undo_inserts")
    keeping_out = once("uniques.keeping_out")
    replace_twins = once("uniques.change_twins", replaces=True)
    postpone_twins = once("uniques.change_twins", replaces=False)
    existing = once("inserts.existing")
    twins = once("inserts.twins")
    find = once("by_hand.find")
    of_kinds = once("by_hand.of_kinds")
    kinds = once("by_hand.kinds")
    change = once("by_hand.change")
    cancel = once("cancelling.cancel")
    cancel_ids = once("cancelling.cancel_ids")
    cancel_held = once("cancelling.cancel_held")
    cancel_waiting = once("cancelling.cancel_waiting")
    touch = once("by_hand.touch")
    touch_lane = once("flow.touch_lane")
    remove_one = once("by_hand.remove_one")
    remove_twin = once("by_hand.remove_twin")
    last_id = once("by_hand.last_id")
    remove_type = once("by_hand.remove_type")
    remove_all = once("by_hand.remove_all")
    remove_scheduled = once("by_hand.remove_scheduled")
    clock = once("version.clock")
    read_schedules = once("schedules.read_schedules")
    tick = once("schedules.tick")
    declare_schedules = once("stored_schedules.declare_schedules")
    drop_schedules = once("stored_schedules.drop_schedules")
    read_stored = once("stored_schedules.read_stored")
    list_schedules = once("stored_schedules.list_schedules")
    put_schedule = once("stored_schedules.put_schedule")
    pause_schedule = once("stored_schedules.pause_schedule")
    resume_schedule = once("stored_schedules.resume_schedule")
    remove_schedule = once("stored_schedules.remove_schedule")
    hold_schedule = once("stored_schedules.hold_schedule")
    tick_stored = once("stored_ticks.tick_stored")
    register = once("pools.register")
    update_kinds = once("pools.update_kinds")
    unregister = once("pools.unregister")
    list_pools = once("pools.list_pools")
    send = once("pools.send")
    forget_messages = once("pools.forget_messages")
    forget_live = once("pools.forget_live")
    set_waiting = once("pools.set_waiting")
    has_taker = once("pools.has_taker")
    claim = once("pools.claim")
    claim_retries_first = once("pools.claim", retries_first=True)
    claim_lanes = once("flow.claim_lanes", rated=False)
    claim_rated_lanes = once("flow.claim_lanes", rated=True)
    beat = once("liveness.beat")
    lost_or_cancelled = once("liveness.lost_or_cancelled")
    still_dead = once("liveness.still_dead")
    orphaned = once("liveness.orphaned")
    rescue = once("liveness.rescue")
    declare_dead = once("liveness.declare_dead")
    reconcile = once("liveness.reconcile")
    remove = once("outcomes.remove")
    finish = once("outcomes.finish")
    settle = once("outcomes.settle")
    unlocked = once("outcomes.unlocked")
    held = once("outcomes.held")
    complete_and_keep = once("outcomes.complete_one", keep=True)
    complete_and_remove = once("outcomes.complete_one", keep=False)
    prune_finished = once("outcomes.prune", TaskState.FINISHED)
    prune_cancelled = once("outcomes.prune", TaskState.CANCELLED)
    prune_failed = once("outcomes.prune", TaskState.FAILED)
    prune_periods = once("uniques.prune_periods")
    prune_lanes = once("flow.prune_lanes")
    waiting_types = once("pools.waiting_types")
    next_due = once("pools.next_due")
    unknown_kinds = once("pools.unknown_kinds")
    unserved_types = once("pools.unserved_types")
    list_types = once("managing.list_types")
    pause_type = once("managing.pause_type")
    resume_type = once("managing.resume_type")
    settle_type = once("managing.settle_type")
    older_statements = once("managing.older_statements")
    nap = once("managing.nap")
    write_limits = once("managing.write_limits")
    drop_type = once("managing.drop_type")
    adopt_running = once("managing.adopt_running")
    adopt_waiting = once("managing.adopt_waiting")
    tell_types = once("managing.tell_types")
    list_audit = once("audit.list_audit")
    begin_audit = once("audit.begin_audit")
    end_audit = once("audit.end_audit")
    tell_live = once("live.tell_live")
    explain = once("explaining.explain")
    flush_stats = once("stats.flush_stats")
    unmerged_minute = once("stats.unmerged_minute")
    merge_minute = once("stats.merge_minute")
    unfolded_hour = once("stats.unfolded_hour")
    fold_hour = once("stats.fold_hour")
    refold_hour = once("stats.refold_hour")
    prune_stats = once("stats.prune_stats")
    read_stats = once("stats.read_stats")
    read_histograms = once("stats.read_histograms")
    read_heat = once("stats.read_heat")
    read_types = once("stats.read_types")
    version = once("version.version")


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Returns the statements of a schema name: the same ones each time, as each is made only once."""
    return Statements(schema)
