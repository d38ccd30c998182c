"""The least rights that a role needs, as SQL that the owner of the tables runs."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from fang_core.errors import UsageError
from fang_postgres.schema import DEFAULT_SCHEMA, VERSION_TABLE, checked_schema

Purpose = Literal["web", "worker", "status"]

PRIVILEGES: Final[Mapping[Purpose, Mapping[str, Sequence[str]]]] = {
    "web": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT", "INSERT"),
        "fang_pools": ("SELECT",),  # to notify those that wait
        "fang_schedules": ("SELECT", "INSERT", "UPDATE"),
    },
    "worker": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_pools": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_schedules": ("SELECT", "INSERT", "UPDATE"),
    },
    "status": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT",),
        "fang_pools": ("SELECT",),
    },
}
"""What each may do with which table."""

_NO_ROLES: Final = frozenset({"public", "none"})
"""Names that no role can have. A grant to the first one would let everyone insert tasks, and so run code."""

_TITLES: Final[Mapping[Purpose, str]] = {
    "web": "inserts and finds tasks, such as a web application",
    "worker": "runs pools, or changes tasks by hand",
    "status": "only looks: fang status, fang migrate --check",
}


def grants(role: str, purpose: Purpose | None = None, *, schema: str = DEFAULT_SCHEMA) -> str:
    """The statements for a role that serves this purpose; None writes those of a web application and of a worker.

    Raises ``UsageError`` for a name that no role can have.
    """
    checked_schema(schema)
    if not role or "\0" in role or "\n" in role:
        raise UsageError("the role needs a name, of one line")
    if role in _NO_ROLES:
        raise UsageError(f"{role} is the name of no role: Postgres reads it as a word of its own, in quotes as well")
    purposes: tuple[Purpose, ...] = ("web", "worker") if purpose is None else (purpose,)
    return "\n".join(_for_purpose(_quoted(role), each, schema) for each in purposes)


def purposes() -> tuple[str, ...]:
    """For which a role can be given its rights."""
    return get_args(Purpose)


def _for_purpose(role: str, purpose: Purpose, schema: str) -> str:
    lines = [f"-- for a role that {_TITLES[purpose]} (--for {purpose})", f'GRANT USAGE ON SCHEMA "{schema}" TO {role};']
    for table, privileges in PRIVILEGES[purpose].items():
        lines.append(f'GRANT {", ".join(privileges)} ON "{schema}".{table} TO {role};')
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
