"""Makes groups of commands: a wrong word gets a suggestion, an error becomes one line on stderr and an exit code.

This module imports nothing but click, and what an error needs when there is one: see ``commands.py``.
"""

import gc
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem

from fang_cli.ending import end_in_peace
from fang_cli.exit_codes import INTERRUPTED, UNREAD, WRONG_USAGE, exit_code
from fang_cli.supervisor.report import mark

_ALIKE: Final = 0.6
"""How alike two words are, from 0 to 1, if one may be meant by the other."""


class _OneLine(click.ClickException):
    """An error that is printed as one line."""

    def show(self, file: Any = None) -> None:
        click.echo(f"{mark()}fang: {self.message}", file=file, err=True)


def _end_unread() -> NoReturn:
    """Ends the command if its output is no longer read."""
    sys.stdout = None  # what is left of the output would fail again, with a traceback
    sys.exit(UNREAD)


class WrongCommandLine(_OneLine):
    """A command line that cannot be understood."""

    exit_code = WRONG_USAGE


class Group(click.Group):
    """A group whose commands may be wrong words, and raise errors of Fang."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            _end_unread()
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _in_one_line(error, info_name or "fang") from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _end_unread()
        except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError, _OneLine):
            raise
        except click.UsageError as error:
            raise _in_one_line(error, f"{ctx.command_path} {ctx.invoked_subcommand}") from None
        except KeyboardInterrupt:
            end_in_peace()
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            from fang_core.errors import FangError

            if not isinstance(error, FangError):
                raise
            click.echo(f"{mark()}fang: {' '.join(str(error).split())}", err=True)
            ctx.exit(exit_code(error))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and name not in self.list_commands(ctx):
            meant = did_you_mean(name, self.list_commands(ctx))
            raise WrongCommandLine(
                f"there is no command {ctx.command_path} {name}{meant}; {ctx.command_path} --help lists them"
            )
        return super().resolve_command(ctx, args)


class Later(NamedTuple):
    """A command that is imported when it is asked for.

    Attributes:
        place: where it is defined, as ``module:attribute``.
        summary: what it does, in the first line of its help.
        is_brief: whether it ends soon, so that no garbage of it needs to be collected.
    """

    place: str
    summary: str
    is_brief: bool = False


class LazyGroup(Group):
    """A group that imports the module of a command when that command is asked for, and for none of its own help."""

    def __init__(self, *args: Any, later: Mapping[str, Later], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.later)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.later:
            return None
        module, _, attribute = self.later[cmd_name].place.partition(":")
        if not self.later[cmd_name].is_brief:
            gc.enable()
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("fang_"):
                raise
            raise missing(error) from None
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=later.summary)
            for name, later in self.later.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, later.summary) for name, later in self.later.items()])


def missing(error: ModuleNotFoundError) -> _OneLine:
    """Returns what to say if a library of the command is not installed."""
    return _OneLine(f"{error.name} is missing: pip install 'fang-tasks[cli]'")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns a text that says which of the known words was probably meant; an empty one if none is like it."""
    spelled = {name.lstrip("-"): name for name in known}  # the dashes that all options share would make any two alike
    near = get_close_matches(word.lstrip("-"), spelled, n=1, cutoff=_ALIKE)
    return f": did you mean {spelled[near[0]]}?" if near else ""


def _in_one_line(error: click.UsageError, command: str) -> WrongCommandLine:
    """Returns an error as one line; ``command`` is whose it is, if click does not say: of an option without a value."""
    path = command if error.ctx is None else error.ctx.command_path
    if isinstance(error, click.NoSuchOption):
        known = () if error.ctx is None else _options_of(error.ctx.command)
        text = f"{path} has no option {error.option_name}{did_you_mean(error.option_name, known)}"
    else:
        text = " ".join(error.format_message().split()).removesuffix(".")
        text = f"{'' if path == 'fang' else f'{path}: '}{text[:1].lower()}{text[1:]}"
    return WrongCommandLine(f"{text}; {path} --help says more")


def _options_of(command: click.Command) -> list[str]:
    return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)] + ["--help"]
