"""Makes the tables: tasks, pools, schedules.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
oldest_code = "0001"
down_revision = None
branch_labels = None
depends_on = None

EARLIEST = "'0001-01-03 00:00:00+00'::timestamptz"
LATEST = "'9999-12-29 00:00:00+00'::timestamptz"
ENDED = "state IN ('finished', 'failed', 'cancelled')"


def upgrade(schema: str) -> None:
    state = f'"{schema}".fang_task_state'
    tasks, pools, schedules = (f'"{schema}".{table}' for table in ("fang_tasks", "fang_pools", "fang_schedules"))

    op.execute(f"""CREATE TYPE {state} AS ENUM
        ('new', 'in_progress', 'failed', 'finished', 'retried', 'cancelled')""")

    op.execute(f"""CREATE TABLE {tasks} (
        id uuid DEFAULT gen_random_uuid() NOT NULL,
        metadata jsonb NOT NULL,
        error_message text,
        state {state} DEFAULT 'new' NOT NULL,
        task_type text DEFAULT 'common' NOT NULL,
        uniq_hash text,
        retries integer DEFAULT 0 NOT NULL,
        scheduled_at timestamptz DEFAULT clock_timestamp() NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL,
        kind text GENERATED ALWAYS AS (metadata ->> 'type') STORED,
        priority smallint DEFAULT 0 NOT NULL,
        attempt bigint DEFAULT 0 NOT NULL,
        crashes smallint DEFAULT 0 NOT NULL,
        max_retries integer,
        pool_id uuid,
        claimed_at timestamptz,
        errors jsonb DEFAULT '[]' NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT fang_tasks_metadata_is_a_task CHECK (
            jsonb_typeof(metadata) = 'object' AND coalesce(jsonb_typeof(metadata -> 'type') = 'string', false)),
        CONSTRAINT fang_tasks_times_in_range CHECK (
            scheduled_at BETWEEN {EARLIEST} AND {LATEST}
            AND created_at BETWEEN {EARLIEST} AND {LATEST}
            AND updated_at BETWEEN {EARLIEST} AND {LATEST}),
        CONSTRAINT fang_tasks_priority_in_range CHECK (priority BETWEEN -2 AND 2),
        CONSTRAINT fang_tasks_counters_not_negative CHECK (
            retries >= 0 AND attempt >= 0 AND crashes >= 0 AND coalesce(max_retries, 0) >= 0),
        CONSTRAINT fang_tasks_errors_is_a_list CHECK (jsonb_typeof(errors) = 'array')
        )""")
    op.execute(f"""CREATE INDEX fang_tasks_due ON {tasks} (task_type, priority, scheduled_at, id)
        WHERE state IN ('new', 'retried')""")
    op.execute(f"""CREATE UNIQUE INDEX fang_tasks_uniq ON {tasks} (uniq_hash)
        WHERE uniq_hash IS NOT NULL AND NOT ({ENDED})""")
    op.execute(f"CREATE INDEX fang_tasks_held ON {tasks} (pool_id) WHERE state = 'in_progress'")
    op.execute(f"CREATE INDEX fang_tasks_ended ON {tasks} (state, updated_at) WHERE {ENDED}")

    op.execute(f"""CREATE TABLE {pools} (
        id uuid NOT NULL,
        mode text NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        task_types text[] NOT NULL,
        kinds text[] NOT NULL,
        workers integer NOT NULL,
        started_at timestamptz DEFAULT now() NOT NULL,
        beats bigint DEFAULT 0 NOT NULL,
        locks boolean DEFAULT false NOT NULL,
        waiting boolean DEFAULT false NOT NULL,
        stopping boolean DEFAULT false NOT NULL,
        PRIMARY KEY (id)
        ) WITH (fillfactor = 50)""")

    op.execute(f"""CREATE TABLE {schedules} (
        name text NOT NULL,
        last_tick timestamptz NOT NULL,
        PRIMARY KEY (name)
        )""")


def downgrade(schema: str) -> None:
    for table in ("fang_schedules", "fang_pools", "fang_tasks"):
        op.execute(f'DROP TABLE "{schema}".{table}')
    op.execute(f'DROP TYPE "{schema}".fang_task_state')
