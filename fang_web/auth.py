"""Decides who may see the page, and who may change what."""

import hashlib
import hmac
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from starlette.requests import Request
from starlette.responses import Response

from fang_core.errors import UsageError
from fang_core.failure import clean
from fang_web.errors import Forbidden, PageError, Unauthorized


class Role(StrEnum):
    """Says what a user may do; each role may do what those before it may."""

    VIEWER = "viewer"
    """Reads all pages."""
    OPERATOR = "operator"
    """Retries and cancels tasks, pauses and resumes, runs schedules now."""
    ADMIN = "admin"
    """Inserts, edits and removes tasks, sets limits, removes schedules."""

    def includes(self, other: "Role") -> bool:
        """Returns whether this role may do what the other may."""
        return _RANKS[self] >= _RANKS[other]


MOST_NAME: Final = 500
"""Bytes of the name of a user; the rest is cut off."""

_RANKS: Final = {role: rank for rank, role in enumerate(Role)}


class User(NamedTuple):
    """Names a user of the page, for the audit, and what they may do."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Returns whether the user may do what this role may."""
        return Role(self.role).includes(role)


@runtime_checkable
class Auth(Protocol):
    """Says who makes a request: a function or an object that is called with each one.

    It returns the user; None for an unknown one (the response is 401); or a response to send instead, such as a
    redirect to a login. It may be an async function. An exception is logged, and answered with 500.
    """

    def __call__(self, request: Request, /) -> "Known | Awaitable[Known]": ...


Known: TypeAlias = User | Response | None


class basic:  # noqa: N801
    """Asks for a name and a password: HTTP Basic, which needs TLS unless it is on loopback.

    Passwords are compared in constant time, and all of them each time, so that no answer's time tells which names are
    known.

    Args:
        passwords: the password of each name. Take them from the environment, not from code.
        role: the role of all names.
        roles: the roles of names that have another one.

    Raises ``UsageError`` if there is no name, a password is empty, or a name has a colon.
    """

    def __init__(
        self,
        passwords: Mapping[str, str],
        /,
        *,
        role: Role | str = Role.ADMIN,
        roles: Mapping[str, Role | str] | None = None,
    ) -> None:
        if not passwords:
            raise UsageError("basic needs at least one name with its password")
        for name, password in passwords.items():
            if not name or ":" in name:
                raise UsageError("a name of basic must not be empty, and has no colon")
            if not password:
                raise UsageError(f"the password of {name} is empty")
        unknown = sorted(set(roles or {}) - set(passwords))
        if unknown:
            raise UsageError(f"roles names {unknown[0]}, who has no password")
        given = {**dict.fromkeys(passwords, role), **(roles or {})}
        self._users = [
            (_digest(name), _digest(password), User(name, checked_role(given[name])))
            for name, password in passwords.items()
        ]

    def __call__(self, request: Request, /) -> User:
        """Returns the user. Raises ``Unauthorized``."""
        name, password = (_digest(text) for text in _sent(request))
        found: User | None = None
        for its_name, its_password, user in self._users:
            is_name = hmac.compare_digest(its_name, name)
            is_password = hmac.compare_digest(its_password, password)
            if is_name & is_password:
                found = user
        if found is None:
            raise Unauthorized(
                "say who you are: this page needs a name and a password",
                headers={"WWW-Authenticate": 'Basic realm="Fang", charset="UTF-8"'},
            )
        return found


class OpenOnLoopback:
    """Lets in every user of this machine, and no one else: for development.

    A request is refused if it came through a proxy, or if its Host is not a name of this machine: then some site's name
    was pointed at it to get at the page through a browser here.

    Args:
        role: what everybody may do.
    """

    def __init__(self, *, role: Role | str = Role.ADMIN) -> None:
        self._user = User("loopback", checked_role(role))

    def __call__(self, request: Request, /) -> User:
        """Returns the one user. Raises ``Forbidden``."""
        host = request.client.host if request.client is not None else ""
        if not is_loopback(host):
            raise Forbidden(
                "this page is open on loopback only: give create_app another auth= to reach it from elsewhere"
            )
        if any(name.startswith("x-forwarded") or name in _OF_PROXIES for name in request.headers):
            raise Forbidden("this page is open on loopback only, and this request came through a proxy")
        if not _is_name_of_loopback(request.headers.get("host", "")):
            raise Forbidden("this page is open on loopback only: write localhost or 127.0.0.1 in its address")
        return self._user


_OF_PROXIES: Final = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-envoy-external-address")
)


def checked_role(role: Role | str) -> Role:
    """Returns the role of this name. Raises ``UsageError``."""
    try:
        return Role(role)
    except ValueError:
        raise UsageError(f"a role is one of {', '.join(Role)}, not {role!r:.50}") from None


def checked_auth(auth: object) -> Auth:
    """Returns what decides who may see the page. Raises ``UsageError`` if it is missing."""
    if isinstance(auth, type) or not callable(auth):
        raise UsageError(
            "auth= decides who sees the page: give basic({'name': password}), a function of the request that returns a "
            "User, or OpenOnLoopback() for a page that only this machine reaches"
        )
    allowed: Callable[..., Known | Awaitable[Known]] = auth
    return allowed


def known_user(answer: object) -> User:
    """Returns the user that an ``auth`` named. Raises ``Unauthorized`` for None, and ``PageError`` for all else."""
    if answer is None:
        raise Unauthorized("say who you are: this page is not for everybody")
    if not isinstance(answer, User) or not isinstance(answer.name, str) or not answer.name:
        raise PageError("auth= of the page returned something else than a User: mend it")
    if answer.role not in set(Role):
        raise PageError(f"auth= of the page returned a User whose role is none of {', '.join(Role)}: mend it")
    # A name out of a header or a session may hold what no page and no audit can.
    return User(clean(answer.name, MOST_NAME), Role(answer.role))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _sent(request: Request) -> tuple[str, str]:
    """Returns the name and the password that a browser sent; two empty texts, which no user has, if it sent none."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or len(text) > 4_096:
        return "", ""
    try:
        name, _, password = b64decode(text, validate=True).decode().partition(":")
    except (NotBase64, UnicodeDecodeError, ValueError):
        return "", ""
    return name, password


def is_loopback(host: str) -> bool:
    """Returns whether this is an address of the machine itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_name_of_loopback(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or is_loopback(name)
