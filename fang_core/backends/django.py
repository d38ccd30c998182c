"""Knows a connection of Django's when it sees one, without an import of Django."""

import sys
from typing import Any, Protocol


class DjangoConnection(Protocol):
    """``django.db.connection`` with stubs, or ``connections["name"]``."""

    vendor: str
    in_atomic_block: bool

    def ensure_connection(self) -> None:
        """Connects, if it is not connected."""
        ...


def is_django(connection: Any) -> bool:
    """Returns whether it is a connection of Django's."""
    # django.db.connection is a proxy whose class does not show it.
    needed = ("vendor", "ensure_connection", "in_atomic_block", "get_autocommit")
    return "django.db" in sys.modules and all(hasattr(connection, name) for name in needed)
