"""Words that are wrong, settings, and what the command imports before it knows what to do."""

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner, Result

from fang_cli.commands import fang
from fang_cli.settings import SETTINGS, Settings, chosen_database_url, chosen_schema, settings
from fang_core import Queueable, Runnable
from fang_core.errors import UsageError
from fang_sqlite import SqliteQueue

PASSWORD = "not-to-be-shown"


class Failing(Runnable):
    def run(self, queue: Queueable) -> None: ...


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(fang, arguments, prog_name="fang")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working directory's parent."""
    for name in SETTINGS:
        monkeypatch.delenv(f"FANG_{name.upper()}", raising=False)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("stauts", "there is no command fang stauts: did you mean status?; fang --help lists them"),
        ("xyz", "there is no command fang xyz; fang --help lists them"),
        ("queues puase x", "there is no command fang queues puase: did you mean pause?; fang queues --help lists them"),
        ("--verion", "fang has no option --verion: did you mean --version?; fang --help says more"),
        ("status --jsn", "fang status has no option --jsn: did you mean --json?; fang status --help says more"),
        ("limits set mail --max 2", "fang limits set has no option --max; fang limits set --help says more"),
        ("tasks show --app", "fang tasks show: option '--app' requires an argument; fang tasks show --help says more"),
        ("status --schema", "fang status: option '--schema' requires an argument; fang status --help says more"),
        ("--version=2", "option '--version' does not take a value; fang --help says more"),
        ("queues pause", "fang queues pause: missing argument 'TASK_TYPE'; fang queues pause --help says more"),
        ("worker", "name the pools, as in fang worker app.tasks:pool; or set pools in [tool.fang]"),
    ],
)
def test_wrong_words_are_answered_in_one_line(folder: Path, arguments: str, message: str) -> None:
    result = invoke(*arguments.split())
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"fang: {message}\n")


def test_help_tells_the_settings_and_the_exit_codes() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for told in ("[tool.fang]", "FANG_DATABASE_URL", "  78 ", "  130 "):
        assert told in result.stdout


HEAVY = {"alembic", "asyncio", "asyncpg", "fang_core", "psycopg", "pydantic", "rich", "sqlalchemy"}


@pytest.mark.parametrize(
    ("arguments", "environment", "output"),
    [
        (["--help"], {}, "Usage: fang"),
        (["stauts"], {}, ""),
        ([], {"_FANG_COMPLETE": "bash_complete", "COMP_WORDS": "fang sta", "COMP_CWORD": "1"}, "plain,status"),
    ],
    ids=["help", "wrong", "completion"],
)
def test_nothing_heavy_is_imported_before_a_command_is_known(
    arguments: list[str], environment: dict[str, str], output: str
) -> None:
    """click alone: 70 ms on a machine under load, where the libraries of all commands take half of a second."""
    code = (
        "import sys\nfrom fang_cli.__main__ import main\n"
        f"sys.argv = {['fang', *arguments]}\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\nimported', *{name.partition('.')[0] for name in sys.modules})"
    )
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.startswith(output)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "click" in imported
    assert imported & HEAVY == set()


def test_a_probe_needs_nothing_heavy() -> None:
    """An orchestrator starts it every few seconds."""
    code = (
        "import sys\nfrom fang_cli.__main__ import main\n"
        "sys.argv = ['fang', 'healthcheck', '--url', 'http://127.0.0.1:1/ready']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended, *imported = done.stdout.split()
    assert (ended, done.stderr.startswith("fang: http://127.0.0.1:1/ready does not answer")) == ("1", True)
    assert set(imported) & (HEAVY - {"fang_core"}) == set()


# Settings -------------------------------------------------------------------------------------------------------------


def test_an_option_comes_before_the_environment_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text(
        f'[tool.fang]\ndatabase_url = "postgresql://me:{PASSWORD}@file/x"\nschema = "file"\napp = ["a", "b"]\n'
    )
    (folder / "inner" / "pyproject.toml").write_text('[project]\nname = "fang of another"\n')  # without our table
    assert chosen_schema(None) == "file"
    assert chosen_database_url(None).endswith("@file/x")
    assert settings().app == ("a", "b")
    assert PASSWORD not in repr(settings())
    monkeypatch.setenv("FANG_SCHEMA", "variable")
    monkeypatch.setenv("FANG_APP", "c, d")
    monkeypatch.setenv("FANG_DATABASE_URL", "")  # no value
    assert chosen_schema(None) == "variable"
    assert settings().app == ("c", "d")
    assert chosen_database_url(None).endswith("@file/x")
    assert chosen_schema("option") == "option"
    assert chosen_database_url("postgresql://option/x") == "postgresql://option/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "databse_url = 'postgresql://u:{}@h/x'",
            "[tool.fang] has no setting 'databse_url': did you mean database_url?",
        ),
        ("zzz = '{}'", "[tool.fang] has no setting 'zzz'; there are database_url, schema, app, "),
        ("database_url = ['{}']", "database_url: must be a text"),
        ("processes = '{}'", "processes: must be a whole number, 1 or more, 1,000 at most"),
        ("max_memory = '5Z'", "max_memory: it must be a size such as 500M or 2G, not '5Z'"),
        ("mask = ['']", "mask: must have no empty word, which is in all names"),
        ("app = [", "Invalid value (at end of document)"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_without_its_value(folder: Path, text: str, message: str) -> None:
    file = folder / "pyproject.toml"
    file.write_text(f"[tool.fang]\n{text.format(PASSWORD)}\n")
    result = invoke("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fang: {file}: {message}")
    assert result.stderr.count("\n") == 1
    assert PASSWORD not in result.stderr


def test_a_variable_that_cannot_be_used_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANG_PROCESSES", "0")
    with pytest.raises(UsageError, match=r"^FANG_PROCESSES: must be a whole number, 1 or more, 1,000 at most$"):
        settings()


SAID: Final = {
    "database_url": f"postgresql://me:{PASSWORD}@host/x",
    "schema": "shop",
    "app": "shop.tasks",
    "mask": "iban",
    "pools": "shop.tasks:pool",
    "processes": "2",
    "max_tasks": "3",
    "max_memory": "500M",
    "metrics_port": "9187",
    "probe_port": "9188",
    "bind": "0.0.0.0",
    "log_level": "info",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_an_env_file_adds_to_a_variable_is_left_out_or_refused(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"FANG_{name.upper()}"
    monkeypatch.setenv(variable, SAID[name])
    clean = settings()
    assert clean != Settings()
    for around in ("{}\r", "{}\r\n", " {}\t", "\N{NO-BREAK SPACE}{}"):
        monkeypatch.setenv(variable, around.format(SAID[name]))
        assert settings() == clean
    for nothing in (" ", "\r"):
        monkeypatch.setenv(variable, nothing)
        assert settings() == Settings()
    for around, told in (
        ('"{}"', 'begins with a quotation mark, ": leave the quotes out'),
        ("'{}'\r", "begins with a quotation mark, ': leave the quotes out"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}{}", "has a character that cannot be seen, U+FEFF: leave it out"),
        ("{}\N{ZERO WIDTH SPACE}", "has a character that cannot be seen, U+200B: leave it out"),
        ("{}\r\nFANG_MORE=1", "has a character that cannot be seen, U+000D: leave it out"),
    ):
        monkeypatch.setenv(variable, around.format(SAID[name]))
        result = invoke("status")
        assert (result.exit_code, result.stderr) == (2, f"fang: {variable}: {told}\n")


def test_a_password_in_the_file_is_used_and_never_shown(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        f'[tool.fang]\ndatabase_url = "postgresql://someone:{PASSWORD}@127.0.0.1:1/nowhere"\n'
    )
    result = invoke("status")
    assert (result.exit_code, result.stdout) == (69, "")
    assert "the database does not answer" in result.stderr
    assert PASSWORD not in result.stderr


def test_pools_of_the_worker_are_a_setting(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.fang]\npools = ["no_such_module:pool"]\n')
    result = invoke("worker")
    assert result.exit_code == 2
    assert result.stderr.startswith("fang: there is no module no_such_module")


@pytest.mark.parametrize(("name", "collects"), [("status", False), ("worker", True), ("tasks", True)])
def test_garbage_is_collected_in_commands_that_last(name: str, collects: bool) -> None:
    gc.disable()  # as the start of the command does
    try:
        fang.get_command(click.Context(fang), name)
        assert gc.isenabled() is collects
    finally:
        gc.enable()


# Output ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device of a full disk is Linux's")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schedules", "--help"]])
@pytest.mark.parametrize("buffered", [True, False])
def test_an_output_that_cannot_be_written_is_one_line(arguments: list[str], buffered: bool) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *([] if buffered else ["-u"]), "-m", "fang_cli", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (1, "fang: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments", [["--help"], ["schedules", "--help"], ["status"], ["status", "--json"]])
def test_an_output_that_nobody_reads_ends_the_command_as_sigpipe_would(tmp_path: Path, arguments: list[str]) -> None:
    with SqliteQueue(tmp_path / "tasks.db") as queue:
        queue.insert_task(Failing())
    env = os.environ | {"FANG_DATABASE_URL": f"sqlite:///{tmp_path}/tasks.db"}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fang_cli", *arguments]
    with open(writing, "w") as unread:
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_the_output_cannot_hold_are_written_as_escapes(tmp_path: Path, encoding: str) -> None:
    with SqliteQueue(tmp_path / "tasks.db") as queue:
        queue.fail_task(queue.insert_task(Failing()), "no \u65e5\u672c here")
    command = [sys.executable, "-m", "fang_cli", "tasks", "list", "--database-url", f"sqlite:///{tmp_path}/tasks.db"]
    env = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "300"}
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    said = "no \u65e5\u672c here" if encoding == "utf-8" else "no \\u65e5\\u672c here"
    assert (done.returncode, done.stderr) == (0, b"")
    assert said in done.stdout.decode(encoding)
