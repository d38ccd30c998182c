"""An application and its tasks in one SQLite file: no server, no driver, and still one transaction for both.

An order and the task that sends its receipt are committed together; the receipt and the end of that task, too.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from fang_core import Queueable, Runnable, TaskConfig
from fang_sqlite import SqliteQueue
from fang_threaded import WorkerPool


def connected(file: str) -> sqlite3.Connection:
    """Begins each transaction as one that writes: one that has read first could not write any more."""
    return sqlite3.connect(file, isolation_level="IMMEDIATE", timeout=30)


class SendReceipt(Runnable):
    task_config = TaskConfig(task_type="mail")

    file: str
    order_id: int

    def run(self, queue: Queueable) -> None:
        with closing(connected(self.file)) as connection, connection:
            connection.execute("INSERT INTO receipts (order_id) VALUES (?)", (self.order_id,))
            queue.complete(connection=connection)  # the receipt and the end of this task commit together


def order(queue: Queueable, file: str, what: str) -> None:
    """Writes an order; if anything goes wrong, there is neither the order nor its task."""
    with closing(connected(file)) as connection, connection:
        order_id = connection.execute("INSERT INTO orders (what) VALUES (?)", (what,)).lastrowid
        assert order_id is not None
        queue.insert_task(SendReceipt(file=file, order_id=order_id), connection=connection)
        if what == "nothing":
            raise ValueError("an order has to name something")


def main() -> None:
    with TemporaryDirectory() as directory:
        file = str(Path(directory) / "shop.db")
        with SqliteQueue(file) as queue:
            with closing(connected(file)) as connection, connection:
                connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL)")
                connection.execute("CREATE TABLE receipts (order_id INTEGER NOT NULL)")
            for what in ("tea", "nothing", "cake"):
                try:
                    order(queue, file, what)
                except ValueError as error:
                    print(error)
            sent = WorkerPool(queue, task_type="mail", number_of_workers=2).drain()
            with closing(connected(file)) as connection:
                (orders,) = connection.execute("SELECT count(*) FROM orders").fetchone()
                (receipts,) = connection.execute("SELECT count(*) FROM receipts").fetchone()
            assert sent == receipts == orders
            print(f"{orders} orders, {receipts} receipts")


if __name__ == "__main__":
    main()
