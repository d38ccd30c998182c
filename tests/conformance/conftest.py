"""What tests of every backend share."""

from tests.backends import backend

__all__ = ["backend"]
