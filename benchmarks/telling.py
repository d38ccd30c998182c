"""What a long run is at."""

import sys


def tell(what: str) -> None:
    """A line on standard error: results go to standard output."""
    print(what, file=sys.stderr, flush=True)
