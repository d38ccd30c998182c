"""Turns the errors of redis-py into those of ``fang_core.errors``: each in one line that says what to do."""

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from fang_core.errors import BackendError, BackendUnavailable


def diagnosed(error: RedisError) -> BackendError:
    """Returns the typed error for one of redis-py's."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, RedisConnectionError | RedisTimeout):
        return BackendUnavailable(f"Redis cannot be reached, or did not answer: {text}")
    return BackendError(f"Redis refused, or failed: {text}")
