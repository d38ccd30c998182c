"""Says what Postgres can do beyond what every backend must do."""

from fang_core.backends.capabilities import Capabilities


def capabilities(keeps_session: bool) -> Capabilities:
    """Returns a queue's capabilities. Behind a pooler no connection keeps its session, so it cannot listen or lock."""
    return Capabilities(
        transactions=True,
        concurrent_writers=True,
        outlives_processes=True,
        shows_deaths=keeps_session,
        wakes=keeps_session,
    )
