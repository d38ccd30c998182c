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

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import DateTime, Text, bindparam, cast, column, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import REGCLASS

from fang_core.record import TaskState
from fang_postgres.schema import VERSION_TABLE, tables
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
    uniques,
)
from fang_postgres.statement import Statement


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements under one schema name."""

    insert: Statement
    insert_many: Statement
    insert_unique: Statement
    begin_periods: Statement
    end_periods: Statement
    insert_on_terms: Statement
    undo_inserts: Statement
    keeping_out: Statement
    replace_twins: Statement
    postpone_twins: Statement
    existing: Statement
    twins: Statement
    find: Statement
    of_kinds: Statement
    kinds: Statement
    change: Statement
    cancel: Statement
    cancel_ids: Statement
    cancel_held: Statement
    cancel_waiting: Statement
    touch: Statement
    touch_lane: Statement
    remove_one: Statement
    remove_twin: Statement
    last_id: Statement
    remove_type: Statement
    remove_all: Statement
    remove_scheduled: Statement
    clock: Statement
    read_schedules: Statement
    tick: Statement
    declare_schedules: Statement
    drop_schedules: Statement
    read_stored: Statement
    list_schedules: Statement
    put_schedule: Statement
    pause_schedule: Statement
    resume_schedule: Statement
    remove_schedule: Statement
    hold_schedule: Statement
    tick_stored: Statement
    register: Statement
    update_kinds: Statement
    unregister: Statement
    list_pools: Statement
    send: Statement
    forget_messages: Statement
    forget_live: Statement
    set_waiting: Statement
    has_taker: Statement
    claim: Statement
    claim_retries_first: Statement
    claim_lanes: Statement
    beat: Statement
    lost_or_cancelled: Statement
    still_dead: Statement
    orphaned: Statement
    rescue: Statement
    declare_dead: Statement
    reconcile: Statement
    remove: Statement
    finish: Statement
    settle: Statement
    unlocked: Statement
    held: Statement
    complete_and_keep: Statement
    complete_and_remove: Statement
    prune_finished: Statement
    prune_cancelled: Statement
    prune_failed: Statement
    prune_periods: Statement
    prune_lanes: Statement
    waiting_types: Statement
    next_due: Statement
    unknown_kinds: Statement
    unserved_types: Statement
    list_types: Statement
    pause_type: Statement
    resume_type: Statement
    settle_type: Statement
    older_statements: Statement
    nap: Statement
    write_limits: Statement
    drop_type: Statement
    adopt_running: Statement
    adopt_waiting: Statement
    tell_types: Statement
    list_audit: Statement
    begin_audit: Statement
    end_audit: Statement
    tell_live: Statement
    explain: Statement
    flush_stats: Statement
    unmerged_minute: Statement
    merge_minute: Statement
    unfolded_hour: Statement
    fold_hour: Statement
    refold_hour: Statement
    prune_stats: Statement
    read_stats: Statement
    read_histograms: Statement
    read_heat: Statement
    read_types: Statement
    version: Statement


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Builds and compiles them all, once for a schema name."""
    t = tables(schema)
    return Statements(
        insert=inserts.insert(t),
        insert_many=inserts.insert_many(t),
        insert_unique=inserts.insert_unique(t, "insert_unique", "uniq_hash"),
        begin_periods=uniques.begin_periods(t),
        end_periods=uniques.end_periods(t),
        insert_on_terms=inserts.insert_unique(t, "insert_on_terms", "uniq_hash", "uniq_waiting"),
        undo_inserts=uniques.undo_inserts(t),
        keeping_out=uniques.keeping_out(t),
        replace_twins=uniques.change_twins(t, replaces=True),
        postpone_twins=uniques.change_twins(t, replaces=False),
        existing=inserts.existing(t),
        twins=inserts.twins(t),
        find=by_hand.find(t),
        of_kinds=by_hand.of_kinds(t),
        kinds=by_hand.kinds(t),
        change=by_hand.change(t),
        cancel=cancelling.cancel(t),
        cancel_ids=cancelling.cancel_ids(t),
        cancel_held=cancelling.cancel_held(t),
        cancel_waiting=cancelling.cancel_waiting(t),
        touch=by_hand.touch(t),
        touch_lane=flow.touch_lane(t),
        remove_one=by_hand.remove_one(t),
        remove_twin=by_hand.remove_twin(t),
        last_id=by_hand.last_id(t),
        remove_type=by_hand.removal_batch(t, "type", lambda c: [c.task_type == bindparam("p_task_type", type_=Text)]),
        remove_all=by_hand.removal_batch(t, "all", lambda _: []),
        remove_scheduled=by_hand.removal_batch(t, "scheduled", by_hand.is_scheduled),
        clock=Statement("clock", select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"))),
        read_schedules=schedules.read_schedules(t),
        tick=schedules.tick(t),
        declare_schedules=stored_schedules.declare_schedules(t),
        drop_schedules=stored_schedules.drop_schedules(t),
        read_stored=stored_schedules.read_stored(t),
        list_schedules=stored_schedules.list_schedules(t),
        put_schedule=stored_schedules.put_schedule(t),
        pause_schedule=stored_schedules.pause_schedule(t),
        resume_schedule=stored_schedules.resume_schedule(t),
        remove_schedule=stored_schedules.remove_schedule(t),
        hold_schedule=stored_schedules.hold_schedule(t),
        tick_stored=stored_schedules.tick_stored(t),
        register=pools.register(t),
        update_kinds=pools.update_kinds(t),
        unregister=pools.unregister(t),
        list_pools=pools.list_pools(t),
        send=pools.send(t),
        forget_messages=pools.forget_messages(t),
        forget_live=pools.forget_live(t),
        set_waiting=pools.set_waiting(t),
        has_taker=pools.has_taker(t),
        claim=pools.claim(t),
        claim_retries_first=pools.claim(t, retries_first=True),
        claim_lanes=flow.claim_lanes(t),
        beat=liveness.beat(t),
        lost_or_cancelled=liveness.lost_or_cancelled(t),
        still_dead=liveness.still_dead(t),
        orphaned=liveness.orphaned(t),
        rescue=liveness.rescue(t),
        declare_dead=liveness.declare_dead(t),
        reconcile=liveness.reconcile(t),
        remove=outcomes.remove(t),
        finish=outcomes.finish(t),
        settle=outcomes.settle(t),
        unlocked=outcomes.unlocked(t),
        held=outcomes.held(t),
        complete_and_keep=outcomes.complete_one(t, keep=True),
        complete_and_remove=outcomes.complete_one(t, keep=False),
        prune_finished=outcomes.prune(t, TaskState.FINISHED),
        prune_cancelled=outcomes.prune(t, TaskState.CANCELLED),
        prune_failed=outcomes.prune(t, TaskState.FAILED),
        prune_periods=uniques.prune_periods(t),
        prune_lanes=flow.prune_lanes(t),
        waiting_types=pools.waiting_types(t),
        next_due=pools.next_due(t),
        unknown_kinds=pools.unknown_kinds(t),
        unserved_types=pools.unserved_types(t),
        list_types=managing.list_types(t),
        pause_type=managing.pause_type(t),
        resume_type=managing.resume_type(t),
        settle_type=managing.settle_type(t),
        older_statements=managing.older_statements(t),
        nap=managing.nap(t),
        write_limits=managing.write_limits(t),
        drop_type=managing.drop_type(t),
        adopt_running=managing.adopt_running(t),
        adopt_waiting=managing.adopt_waiting(t),
        tell_types=managing.tell_types(t),
        list_audit=audit.list_audit(t),
        begin_audit=audit.begin_audit(t),
        end_audit=audit.end_audit(t),
        tell_live=live.tell_live(t),
        explain=explaining.explain(t),
        flush_stats=stats.flush_stats(t),
        unmerged_minute=stats.unmerged_minute(t),
        merge_minute=stats.merge_minute(t),
        unfolded_hour=stats.unfolded_hour(t),
        fold_hour=stats.fold_hour(t),
        refold_hour=stats.refold_hour(t),
        prune_stats=stats.prune_stats(t),
        read_stats=stats.read_stats(t),
        read_histograms=stats.read_histograms(t),
        read_heat=stats.read_heat(t),
        read_types=stats.read_types(t),
        version=version(schema),
    )


def version(schema: str) -> Statement:
    """Reads the revision, and the comment on its table, which says which older code may use the tables."""
    versions = table(VERSION_TABLE, column("version_num", Text), schema=schema)
    name = cast(literal_column(f"'{schema}.{VERSION_TABLE}'"), REGCLASS)
    comment = func.obj_description(name, literal_column("'pg_class'"), type_=Text)
    return Statement("version", select(versions.c.version_num, comment.label("comment")))
