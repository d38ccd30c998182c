"""The record of a pool says by what others judge it.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(schema: str) -> None:
    op.execute(f"""ALTER TABLE "{schema}".fang_pools
        ADD COLUMN lease interval DEFAULT '60 s' NOT NULL,
        ADD COLUMN max_crashes integer DEFAULT 3 NOT NULL""")


def downgrade(schema: str) -> None:
    op.execute(f'ALTER TABLE "{schema}".fang_pools DROP COLUMN lease, DROP COLUMN max_crashes')
