"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from alembic import op

revision = ${repr(up_revision)}
# The oldest revision whose code may insert and work on these tables, while processes are replaced one by one. Say above
# why: new columns have defaults, and nothing is removed or changes its meaning.
oldest_code = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade(schema: str) -> None:
    # Plain SQL, one statement a call, every name under the schema: op.execute(f'ALTER TABLE "{schema}".fang_tasks ...')
    raise NotImplementedError


def downgrade(schema: str) -> None:
    raise NotImplementedError
