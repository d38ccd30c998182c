"""Prints the progress of a long run."""

import sys


def tell(what: str) -> None:
    """Prints a line on standard error, since results go to standard output."""
    print(what, file=sys.stderr, flush=True)
