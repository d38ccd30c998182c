"""Backends with one defect each, around whole ones: the suite must tell each of them from a backend.

``base`` has what a defect is made of; each other module has those of one area.
"""

from collections.abc import Iterable

from tests.conformance.broken import (
    audit,
    cancelling,
    claims,
    completions,
    control,
    flow,
    history,
    inserts,
    leases,
    listing,
    managing,
    monitoring,
    outlook,
    stored_schedules,
    ticks,
)
from tests.conformance.broken.base import Broken

AREAS = (
    audit,
    cancelling,
    claims,
    completions,
    control,
    flow,
    history,
    inserts,
    leases,
    listing,
    managing,
    monitoring,
    outlook,
    stored_schedules,
    ticks,
)


def defects(of: type[Broken] = Broken) -> Iterable[type[Broken]]:
    """Returns all of them."""
    for cls in of.__subclasses__():
        if hasattr(cls, "caught_by") and cls is not outlook.PrunesOtherwise:
            yield cls
        yield from defects(cls)
