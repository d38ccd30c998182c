"""Commits a task and the application's own rows together or not at all; a second run does not repeat effects.

Run it with `FANG_DATABASE_URL` set to a migrated database: `python examples/transactions.py`.
"""

import os
from contextlib import suppress
from uuid import UUID, uuid4

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from fang_threaded import OutcomeUnknown, Queue, Queueable, Runnable, WorkerPool

URL = os.environ.get("FANG_DATABASE_URL", "postgresql://localhost/app")
ENGINE = create_engine(make_url(URL).set(drivername="postgresql+psycopg"))
TABLES = text("""
    DROP TABLE IF EXISTS example_orders, example_receipts;
    CREATE TABLE example_orders (id uuid PRIMARY KEY, item text);
    CREATE TABLE example_receipts (order_id uuid PRIMARY KEY REFERENCES example_orders);
""")


class SendReceipt(Runnable):
    order_id: UUID

    def run(self, queue: Queueable) -> None:
        # A task runs again if its process died after the work and before the outcome was written. The key says that
        # this order has its receipt; a mail server would get the order's id as the key of the message.
        with ENGINE.begin() as connection:
            connection.execute(
                text("INSERT INTO example_receipts VALUES (:id) ON CONFLICT DO NOTHING"), {"id": self.order_id}
            )


def place_order(queue: Queue, item: str, order_id: UUID) -> None:
    """Inserts the order and its task."""
    with Session(ENGINE) as session, session.begin():
        session.execute(text("INSERT INTO example_orders VALUES (:id, :item)"), {"id": order_id, "item": item})
        queue.insert_task(SendReceipt(order_id=order_id), connection=session)
        if item == "moon":
            raise LookupError("sold out")  # neither the order nor its task is inserted


def send_again(queue: Queue, order_id: UUID) -> None:
    """Inserts one task for a click, in a transaction of its own, even if the reply to its commit is lost."""
    task_id = uuid4()
    try:
        queue.insert_task(SendReceipt(order_id=order_id), id=task_id)
    except OutcomeUnknown:
        queue.insert_task(SendReceipt(order_id=order_id), id=task_id)  # finds the first one, if it was committed


def main() -> None:
    with ENGINE.begin() as connection:
        connection.execute(TABLES)
    with Queue(URL) as queue:
        tea, moon, cake = uuid4(), uuid4(), uuid4()
        place_order(queue, "tea", tea)
        with suppress(LookupError):
            place_order(queue, "moon", moon)
        place_order(queue, "cake", cake)
        send_again(queue, cake)
        WorkerPool(queue, number_of_workers=2).drain()
    with ENGINE.begin() as connection:
        orders = connection.execute(text("SELECT count(*) FROM example_orders")).scalar_one()
        receipts = connection.execute(text("SELECT count(*) FROM example_receipts")).scalar_one()
    print(f"{orders} orders, {receipts} receipts sent")
    ENGINE.dispose()


if __name__ == "__main__":
    main()
