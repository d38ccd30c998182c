"""The end of a process, awaited as an event."""

import os
import select

from tests.patience import PATIENT


def ends(pid: int, seconds: float = PATIENT) -> bool:
    """Waits until a process, a child of ours or not, has ended; False if it still runs after that time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)
