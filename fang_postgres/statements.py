"""Every statement of Fang, for one schema name. ``tests/postgres/golden`` holds the SQL that comes of it, to be read.

Rules that these forms follow, each learned from a plan or a race that went wrong:

- A write has exactly one base relation. Lists come in through ``ARRAY(SELECT unnest(..))``, which the planner always
  takes for ten rows, and values for each row through array subscripts. Joins by id turned quadratic under stale
  statistics.
- The fence stands in the outermost WHERE, so that a concurrent change is checked again against all of it.
- Constants are literals in the text: under a generic plan ``state = $2`` would miss the partial indexes.
- A limit is hidden in a subquery. A custom plan that sees it, and believes that fewer rows wait, drops the order of the
  index and sorts the whole backlog (540 ms instead of 5 for a claim of 500 from a million). One that does not see it
  expects to read a tenth of the rows, and goes by the index.
"""

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import UUID, DateTime, Text, bindparam, cast, column, delete, func, literal_column, select, table
from sqlalchemy.dialects.postgresql import REGCLASS

from fang_core.record import TaskState
from fang_postgres.schema import VERSION_TABLE, tables
from fang_postgres.sql import by_hand, inserts, liveness, outcomes, pools, schedules
from fang_postgres.sql.fragments import POOL, is_live_twin
from fang_postgres.statement import Statement


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements under one schema name."""

    insert: Statement
    insert_many: Statement
    insert_unique: Statement
    existing: Statement
    twins: Statement
    find: Statement
    of_kinds: Statement
    kinds: Statement
    change: Statement
    touch: Statement
    remove_one: Statement
    remove_twin: Statement
    last_id: Statement
    remove_type: Statement
    remove_all: Statement
    remove_scheduled: Statement
    clock: Statement
    sight: Statement
    tick: Statement
    register: Statement
    learn: Statement
    unregister: Statement
    announce: Statement
    has_taker: Statement
    claim: Statement
    beat: Statement
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
    waiting_types: Statement
    next_due: Statement
    unknown_kinds: Statement
    unserved_types: Statement
    version: Statement


@lru_cache(maxsize=64)
def statements(schema: str) -> Statements:
    """Builds and compiles them all, once for a schema name."""
    t = tables(schema)
    return Statements(
        insert=inserts.insert(t),
        insert_many=inserts.insert_many(t),
        insert_unique=inserts.insert_unique(t),
        existing=inserts.existing(t),
        twins=inserts.twins(t),
        find=by_hand.find(t),
        of_kinds=by_hand.of_kinds(t),
        kinds=by_hand.kinds(t),
        change=by_hand.change(t),
        touch=by_hand.touch(t),
        remove_one=by_hand.removal(t, "one", t.tasks.c.id == bindparam("p_id", type_=UUID)),
        remove_twin=by_hand.removal(t, "twin", is_live_twin(t.tasks.c)),
        last_id=by_hand.last_id(t),
        remove_type=by_hand.removal_batch(t, "type", lambda c: [c.task_type == bindparam("p_task_type", type_=Text)]),
        remove_all=by_hand.removal_batch(t, "all", lambda _: []),
        remove_scheduled=by_hand.removal_batch(t, "scheduled", by_hand.is_scheduled),
        clock=Statement("clock", select(func.clock_timestamp(type_=DateTime(timezone=True)).label("now"))),
        sight=schedules.sight(t),
        tick=schedules.tick(t),
        register=pools.register(t),
        learn=pools.learn(t),
        unregister=Statement("unregister", delete(t.pools).where(t.pools.c.id == POOL)),
        announce=pools.announce(t),
        has_taker=pools.has_taker(t),
        claim=pools.claim(t),
        beat=liveness.beat(t),
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
        waiting_types=pools.waiting_types(t),
        next_due=pools.next_due(t),
        unknown_kinds=pools.unknown_kinds(t),
        unserved_types=pools.unserved_types(t),
        version=version(schema),
    )


def version(schema: str) -> Statement:
    """The revision, and the comment on its table, which says which older code may use the tables."""
    versions = table(VERSION_TABLE, column("version_num", Text), schema=schema)
    name = cast(literal_column(f"'{schema}.{VERSION_TABLE}'"), REGCLASS)
    comment = func.obj_description(name, literal_column("'pg_class'"), type_=Text)
    return Statement("version", select(versions.c.version_num, comment.label("comment")))
