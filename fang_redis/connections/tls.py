"""Looks at the settings of TLS before redis-py uses them, and tells its errors from those of an outage."""

import os
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fang_core.errors import AccessRefused, UsageError

PARAMETERS: Final = frozenset(
    {
        *("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
        *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
    }
)
"""What a URL may say of TLS: what both modes of redis-py take, and do as it is written there."""

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_CHECK: Final = (
    "check ssl_ca_certs, ssl_certfile, ssl_keyfile and ssl_password of the URL, and ssl_ciphers and ssl_min_version if"
    " it has them"
)
_HANGS_UP: Final = "if it wants a certificate of its clients, set ssl_certfile and ssl_keyfile of the URL"


def refuse_settings(settings: Mapping[str, Any]) -> None:
    """Raises ``UsageError`` for settings with which no connection can be made."""
    if settings.get("ssl_keyfile") and not settings.get("ssl_certfile"):
        raise UsageError("ssl_keyfile needs ssl_certfile, the certificate of the key")
    least = settings.get("ssl_min_version")
    if least is not None and least not in list(ssl.TLSVersion):
        raise UsageError("ssl_min_version is 771 for TLS 1.2, 772 for TLS 1.3")


def refuse_files(settings: Mapping[str, Any]) -> None:
    """Raises ``AccessRefused`` for a file that is missing or cannot be read: the error of OpenSSL names none.

    Call it before each connect: the files of a container's secrets come and go.
    """
    for name in _FILES:
        path = settings.get(name)
        if path and not os.access(path, os.R_OK):
            raise AccessRefused(f"{name} names what cannot be read: {path}")


def advice_on(error: BaseException) -> str | None:
    """Returns what to do if one side has refused the other's certificate, or the settings cannot be used; else None."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return _CHECK
    return None


def advice_after_handshake(error: BaseException) -> str | None:
    """Returns what to do if the server may have closed the connection for want of a certificate; else None.

    A TLS 1.3 client has done its part of the handshake then, and the server's reason may be lost with the connection.
    """
    ends = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)
    return _HANGS_UP if any(isinstance(cause, ends) for cause in _causes(error)) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
