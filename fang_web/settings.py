"""Holds what ``create_app`` was given."""

from collections.abc import Collection
from dataclasses import dataclass

from fang_core.errors import UsageError
from fang_core.masking.masks import DEFAULT_MASKED
from fang_web.auth import Auth, checked_auth
from fang_web.security import checked_origin

__all__ = ("DEFAULT_MASKED", "Settings", "checked_settings")


@dataclass(frozen=True, slots=True)
class Settings:
    """Holds the checked arguments of ``create_app``.

    Attributes:
        auth: says who makes a request.
        read_only: whether no user can change anything.
        masked: what is part of the names of fields that are never shown, in lower case.
        origin: the page's own origin, as browsers see it; None if it is that of the Host header.
    """

    auth: Auth
    read_only: bool
    masked: frozenset[str]
    origin: str | None


def checked_settings(auth: object, *, read_only: bool, masked: Collection[str], origin: str | None) -> Settings:
    """Returns the settings. Raises ``UsageError``."""
    # An iterator would be used up by the check, and nothing would be masked.
    is_several = isinstance(masked, Collection) and not isinstance(masked, str)
    if not is_several or not all(isinstance(name, str) and name for name in masked):
        raise UsageError("masked= takes several names of fields, such as ('iban', 'password')")
    if not isinstance(read_only, bool):
        raise UsageError("read_only= is True or False")
    return Settings(checked_auth(auth), read_only, frozenset(name.lower() for name in masked), checked_origin(origin))
