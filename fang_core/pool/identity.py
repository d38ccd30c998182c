"""Keeps the id under which a pool holds its tasks."""

from uuid import UUID, uuid4


class PoolIdentity:
    """Changes when other pools have declared this one dead: the fence then refuses what it held under the former id.

    Attributes:
        id: the id under which the pool claims and writes now.
        dead_id: the id under which it was last declared dead.
    """

    def __init__(self, pool_id: UUID | None = None) -> None:
        self.id = pool_id or uuid4()
        self.dead_id: UUID | None = None

    @property
    def is_dead(self) -> bool:
        """Returns whether the pool has to register under another id before it claims again."""
        return self.dead_id == self.id
