"""How long tests wait for what is to come."""

from typing import Final

PATIENT: Final = 60.0
"""Seconds after which a test says that an event does not come. It comes at once or never: a machine that stands still
for ten seconds must not decide which."""
