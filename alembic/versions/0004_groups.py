"""Adds the size of the largest group in which a task is tried that pools have died with.

Code of 0001 may go on: it never reads the column, and runs such tasks alone.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
oldest_code = "0001"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade(schema: str) -> None:
    op.execute(f'ALTER TABLE "{schema}".fang_tasks ADD COLUMN group_limit smallint')


def downgrade(schema: str) -> None:
    op.execute(f'ALTER TABLE "{schema}".fang_tasks DROP COLUMN group_limit')
