"""Makes our own connections, in both modes: from a URL, with a password that may be fetched for each of them."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fang_postgres.urls.address import Address
from fang_postgres.urls.passwords import FETCHED_WITHIN, check_password

P = TypeVar("P", bound=Callable[[], Any])


class BaseConnector(Generic[P]):
    """Makes a connection when it is called.

    Args:
        password: returns the password for each connect; None means the password of the URL.
        schema: the schema name, for errors.
        keeps_session: whether a connection keeps its server session.
        spare: seconds beyond the time that the hosts have to answer.
    """

    def __init__(
        self,
        address: Address,
        password: P | None,
        schema: str,
        *,
        keeps_session: bool,
        may_be_async: bool,
        spare: float = 0.0,
    ) -> None:
        check_password(password, address, may_be_async=may_be_async)
        self._address = address
        self._password = password
        self._schema = schema
        self._keeps_session = keeps_session
        self._spare = spare

    @property
    def connects_within(self) -> float:
        """Returns the seconds within which a connect has ended, if the password is fetched in time."""
        return self._spare + self._address.connects_within + (FETCHED_WITHIN if self._password else 0)
