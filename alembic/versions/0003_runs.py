"""Adds what runs are told and told about: headers, time limits, expiry, requests to cancel, messages to pools.

Code of 0001 and 0002 may go on: the new columns may be null or have defaults, and it never reads them. Its pools run
tasks without their time limits, also expired ones, and get no messages.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
oldest_code = "0001"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade(schema: str) -> None:
    tasks, pools, messages = (f'"{schema}".{table}' for table in ("fang_tasks", "fang_pools", "fang_messages"))

    op.execute(f"""CREATE TABLE {messages} (
        id bigint GENERATED ALWAYS AS IDENTITY,
        pool_id uuid NOT NULL,
        sent_at timestamptz DEFAULT now() NOT NULL,
        sender text,
        kind text NOT NULL,
        body jsonb DEFAULT '{{}}' NOT NULL,
        PRIMARY KEY (id)
        )""")
    op.execute(f"CREATE INDEX fang_messages_pool ON {messages} (pool_id)")
    _grant_to_workers(pools, messages)

    op.execute(f"""ALTER TABLE {tasks}
        ADD COLUMN headers jsonb,
        ADD COLUMN timeout interval,
        ADD COLUMN expires_at timestamptz,
        ADD COLUMN cancel_request jsonb""")

    # The pools' table last: it is then locked only for a moment, so that hearts go on.
    op.execute(f"""ALTER TABLE {pools}
        ADD COLUMN runs jsonb,
        ADD COLUMN isolated_kinds text[] DEFAULT '{{}}' NOT NULL""")


def downgrade(schema: str) -> None:
    op.execute(f"""ALTER TABLE "{schema}".fang_tasks
        DROP COLUMN headers, DROP COLUMN timeout, DROP COLUMN expires_at, DROP COLUMN cancel_request""")
    op.execute(f'DROP TABLE "{schema}".fang_messages')
    op.execute(f'ALTER TABLE "{schema}".fang_pools DROP COLUMN runs, DROP COLUMN isolated_kinds')


def _grant_to_workers(pools: str, messages: str) -> None:
    """Gives the roles that may run pools their rights on the new table, without which these pools could not end."""
    op.execute(f"""DO $$
        DECLARE worker text;
        BEGIN
            FOR worker IN
                SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
                WHERE c.oid = '{pools}'::regclass AND a.privilege_type = 'DELETE' AND a.grantee NOT IN (0, c.relowner)
            LOOP
                EXECUTE 'GRANT SELECT, INSERT, DELETE ON {messages} TO ' || worker;
            END LOOP;
        END $$""")  # noqa: S608
