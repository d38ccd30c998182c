"""Inserts unique tasks: many calls ask for the same work, and it is done once.

It uses the memory backend, so it needs no database; with `Queue("postgresql://...")` the same runs on Postgres.
"""

from fang_core import MemoryQueue, Queueable, Runnable, TaskConfig
from fang_threaded import WorkerPool

ALBUMS: dict[str, list[str]] = {}
INDEX: dict[str, int] = {}


class IndexAlbum(Runnable):
    """Indexes one album: tasks of different albums are not equal. The run reads everything else that it needs."""

    task_config = TaskConfig(uniq=True)

    album: str

    def run(self, queue: Queueable) -> None:
        INDEX[self.album] = len(ALBUMS[self.album])


def upload(queue: Queueable, album: str, image: str) -> bool:
    """Returns whether it inserted a new task: if one waits already, that one will see this image as well."""
    ALBUMS.setdefault(album, []).append(image)
    return not queue.insert_task(IndexAlbum(album=album)).conflict


def main() -> None:
    queue = MemoryQueue()
    pool = WorkerPool(queue)
    images = [("sea", "a.jpg"), ("sea", "b.jpg"), ("hills", "c.jpg"), ("sea", "d.jpg"), ("town", "e.jpg")]
    inserted = sum(upload(queue, album, image) for album, image in images)
    assert pool.drain() == inserted
    print(f"{inserted} tasks for {len(images)} uploads, {sum(INDEX.values())} images indexed")

    assert upload(queue, "sea", "f.jpg")  # the former task has ended: a new one is inserted
    every_album = queue.insert_tasks([IndexAlbum(album=album) for album in ALBUMS])
    print([task.conflict for task in every_album], "of every album: the sea's task waits already")


if __name__ == "__main__":
    main()
