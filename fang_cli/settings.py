"""Reads the command's settings: what no option says, from the environment or from pyproject.toml.

An option comes before the environment, that before the file. The file is the nearest pyproject.toml upwards from the
working directory that has a table ``[tool.fang]``. Errors name a setting, and never its value: a URL may have a
password.
"""

import os
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from fang_backends.urls import FORMS, Engine, engine_of
from fang_cli.arguments import size_of
from fang_core.errors import UsageError

_PREFIX: Final = "fang_"
_FILE: Final = "pyproject.toml"

URL_VARIABLE: Final = "FANG_DATABASE_URL"
"""Names the database to the command, and to the application that it imports."""


def _names(value: object) -> object:
    """Returns the names in a list, or in a text with commas."""
    return [name for each in value.split(",") if (name := each.strip())] if isinstance(value, str) else value


def _size(value: object) -> object:
    return size_of("it", value) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _port(value: object) -> object:
    """Returns the value, but None for what Kubernetes puts there if a service is named like the variable."""
    return None if isinstance(value, str) and value.startswith("tcp://") else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]

Masks = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], NoDecode, BeforeValidator(_names)]

Port = Annotated[Annotated[int, Field(ge=0, le=65_535)] | None, BeforeValidator(_port)]


class Settings(BaseSettings):
    """The settings. In the environment each has its name in capitals after ``FANG_``; an empty variable is no value."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="forbid", alias_generator=lambda name: _PREFIX + name.removesuffix("_")
    )

    database_url: SecretStr | None = Field(None, description=f"The database: {FORMS}.")
    schema_: str = Field("fang", description="The Postgres schema of the tables, or the queue's name on Redis.")
    app: Names = Field((), description="The modules that define the task classes, for `fang insert` and its like.")
    mask: Masks = Field(
        (),
        description="No command, nor `fang web`, shows fields of payloads with one of these in their names: `iban`.",
    )
    pools: Names = Field((), description="What `fang worker` runs if it is told of no pool: `app.tasks:pool`.")
    processes: Annotated[int, Field(ge=1, le=1_000)] | None = Field(None, description="Of `fang worker`.")
    max_tasks: Annotated[int, Field(ge=1)] | None = Field(None, description="Of `fang worker`.")
    max_memory: Annotated[int, BeforeValidator(_size), Field(ge=1)] | None = Field(
        None, description="Of `fang worker`: `500M`, say."
    )
    metrics_port: Port = Field(None, description="Of `fang worker`.")
    probe_port: Port = Field(None, description="Of `fang worker`; `fang healthcheck` asks there.")
    bind: str | None = Field(None, description="Of `fang worker`: the address of these ports.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] | None = Field(
        None, description="Of `fang worker`."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # What is given when it is made is the file's, so it comes last.
        return env_settings, init_settings


def settings() -> Settings:
    """Returns the settings as they are now. Raises ``UsageError`` that names the setting that cannot be used."""
    file, table = _table()
    known = [name.removesuffix("_") for name in Settings.model_fields]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            meant = f": did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise UsageError(f"{file}: [tool.fang] has no setting {key!r:.60}{meant}")
    try:
        return Settings(**{f"{_PREFIX}{key}": value for key, value in table.items()})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        variable = str(first["loc"][0]).upper()
        place = variable if os.environ.get(variable) else f"{file}: {variable.removeprefix(_PREFIX.upper()).lower()}"
        raise UsageError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


def _table() -> tuple[Path, dict[str, Any]]:
    """Returns the nearest file that has settings, and these; an empty dict if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / _FILE
        try:
            text = file.read_text("utf-8")
        except OSError:  # it is not there, or not for us
            continue
        except UnicodeDecodeError:
            raise UsageError(f"{file} is not in UTF-8") from None
        if "fang" not in text:
            continue
        try:
            table = tomllib.loads(text).get("tool", {}).get("fang")
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{file}: {error}") from None
        if isinstance(table, dict):
            return file, table
    return here / _FILE, {}


def chosen_database_url(option: str | None) -> str:
    """Returns the option, or else the setting. Raises ``UsageError`` if neither is given."""
    found = named_database_url(option)
    if found is None:
        told = f"give --database-url, or set {URL_VARIABLE}, or database_url in [tool.fang] of pyproject.toml"
        raise UsageError(f"no database: {told}")
    return found


def named_database_url(option: str | None) -> str | None:
    """Returns the option, or else the setting; None if neither is given."""
    if option:
        return option
    found = settings().database_url
    return None if found is None else found.get_secret_value()


def chosen_database(option: str | None, *, needs_tables: bool = True) -> str:
    """Returns the same, of a database that is there: a queue would make a SQLite file that is not, and its tables.

    Raises ``UsageError``, or ``SchemaError`` if a file has no tables and ``needs_tables``.
    """
    url = chosen_database_url(option)
    if engine_of(url) is Engine.SQLITE:
        from fang_sqlite.reading.health import check_there

        check_there(url, needs_tables=needs_tables)
    return url


def chosen_schema(option: str | None) -> str:
    """Returns the option, or else the setting."""
    return option or settings().schema_


def chosen_masks(option: Sequence[str] = ()) -> frozenset[str]:
    """Returns the words that hide the fields in whose names they are: the usual ones, the setting's and the option's.

    So none of them shows what another one hides. Raises ``UsageError`` of an empty word, which is in all names.
    """
    from fang_core.masking.masks import DEFAULT_MASKED

    if not all(option):
        raise UsageError("--mask takes a part of a field's name, as in --mask iban")
    return frozenset(DEFAULT_MASKED).union(settings().mask, option)
