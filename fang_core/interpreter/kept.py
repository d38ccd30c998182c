"""An attribute that is computed when it is first read, safe in a process that forks."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class kept(Generic[T]):  # noqa: N801 - reads like a decorator of what computes the value
    """Keeps what a method computes, as ``functools.cached_property`` does since Python 3.12.

    Before, that holds a lock while it computes, one for all instances. If another thread forks meanwhile, as a run
    may, the lock stays locked in the child, which then waits forever. Here two threads may both compute, to the same.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
