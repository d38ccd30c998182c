"""Runs pytest on tests that a test has written."""

import os
import subprocess
import sys
from pathlib import Path

from tests.forking import ROOT
from tests.patience import PATIENT


def run(directory: Path, *arguments: str) -> str:
    """What pytest says of the tests of this directory, with no plugins but those of the arguments."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("CI", None)  # where pytest tells each failure twice
    (directory / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        check=False,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENT,
    )
    return done.stdout
