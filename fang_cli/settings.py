"""Reads the command's settings from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from fang_core.errors import UsageError


class Settings(BaseSettings):
    """Variables that begin with ``FANG_``; an empty one counts as missing."""

    model_config = SettingsConfigDict(env_prefix="FANG_", env_ignore_empty=True)

    database_url: SecretStr | None = None


def chosen_database_url(option: str | None) -> str:
    """Returns the option, or else FANG_DATABASE_URL. Raises ``UsageError`` if neither is given."""
    if option:
        return option
    found = Settings().database_url
    if found is None:
        raise UsageError("no database: give --database-url, or set FANG_DATABASE_URL")
    return found.get_secret_value()
