"""Adds the columns by which other pools judge a pool, and an index to prune by task type.

Code of 0001 may go on: the new columns have defaults, and it never reads them.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
oldest_code = "0001"
down_revision = "0001"
branch_labels = None
depends_on = None

ENDED = "state IN ('finished', 'failed', 'cancelled')"


def upgrade(schema: str) -> None:
    # The pools' table last: it is then locked only for a moment, so that hearts beat while the index is made.
    _index_what_ended(schema, "state, task_type, updated_at")
    op.execute(f"""ALTER TABLE "{schema}".fang_pools
        ADD COLUMN lease interval DEFAULT '60 s' NOT NULL,
        ADD COLUMN max_crashes integer DEFAULT 3 NOT NULL""")


def downgrade(schema: str) -> None:
    _index_what_ended(schema, "state, updated_at")
    op.execute(f'ALTER TABLE "{schema}".fang_pools DROP COLUMN lease, DROP COLUMN max_crashes')


def _index_what_ended(schema: str, columns: str) -> None:
    # DROP first: it takes the strongest lock at once. The other way round a lock would be raised, and a transaction
    # that reads the table and then writes it would be in a deadlock with this one.
    op.execute(f'DROP INDEX "{schema}".fang_tasks_ended')
    op.execute(f'CREATE INDEX fang_tasks_ended ON "{schema}".fang_tasks ({columns}) WHERE {ENDED}')
