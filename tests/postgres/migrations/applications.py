"""An application that migrates our tables with its own."""

APPLICATIONS_ENV = """
from alembic import context
from sqlalchemy import create_engine

if context.is_offline_mode():
    context.configure(dialect_name="postgresql")
    with context.begin_transaction():
        context.run_migrations()
else:
    with context.config.attributes["engine"].connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
APPLICATIONS_REVISION = """
from alembic import context, op
from fang_postgres.migrate import downgrade_within, upgrade_within

revision, down_revision = "app1", None

def upgrade():
    op.execute("CREATE TABLE orders (id int)")
    upgrade_within(op, schema="jobs")
    upgrade_within(op, schema="jobs")
    op.execute("CREATE TABLE customers (id int)")
    context.get_context()  # the proxies are still the application's

def downgrade():
    op.execute("DROP TABLE customers")
    downgrade_within(op, schema="jobs")
    downgrade_within(op, schema="jobs")
    op.execute("DROP TABLE orders")
"""
