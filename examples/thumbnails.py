"""Runs CPU-bound tasks in threads, inserted together with the application's own row.

Run it with `FANG_DATABASE_URL` set to a migrated database: `python examples/thumbnails.py`.
"""

import os
import zlib

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from fang_threaded import Exponential, Queue, Queueable, Runnable, TaskConfig, WorkerPool

URL = os.environ.get("FANG_DATABASE_URL", "postgresql://localhost/app")
ENGINE = create_engine(make_url(URL).set(drivername="postgresql+psycopg"))


class Compress(Runnable):
    task_config = TaskConfig(task_type="heavy", max_retries=3, backoff=Exponential())

    image_id: int

    def run(self, queue: Queueable) -> None:
        with ENGINE.begin() as connection:
            data = connection.execute(
                text("SELECT data FROM images WHERE id = :id"), {"id": self.image_id}
            ).scalar_one()
            small = zlib.compress(data)
            # A task can run again after a crash: writing the same result twice must do no harm.
            connection.execute(
                text("UPDATE images SET small = :small WHERE id = :id"), {"small": small, "id": self.image_id}
            )


def upload(queue: Queue, data: bytes) -> None:
    """Inserts the image and its task: both are committed, or neither is."""
    with Session(ENGINE) as session, session.begin():
        insert = text("INSERT INTO images (data) VALUES (:data) RETURNING id")
        image_id = session.execute(insert, {"data": data}).scalar_one()
        queue.insert_task(Compress(image_id=image_id), connection=session)


def main() -> None:
    with ENGINE.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS images (id serial PRIMARY KEY, data bytea, small bytea)"))
    with Queue(URL) as queue:
        for size in (1_000, 10_000, 100_000):
            upload(queue, b"pixel" * size)
        ran = WorkerPool(queue, number_of_workers=2, task_type="heavy").drain()
    with ENGINE.begin() as connection:
        done = connection.execute(text("SELECT count(*) FROM images WHERE small IS NOT NULL")).scalar_one()
    print(f"{ran} tasks ran, {done} images compressed")
    ENGINE.dispose()


if __name__ == "__main__":
    main()
