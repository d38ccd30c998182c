"""Reads libpq's service file; a service stands for parameters of a database URL."""

from collections.abc import Callable, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from fang_core.errors import UsageError
from fang_postgres.urls.parameters import refuse_unknown


def of_service(name: str, environ: Mapping[str, str], read_text: Callable[[Path], str]) -> dict[str, str]:
    """Returns the parameters of a service from the service file. Raises ``UsageError``."""
    places = [Path(environ["PGSERVICEFILE"])] if environ.get("PGSERVICEFILE") else [Path.home() / ".pg_service.conf"]
    if environ.get("PGSYSCONFDIR"):
        places.append(Path(environ["PGSYSCONFDIR"]) / "pg_service.conf")
    for place in places:
        services = ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None, strict=False)
        try:
            services.read_string(read_text(place))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, ConfigError):
            raise UsageError(f"the service file {place} cannot be read") from None
        if services.has_section(name):
            said = {key: value for key, value in services.items(name) if value}
            refuse_unknown(said)
            return said
    raise UsageError(f"service {name!a:.40} is in none of {', '.join(map(str, places))}")
