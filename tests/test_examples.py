"""Every example runs, as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "thumbnails.py": "3 tasks ran, 3 images compressed\n",
    "pages.py": "5 pages seen\n",
    "testing_tasks.py": "3 tests passed\n",
}


def test_every_example_is_tested() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, url: str) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(
        command, env={**os.environ, "FANG_DATABASE_URL": url}, capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, SAYS[name]), done.stderr
