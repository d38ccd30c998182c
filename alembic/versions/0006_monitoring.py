"""Adds what shows an operator where the time goes: history, what runs now, an audit, and a view for autoscalers.

Code of 0001 to 0005 may go on: it neither reads nor writes what is new, so its pools have no history and show no runs.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
oldest_code = "0001"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade(schema: str) -> None:
    tasks, _, stats, live, audit, _ = _relations(schema)

    op.execute(f"""CREATE TABLE {stats} (
        span smallint DEFAULT 60 NOT NULL,
        at timestamptz NOT NULL,
        writer uuid NOT NULL,
        task_type text NOT NULL,
        kind text NOT NULL,
        started bigint NOT NULL,
        arrived bigint NOT NULL,
        finished bigint NOT NULL,
        retried bigint NOT NULL,
        failed bigint NOT NULL,
        cancelled bigint NOT NULL,
        lost bigint NOT NULL,
        rescued bigint NOT NULL,
        queue_s double precision NOT NULL,
        run_s double precision NOT NULL,
        cpu_s double precision NOT NULL,
        worker_s double precision NOT NULL,
        queue integer[] NOT NULL,
        run integer[] NOT NULL,
        PRIMARY KEY (span, at, writer, task_type, kind)
        ) WITH (fillfactor = 70)""")
    op.execute(f"COMMENT ON TABLE {stats} IS 'buckets=1: of 0.0001 s * 10 ^ (k / 8), k = 0 to 83'")
    # Written once a second, with a list that may be long: half-empty pages keep its versions on one page.
    op.execute(f"""CREATE TABLE {live} (
        pool_id uuid NOT NULL,
        at timestamptz DEFAULT now() NOT NULL,
        busy integer DEFAULT 0 NOT NULL,
        waiting integer DEFAULT 0 NOT NULL,
        runs jsonb DEFAULT '[]' NOT NULL,
        PRIMARY KEY (pool_id)
        ) WITH (fillfactor = 50)""")
    op.execute(f"""CREATE TABLE {audit} (
        id bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz DEFAULT clock_timestamp() NOT NULL,
        who text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        details jsonb,
        result text,
        PRIMARY KEY (id)
        )""")
    op.execute(f"CREATE INDEX fang_audit_at ON {audit} (at)")
    _make_view(schema)
    _make_function(schema)
    _grant(schema)

    # The table that all use comes last. No row of a task that ends well goes into it.
    # Of kinds only the beginning: an index cannot hold a long text, and a row that cannot fail stays for ever.
    op.execute(f"""CREATE INDEX fang_tasks_failed_kinds ON {tasks} ("left"(kind, 200), updated_at)
        WHERE state = 'failed'""")


def downgrade(schema: str) -> None:
    _, _, stats, live, audit, scaling = _relations(schema)
    op.execute(f"DROP VIEW {scaling}")
    op.execute(f"DROP FUNCTION {_function(schema)}")
    for table in (stats, live, audit):
        op.execute(f"DROP TABLE {table}")
    op.execute(f'DROP INDEX "{schema}".fang_tasks_failed_kinds')


def _relations(schema: str) -> list[str]:
    names = ("fang_tasks", "fang_pools", "fang_stats", "fang_live", "fang_audit", "fang_scaling")
    return [f'"{schema}".{name}' for name in names]


def _make_view(schema: str) -> None:
    """Makes the view for autoscalers, which reads a bounded number of rows.

    It goes from type to type by the index of due rows. The oldest is looked for level by level, since the bounded count
    may end before it reaches a level. A pool that has told nothing for half a minute may be dead, so that its workers
    do not count; one of an older release tells nothing ever, and counts.
    """
    tasks, pools, _, live, _, scaling = _relations(schema)
    types = f'"{schema}".fang_types'

    def first_due(columns: str, most: int) -> str:
        return f"""SELECT {columns} FROM {tasks} b
                WHERE b.task_type = y.task_type AND b.priority = g.level::smallint
                AND b.state IN ('new', 'retried') AND b.scheduled_at <= now()
                ORDER BY b.scheduled_at, b.id LIMIT {most}"""  # noqa: S608

    op.execute(f"""CREATE VIEW {scaling} AS
        WITH RECURSIVE waiting AS (
            (SELECT task_type FROM {tasks} WHERE state IN ('new', 'retried') ORDER BY task_type LIMIT 1)
            UNION ALL
            SELECT (SELECT t.task_type FROM {tasks} t WHERE t.state IN ('new', 'retried') AND t.task_type > w.task_type
                ORDER BY t.task_type LIMIT 1)
            FROM waiting w WHERE w.task_type IS NOT NULL
        ),
        types AS (
            SELECT task_type FROM waiting WHERE task_type IS NOT NULL
            UNION SELECT unnest(task_types) FROM {pools}
            UNION SELECT task_type FROM {types}
        )
        SELECT y.task_type, d.due,
            greatest(coalesce(extract(epoch FROM now() - o.oldest), 0), 0)::double precision AS oldest_due_seconds,
            coalesce(r.running, 0) AS running,
            coalesce(p.workers, 0) AS workers,
            coalesce(s.paused AND coalesce(s.paused_until > now(), true), false) AS paused
        FROM types y
        CROSS JOIN LATERAL (SELECT count(*)::integer AS due FROM (
            SELECT FROM generate_series(-2, 2) g(level) CROSS JOIN LATERAL (
                {first_due("", 100)}) z LIMIT 100) x) d
        CROSS JOIN LATERAL (
            SELECT min(f.scheduled_at) AS oldest FROM generate_series(-2, 2) g(level) CROSS JOIN LATERAL (
                {first_due("b.scheduled_at", 1)}) f) o
        LEFT JOIN (
            SELECT task_type, count(*)::integer AS running FROM {tasks} WHERE state = 'in_progress' GROUP BY task_type
        ) r ON r.task_type = y.task_type
        LEFT JOIN (
            SELECT u.task_type, sum(q.workers)::integer AS workers
            FROM {pools} q LEFT JOIN {live} v ON v.pool_id = q.id, unnest(q.task_types) u(task_type)
            WHERE NOT q.stopping AND q.beats >= 0 AND coalesce(v.at > now() - interval '30 seconds', true)
            GROUP BY u.task_type
        ) p ON p.task_type = y.task_type
        LEFT JOIN {types} s ON s.task_type = y.task_type""")  # noqa: S608


def _function(schema: str) -> str:
    return f'"{schema}".fang_running_each_1(text, text[])'


def _make_function(schema: str) -> None:
    """Makes the function by which a claim counts what runs of each of its keys, in their order, when it holds the locks
    of all of them. One call for each of fifty keys took more than twice as long.

    VOLATILE, and in the order of the index, for the reasons of ``fang_running_1``. The planner does not see how many
    keys there are: if they were fewer than the ten that it takes a list for, it made a new plan at each call.
    """
    op.execute(f"""CREATE FUNCTION "{schema}".fang_running_each_1(p_type text, p_lanes text[]) RETURNS integer[]
        LANGUAGE plpgsql VOLATILE AS $$
            BEGIN RETURN ARRAY(
                SELECT (SELECT count(*) FROM (
                    SELECT 1 FROM "{schema}".fang_tasks r
                    WHERE r.task_type = p_type AND r.state = 'in_progress' AND r.lane >= u.lane AND r.lane <= u.lane
                    ORDER BY r.lane LIMIT (SELECT 2147483647)) held)
                FROM unnest((SELECT p_lanes)) WITH ORDINALITY AS u(lane, place) ORDER BY u.place);
            END $$""")  # noqa: S608


def _grant(schema: str) -> None:
    """Gives roles that may run pools, or only look on, their rights: the library's code of this revision needs them.

    A role that may insert is none of those who only look on; ``queue.pools()`` goes on for it.
    """
    tasks, pools, stats, live, _, scaling = _relations(schema)
    turns, lanes = (f'"{schema}".{name}' for name in ("fang_turns", "fang_lanes"))
    _grant_to(tasks, "SELECT", f"SELECT ON {stats}, {live}, {scaling}, {turns}, {lanes}", unless="INSERT")
    _grant_to(tasks, "INSERT", f"SELECT ON {live}")
    function = _function(schema)
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    _grant_to(
        pools,
        "DELETE",
        f"SELECT, INSERT, UPDATE, DELETE ON {stats}, {live}",
        f"SELECT ON {scaling}",
        f"EXECUTE ON FUNCTION {function}",
    )


def _grant_to(table: str, privilege: str, *rights: str, unless: str = "") -> None:
    """Grants rights to all roles that have been granted this privilege on a table, and not the one of ``unless``."""
    granting = "\n".join(f"EXECUTE 'GRANT {right} TO ' || role;" for right in rights)
    op.execute(f"""DO $$
        DECLARE role text;
        BEGIN
            FOR role IN
                SELECT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = '{table}'::regclass AND a.grantee NOT IN (0, c.relowner)
                GROUP BY a.grantee
                HAVING bool_or(a.privilege_type = '{privilege}') AND NOT bool_or(a.privilege_type = '{unless}')
            LOOP
                {granting}
            END LOOP;
        END $$""")  # noqa: S608
