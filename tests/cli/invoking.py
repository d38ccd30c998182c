"""The command in this process: what it prints and how it ends, without a start of Python for each."""

from subprocess import CompletedProcess

from click.testing import CliRunner

from fang_cli.commands import fang as command


def fang(*arguments: str, **environment: str) -> CompletedProcess[str]:
    """As ``fang`` in a shell with these variables; what is no error of the command is raised."""
    env = {"FANG_DATABASE_URL": None, **environment}
    result = CliRunner().invoke(command, arguments, prog_name="fang", env=env, catch_exceptions=False)
    return CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)
