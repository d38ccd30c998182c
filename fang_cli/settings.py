"""Reads the command's settings: what no option says, from the environment or from pyproject.toml.

An option comes before the environment, that before the file. The file is the nearest pyproject.toml upwards from the
working directory that has a table ``[tool.fang]``. Errors name a setting, and never its value: a URL may have a
password.
"""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from unicodedata import category

from fang_backends.urls import FORMS, Engine, engine_of
from fang_cli.arguments import size_of
from fang_core.errors import UsageError

_PREFIX: Final = "FANG_"
_FILE: Final = "pyproject.toml"

URL_VARIABLE: Final = "FANG_DATABASE_URL"
"""Names the database to the command, and to the application that it imports."""

# What a value may be: each returns it, or raises ``UsageError`` that says what it must be, and never repeats it.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError("must be a text")
    return value


def _names(value: object) -> tuple[str, ...]:
    """Returns the names in a list, or in a text with commas."""
    names = [name for each in value.split(",") if (name := each.strip())] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("must be a list of texts, or a text with commas")
    return tuple(names)


def _words(value: object) -> tuple[str, ...]:
    words = _names(value)
    if not all(words):
        raise UsageError("must have no empty word, which is in all names")
    return words


def _size(value: object) -> int:
    return size_of("it", value) if isinstance(value, str) else _at_least_one(value)


def _level(value: object) -> str:
    level = value.lower() if isinstance(value, str) else ""
    if level not in _LEVELS:
        raise UsageError(f"must be one of {', '.join(_LEVELS)}")
    return level


_LEVELS: Final = ("debug", "info", "warning", "error")


def _port(value: object) -> int | None:
    """Returns the value, but None for what Kubernetes puts there if a service is named like the variable."""
    return None if isinstance(value, str) and value.startswith("tcp://") else _between(0, 65_535)(value)


def _between(least: int, most: int | None = None) -> Callable[[object], int]:
    def number(value: object) -> int:
        if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
            value = int(value)
        if type(value) is not int or value < least or (most is not None and value > most):
            raise UsageError(f"must be a whole number, {least} or more{'' if most is None else f', {most:,} at most'}")
        return value

    return number


_at_least_one: Final = _between(1)


def _setting(default: Any, read: Callable[[object], object], told: str) -> Any:
    return field(default=default, metadata={"read": read, "told": told})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings. In the environment each has its name in capitals after ``FANG_``. White space around a value does
    not count; an empty variable is no value.

    Not a class of pydantic-settings: with pydantic, that takes as long to import as all else that most commands need.
    """

    database_url: str | None = field(
        default=None, repr=False, metadata={"read": _text, "told": f"The database: {FORMS}."}
    )
    schema: str = _setting("fang", _text, "The Postgres schema of the tables, or the queue's name on Redis.")
    app: tuple[str, ...] = _setting(
        (), _names, "The modules that define the task classes, for `fang insert` and its like."
    )
    mask: tuple[str, ...] = _setting(
        (),
        _words,
        "Neither the commands nor `fang web` show payload fields with one of these in their names: `iban`.",
    )
    pools: tuple[str, ...] = _setting((), _names, "What `fang worker` runs if no pool is named: `app.tasks:pool`.")
    processes: int | None = _setting(None, _between(1, 1_000), "Of `fang worker`.")
    max_tasks: int | None = _setting(None, _at_least_one, "Of `fang worker`.")
    max_memory: int | None = _setting(None, _size, "Of `fang worker`: `500M`, say.")
    metrics_port: int | None = _setting(None, _port, "Of `fang worker`.")
    probe_port: int | None = _setting(None, _port, "Of `fang worker`; `fang healthcheck` asks there.")
    bind: str | None = _setting(None, _text, "Of `fang worker`: the address of these ports.")
    log_level: str | None = _setting(None, _level, "Of `fang worker`.")


SETTINGS: Final[Mapping[str, str]] = {each.name: each.metadata["told"] for each in fields(Settings)}
"""What each setting says, by name."""


def settings() -> Settings:
    """Returns the settings as they are now. Raises ``UsageError`` that names the setting that cannot be used."""
    file, table = _table()
    for key in table:
        if key not in SETTINGS:
            near = get_close_matches(key, SETTINGS, n=1)
            meant = f": did you mean {near[0]}?" if near else f"; there are {', '.join(SETTINGS)}"
            raise UsageError(f"{file}: [tool.fang] has no setting {key!r:.60}{meant}")
    found = {}
    for each in fields(Settings):
        variable = f"{_PREFIX}{each.name.upper()}"
        said = os.environ.get(variable, "").strip()  # an .env file of Windows leaves a carriage return
        if not said and each.name not in table:
            continue
        try:
            found[each.name] = each.metadata["read"](_clean(said) if said else table[each.name])
        except UsageError as error:
            raise UsageError(f"{variable if said else f'{file}: {each.name}'}: {error}") from None
    return Settings(**found)


def _clean(said: str) -> str:
    """Returns what a variable says. Raises ``UsageError`` for a character that no setting begins with or has: quotes,
    which ``docker --env-file`` does not take away, and what was pasted and cannot be seen."""
    if said[0] in "\"'":
        raise UsageError(f"begins with a quotation mark, {said[0]}: leave the quotes out")
    for character in said:
        if character in _INVISIBLE or category(character) == "Cc":
            raise UsageError(f"has a character that cannot be seen, U+{ord(character):04X}: leave it out")
    return said


_INVISIBLE: Final = "\N{ZERO WIDTH SPACE}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}"
"""What is never part of a word; a zero-width joiner is, in some languages."""


def working_directory() -> Path:
    """Returns the working directory. Raises ``UsageError`` if it is gone, as a deploy may remove an old release."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory has been removed: change into one that is there") from None


def _table() -> tuple[Path, dict[str, Any]]:
    """Returns the nearest file that has settings, and these; an empty dict if there is none."""
    try:
        here = working_directory()
    except UsageError:  # which commands that only look at the database can do without
        return Path(_FILE), {}
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
            table = _table_in(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{file}: {error}") from None
        if isinstance(table, dict):
            return file, table
    return here / _FILE, {}


@lru_cache(maxsize=4)
def _table_in(text: str) -> Any:
    """Returns the table of a file, or what else has its name; a command reads its settings several times."""
    return tomllib.loads(text).get("tool", {}).get("fang")


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
    return settings().database_url


def chosen_database(option: str | None, *, needs_tables: bool = True) -> str:
    """Returns the same, for an existing database only: a queue would create a missing SQLite file, and its tables.

    Raises ``UsageError``, or ``SchemaError`` if a file has no tables and ``needs_tables``.
    """
    url = chosen_database_url(option)
    if engine_of(url) is Engine.SQLITE:
        from fang_sqlite.reading.health import check_there

        check_there(url, needs_tables=needs_tables)
    return url


def chosen_schema(option: str | None) -> str:
    """Returns the option, or else the setting."""
    return option or settings().schema


def chosen_masks(option: Sequence[str] = ()) -> frozenset[str]:
    """Returns the words that hide the fields in whose names they are: the usual ones, the setting's and the option's.

    So none of them shows what another one hides. Raises ``UsageError`` of an empty word, which is in all names.
    """
    from fang_core.masking.masks import DEFAULT_MASKED

    if not all(option):
        raise UsageError("--mask takes a part of a field's name, as in --mask iban")
    return frozenset(DEFAULT_MASKED).union(settings().mask, option)
