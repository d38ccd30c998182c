"""Adds pause, limits, rates and fairness of task types, more ways to be unique, and schedules that people put.

Code of 0001 to 0004 may go on: the new columns may be null or have defaults, and it never reads them. Its pools know
nothing of what is new, however: they claim tasks of task types that are paused or limited, as before, and tick
schedules that somebody has paused. So use these once all pools are of this revision.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
oldest_code = "0001"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade(schema: str) -> None:
    tasks, types, turns, lanes, uniques, schedules = _tables(schema)

    op.execute(f"""CREATE TABLE {types} (
        task_type text NOT NULL,
        paused boolean DEFAULT false NOT NULL,
        paused_until timestamptz,
        paused_at timestamptz,
        paused_by text,
        pause_reason text,
        settling_until timestamptz,
        max_running integer,
        max_running_per_key integer,
        rate_interval interval,
        rate_burst integer,
        key_rate_interval interval,
        key_rate_burst integer,
        fair boolean DEFAULT false NOT NULL,
        weights jsonb,
        declared jsonb DEFAULT '{{}}' NOT NULL,
        changed jsonb,
        changed_at timestamptz,
        changed_by text,
        change_reason text,
        PRIMARY KEY (task_type),
        CONSTRAINT fang_types_limits_in_range CHECK (
            coalesce(max_running, 0) >= 0 AND coalesce(max_running_per_key, 1) >= 1),
        CONSTRAINT fang_types_rates_in_range CHECK (
            (rate_interval IS NULL) = (rate_burst IS NULL)
            AND (key_rate_interval IS NULL) = (key_rate_burst IS NULL)
            AND coalesce(rate_interval, '1 s') > '0' AND coalesce(rate_burst, 1) >= 1
            AND coalesce(key_rate_interval, '1 s') > '0' AND coalesce(key_rate_burst, 1) >= 1)
        )""")
    # Each claim of a type that has a rate updates the type's row: almost empty pages keep its versions on one page.
    op.execute(f"""CREATE TABLE {turns} (
        task_type text NOT NULL,
        tat timestamptz DEFAULT '-infinity' NOT NULL,
        PRIMARY KEY (task_type),
        FOREIGN KEY (task_type) REFERENCES {types} (task_type) ON DELETE CASCADE
        ) WITH (fillfactor = 10)""")
    op.execute(f"""CREATE TABLE {lanes} (
        task_type text NOT NULL,
        lane text COLLATE "C" NOT NULL,
        tat timestamptz NOT NULL,
        PRIMARY KEY (task_type, lane),
        FOREIGN KEY (task_type) REFERENCES {types} (task_type) ON DELETE CASCADE
        ) WITH (fillfactor = 50)""")
    op.execute(f"""CREATE TABLE {uniques} (
        hash text NOT NULL,
        task_id uuid NOT NULL,
        inserted_at timestamptz NOT NULL,
        until timestamptz NOT NULL,
        PRIMARY KEY (hash)
        )""")
    op.execute(f"CREATE INDEX fang_uniques_task ON {uniques} (task_id)")
    op.execute(f"CREATE INDEX fang_uniques_until ON {uniques} (until)")

    _make_functions(schema)
    _grant(schema)

    # The tables that others use come last, and the largest lock on each first: raised later, it could deadlock.
    op.execute(f"""ALTER TABLE {schedules}
        ADD COLUMN kind text,
        ADD COLUMN metadata jsonb,
        ADD COLUMN options jsonb,
        ADD COLUMN cron text,
        ADD COLUMN every interval,
        ADD COLUMN at timestamptz,
        ADD COLUMN tz text,
        ADD COLUMN overlap text DEFAULT 'allow' NOT NULL,
        ADD COLUMN missed text DEFAULT 'latest' NOT NULL,
        ADD COLUMN missed_within interval,
        ADD COLUMN jitter interval,
        ADD COLUMN until timestamptz,
        ADD COLUMN anchor timestamptz,
        ADD COLUMN pause_on_failure boolean DEFAULT false NOT NULL,
        ADD COLUMN paused boolean DEFAULT false NOT NULL,
        ADD COLUMN paused_until timestamptz,
        ADD COLUMN paused_at timestamptz,
        ADD COLUMN paused_by text,
        ADD COLUMN pause_reason text,
        ADD COLUMN task_type text,
        ADD COLUMN last_task_id uuid,
        ADD COLUMN declared jsonb,
        ADD COLUMN changed_at timestamptz,
        ADD COLUMN changed_by text,
        ADD COLUMN change_reason text""")
    op.execute(f'ALTER TABLE {tasks} ADD COLUMN lane text COLLATE "C", ADD COLUMN uniq_waiting text')
    # Of each condition the part that no row of an unmanaged type meets comes first, so that it costs next to nothing.
    # The state is compared in a way from which no planner concludes that fang_tasks_due has the rows as well.
    op.execute(f"""CREATE INDEX fang_tasks_lanes ON {tasks} (task_type, priority, lane, scheduled_at, id)
        WHERE lane IS NOT NULL AND CASE state WHEN 'new' THEN true WHEN 'retried' THEN true ELSE false END""")
    op.execute(f"""CREATE INDEX fang_tasks_running ON {tasks} (task_type, lane)
        WHERE lane IS NOT NULL AND state = 'in_progress'""")
    op.execute(f"""CREATE UNIQUE INDEX fang_tasks_uniq_waiting ON {tasks} (uniq_waiting)
        WHERE uniq_waiting IS NOT NULL AND attempt = 0 AND NOT (state IN ('finished', 'failed', 'cancelled'))""")
    op.execute(f"""CREATE INDEX fang_tasks_retried ON {tasks} (task_type, priority, scheduled_at, id)
        WHERE state >= 'retried' AND state <= 'retried'""")


def downgrade(schema: str) -> None:
    tasks, types, turns, lanes, uniques, schedules = _tables(schema)
    op.execute(f"""ALTER TABLE {schedules}
        DROP COLUMN kind, DROP COLUMN metadata, DROP COLUMN options, DROP COLUMN cron, DROP COLUMN every,
        DROP COLUMN at, DROP COLUMN tz, DROP COLUMN overlap, DROP COLUMN missed, DROP COLUMN missed_within,
        DROP COLUMN jitter, DROP COLUMN until, DROP COLUMN anchor, DROP COLUMN pause_on_failure,
        DROP COLUMN paused, DROP COLUMN paused_until, DROP COLUMN paused_at, DROP COLUMN paused_by,
        DROP COLUMN pause_reason, DROP COLUMN task_type, DROP COLUMN last_task_id, DROP COLUMN declared,
        DROP COLUMN changed_at, DROP COLUMN changed_by, DROP COLUMN change_reason""")
    op.execute(f"ALTER TABLE {tasks} DROP COLUMN lane, DROP COLUMN uniq_waiting")
    op.execute(f'DROP INDEX "{schema}".fang_tasks_retried')
    op.execute(f"DROP FUNCTION {_functions(schema)}")
    for table in (uniques, lanes, turns, types):
        op.execute(f"DROP TABLE {table}")


def _tables(schema: str) -> list[str]:
    names = ("fang_tasks", "fang_types", "fang_turns", "fang_lanes", "fang_uniques", "fang_schedules")
    return [f'"{schema}".{name}' for name in names]


def _functions(schema: str) -> str:
    names = ("fang_running_1(text, text)", "fang_tat_1(text)", "fang_lane_tat_1(text, text)")
    return ", ".join(f'"{schema}".{name}' for name in names)


def _make_functions(schema: str) -> None:
    """Makes the functions by which a claim reads what others have committed since its own snapshot.

    VOLATILE is the point: each query inside of such a function takes a new snapshot. Called behind a lock, it sees the
    rows of every claim that held the lock before. STABLE functions would not, and limits would be exceeded.
    """
    tasks, _, turns, lanes, *_ = _tables(schema)

    def running(lanes: str) -> str:
        # In the order of fang_tasks_running, with a limit that the planner does not see: it goes by that index even if
        # the statistics are of when all rows ran, and would not with lane = p_lane.
        return f"""(SELECT count(*) FROM (
                SELECT 1 FROM {tasks} r WHERE r.task_type = p_type AND r.state = 'in_progress' AND {lanes}
                ORDER BY r.lane LIMIT (SELECT 2147483647)) held)"""  # noqa: S608

    bodies = {
        "fang_running_1(p_type text, p_lane text) RETURNS integer": f"""
            IF p_lane IS NULL THEN RETURN {running("r.lane >= ''")}; END IF;
            RETURN {running("r.lane >= p_lane AND r.lane <= p_lane")};""",
        "fang_tat_1(p_type text) RETURNS timestamptz": f"""
            RETURN (SELECT u.tat FROM {turns} u WHERE u.task_type = p_type);""",  # noqa: S608
        "fang_lane_tat_1(p_type text, p_lane text) RETURNS timestamptz": f"""
            RETURN (SELECT l.tat FROM {lanes} l WHERE l.task_type = p_type AND l.lane = p_lane);""",  # noqa: S608
    }
    for signature, body in bodies.items():
        op.execute(f"""CREATE FUNCTION "{schema}".{signature} LANGUAGE plpgsql VOLATILE AS $$
            BEGIN {body}
            END $$""")


def _grant(schema: str) -> None:
    """Gives roles that may insert tasks, run pools or look on their rights on the new tables.

    Without those, the library's code of this revision could not go on with what they did so far.
    """
    tasks, types, turns, lanes, uniques, schedules = _tables(schema)
    functions = _functions(schema)
    op.execute(f"REVOKE ALL ON FUNCTION {functions} FROM PUBLIC")
    _grant_to(tasks, "SELECT", f"SELECT ON {types}, {schedules}")
    _grant_to(tasks, "INSERT", f"SELECT ON {types}", f"SELECT, INSERT, UPDATE, DELETE ON {uniques}")
    _grant_to(
        f'"{schema}".fang_pools',
        "DELETE",
        f"SELECT, INSERT, UPDATE, DELETE ON {types}, {lanes}, {uniques}",
        f"SELECT, INSERT, UPDATE ON {turns}",
        f"DELETE ON {schedules}",
        f"EXECUTE ON FUNCTION {functions}",
    )


def _grant_to(table: str, privilege: str, *rights: str) -> None:
    """Grants rights to all roles that have been granted this privilege on a table."""
    granting = "\n".join(f"EXECUTE 'GRANT {right} TO ' || role;" for right in rights)
    op.execute(f"""DO $$
        DECLARE role text;
        BEGIN
            FOR role IN
                SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = '{table}'::regclass AND a.privilege_type = '{privilege}'
                AND a.grantee NOT IN (0, c.relowner)
            LOOP
                {granting}
            END LOOP;
        END $$""")  # noqa: S608
