"""docs/commands.md is made from the help of the command: ``UPDATE_GOLDEN=1`` writes it anew."""

import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from fang_cli.commands import fang
from fang_cli.exit_codes import MEANINGS
from fang_cli.options import DATABASE
from fang_cli.settings import SETTINGS as TOLD

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"

HEAD = """# The command `fang`

<!-- Made from the command's help by tests/documents/test_commands.py: UPDATE_GOLDEN=1 writes it again. -->

`pip install 'fang-tasks[cli]'` brings it. Every command has `--help`. For a misspelt word it
suggests the most similar one. An error is one line on stderr that begins with `fang:`, and an [exit code](#exit-codes).

`eval "$(_FANG_COMPLETE=bash_source fang)"` makes bash complete its words; there are `zsh_source` and `fish_source` too.

All commands that use a database take these options too:

| option | |
|---|---|
"""
JSON = """
Commands that read take `--json` and print one document: its keys do not change, though new ones may be added; times are
in ISO 8601, spans in seconds.
"""


def _declared(options: Sequence[Callable[[Any], Any]]) -> list[click.Option]:
    """The options that these decorators add to a command."""
    command = click.Command("any", callback=lambda: None)
    for each in options:
        each(command)
    return [each for each in command.params if isinstance(each, click.Option)]


SETTINGS = """## Settings

If an option is not given, its value comes from an environment variable, or else from `[tool.fang]` in the nearest
`pyproject.toml` that has such a table, from the working directory upwards:

```toml
[tool.fang]
database_url = "postgresql://localhost/app"
app = ["app.tasks"]
pools = ["app.tasks:pool"]
```

An empty variable counts as unset, and white space around a value does not count. An unknown key is an error that names
it. The URL may have a password, which no output shows; do not put it into a file that other users can read.

A command that imports your modules sets `FANG_DATABASE_URL` for them to the database of `--database-url` or of the
file, unless the environment has that variable already; so `Queue(os.environ["FANG_DATABASE_URL"])` in a module is
enough. `fang dev` always sets it, to its own database.

| in pyproject.toml | variable | |
|---|---|---|
"""

EVERYWHERE = _declared(DATABASE)
COMMON = {option.name for option in EVERYWHERE}
BAR = r"\|"


def test_the_page_is_what_the_help_says() -> None:
    made = page()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(made, "utf-8")
    assert PAGE.read_text("utf-8") == made, "UPDATE_GOLDEN=1 writes the page anew"


@pytest.mark.parametrize("name", fang.later)
def test_the_list_of_commands_says_what_their_own_help_says(name: str) -> None:
    command = fang.get_command(click.Context(fang), name)
    assert command is not None
    assert command.name == name
    assert fang.later[name].summary == (command.help or "").split("\n\n")[0].replace("\n", " ")


def page() -> str:
    """The whole page."""
    parts = [HEAD + "\n".join(map(_row, EVERYWHERE)) + "\n" + JSON]
    root = click.Context(fang, info_name="fang")
    for name in fang.list_commands(root):
        command = fang.get_command(root, name)
        assert command is not None
        parts += _sections(command, root, name)
    parts.append(SETTINGS + "\n".join(_settings()) + "\n")
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    parts.append(f"## Exit codes\n\n| code | |\n|---|---|\n{codes}\n")
    return "\n".join(parts)


def _sections(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    ctx = click.Context(command, info_name=name, parent=parent)
    depth = "##" if parent.parent is None else "###"
    text = _escaped(re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or "")))
    yield f"{depth} {ctx.command_path}\n"
    if not isinstance(command, click.Group):
        yield f"    {ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}\n"
    yield f"{text}\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(ctx):
            inner = command.get_command(ctx, each)
            assert inner is not None
            yield from _sections(inner, ctx, each)
        return
    options = [each for each in command.params if isinstance(each, click.Option) and each.name not in COMMON]
    if options:
        yield "| option | |\n|---|---|\n" + "\n".join(map(_row, options)) + "\n"


def _row(option: click.Option) -> str:
    record = option.get_help_record(click.Context(click.Command("fang")))
    assert record is not None
    name, told = record
    return f"| `{name.replace('|', BAR)}` | {_escaped(told)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([|<\[*])", r"\\\1", text.replace("\b\n", ""))


def _settings() -> Iterator[str]:
    for name, told in TOLD.items():
        yield f"| `{name}` | `FANG_{name.upper()}` | {told} |"
