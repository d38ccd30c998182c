"""Writes the SQL that gives a role the least rights that it needs; the owner of the tables runs it."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from fang_core.errors import UsageError
from fang_postgres.names import DEFAULT_SCHEMA, VERSION_TABLE, checked_schema

Purpose = Literal["web", "worker", "status", "page", "scaling"]

PRIVILEGES: Final[Mapping[Purpose, Mapping[str, Sequence[str]]]] = {
    "web": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT", "INSERT"),
        "fang_pools": ("SELECT",),  # to notify waiting pools
        "fang_schedules": ("SELECT", "INSERT", "UPDATE"),
        "fang_types": ("SELECT",),  # which types are managed, so that their rows have a lane
        "fang_uniques": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_live": ("SELECT",),  # for pools()
    },
    "worker": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_pools": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_schedules": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_messages": ("SELECT", "INSERT", "DELETE"),
        "fang_types": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_turns": ("SELECT", "INSERT", "UPDATE"),
        "fang_lanes": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_uniques": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_stats": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_live": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_scaling": ("SELECT",),
    },
    "status": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT",),
        "fang_pools": ("SELECT",),
        "fang_schedules": ("SELECT",),
        "fang_types": ("SELECT",),
        "fang_turns": ("SELECT",),
        "fang_lanes": ("SELECT",),
        "fang_stats": ("SELECT",),
        "fang_live": ("SELECT",),
        "fang_scaling": ("SELECT",),
    },
    "page": {
        VERSION_TABLE: ("SELECT",),
        "fang_tasks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_pools": ("SELECT",),
        "fang_schedules": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_messages": ("SELECT", "INSERT"),  # to control pools
        "fang_types": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_turns": ("SELECT", "INSERT"),
        "fang_lanes": ("SELECT",),
        "fang_uniques": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "fang_stats": ("SELECT",),
        "fang_live": ("SELECT",),
        "fang_scaling": ("SELECT",),
        "fang_audit": ("SELECT", "INSERT", "UPDATE"),
    },
    "scaling": {
        "fang_scaling": ("SELECT",),  # which shows no payload: the view reads the tables with its owner's rights
    },
}
"""The privileges of each purpose on each table and view."""

FUNCTIONS: Final[Mapping[Purpose, Sequence[str]]] = {
    "web": (),
    "worker": (
        "fang_running_1(text, text)",
        "fang_running_each_1(text, text[])",
        "fang_tat_1(text)",
        "fang_lane_tat_1(text, text)",
    ),
    "status": (),
    "page": (),
    "scaling": (),
}
"""The functions that each purpose calls."""

_NO_ROLES: Final = frozenset({"public", "none"})
"""Names that no role can have. A grant to ``public`` would let every role insert tasks, and so run code."""

_TITLES: Final[Mapping[Purpose, str]] = {
    "web": "inserts and finds tasks, such as a web application",
    "worker": "runs pools, or changes tasks by hand",
    "status": "only looks: fang status, fang why, fang pools, fang migrate --check",
    "page": "shows and changes tasks on the page, and runs none: fang web",
    "scaling": "only learns how many workers are needed, as an autoscaler does",
}


def grants(role: str, purpose: Purpose | None = None, *, schema: str = DEFAULT_SCHEMA) -> str:
    """Returns the statements for a role with this purpose; None means both a web application's and a worker's.

    Raises ``UsageError`` for a name that no role can have.
    """
    checked_schema(schema)
    if not role or "\0" in role or "\n" in role:
        raise UsageError("the role needs a name, of one line")
    if role in _NO_ROLES:
        raise UsageError(f"no role can have the name {role}: Postgres reserves it, even in quotes")
    purposes: tuple[Purpose, ...] = ("web", "worker") if purpose is None else (purpose,)
    return "\n".join(_for_purpose(_quoted(role), each, schema) for each in purposes)


def purposes() -> tuple[str, ...]:
    """Returns the purposes for which a role can be given rights."""
    return get_args(Purpose)


def _for_purpose(role: str, purpose: Purpose, schema: str) -> str:
    lines = [f"-- for a role that {_TITLES[purpose]} (--for {purpose})", f'GRANT USAGE ON SCHEMA "{schema}" TO {role};']
    for table, privileges in PRIVILEGES[purpose].items():
        lines.append(f'GRANT {", ".join(privileges)} ON "{schema}".{table} TO {role};')
    lines += [f'GRANT EXECUTE ON FUNCTION "{schema}".{function} TO {role};' for function in FUNCTIONS[purpose]]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
