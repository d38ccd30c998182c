"""A task and the application's own rows, committed together or not at all; effects that a second run does not repeat.

Run it with `FANG_DATABASE_URL` set to a migrated database: `python examples/transactions.py`.
"""

import os
from uuid import UUID, uuid4

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from fang_threaded import OutcomeUnknown, Queue, Queueable, Runnable, WorkerPool

URL = os.environ.get("FANG_DATABASE_URL", "postgresql://localhost/app")
ENGINE = create_engine(make_url(URL).set(drivername="postgresql+psycopg"))


class SendReceipt(Runnable):
    order_id: UUID

    def run(self, queue: Queueable) -> None:
        # A task runs again where its process died after the work and before the outcome was written. The key says that
        # this order has its receipt; a mail server would be handed the order's id as the key of the message.
        with ENGINE.begin() as connection:
            connection.execute(text("INSERT INTO receipts VALUES (:id) ON CONFLICT DO NOTHING"), {"id": self.order_id})


def place_order(engine: Engine, queue: Queue, item: str, order_id: UUID) -> None:
    """The order and its task."""
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO orders VALUES (:id, :item)"), {"id": order_id, "item": item})
        queue.insert_task(SendReceipt(order_id=order_id), connection=session)
        if item == "moon":
            raise LookupError("sold out")  # neither the order nor its task is there


def send_again(queue: Queue, order_id: UUID) -> None:
    """One task for a click, in a transaction of its own, even where the reply to its commit is lost."""
    task_id = uuid4()
    try:
        queue.insert_task(SendReceipt(order_id=order_id), id=task_id)
    except OutcomeUnknown:
        queue.insert_task(SendReceipt(order_id=order_id), id=task_id)  # finds the first one, if that stands


def main() -> None:
    with ENGINE.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS orders (id uuid PRIMARY KEY, item text)"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS receipts (order_id uuid PRIMARY KEY REFERENCES orders)"))
        connection.execute(text("TRUNCATE orders, receipts"))
    with Queue(URL) as queue:
        for item in ("tea", "moon", "cake"):
            order_id = uuid4()
            try:
                place_order(ENGINE, queue, item, order_id)
            except LookupError:
                continue
        send_again(queue, order_id)
        WorkerPool(queue, number_of_workers=2).drain()
    with ENGINE.begin() as connection:
        orders = connection.execute(text("SELECT count(*) FROM orders")).scalar_one()
        receipts = connection.execute(text("SELECT count(*) FROM receipts")).scalar_one()
    print(f"{orders} orders, {receipts} receipts sent")
    ENGINE.dispose()


if __name__ == "__main__":
    main()
