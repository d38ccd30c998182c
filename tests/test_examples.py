"""Every example runs, as a user would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.patience import PATIENT

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "thumbnails.py": "3 tasks ran, 3 images compressed\n",
    "pages.py": "5 pages seen\n",
    "testing_tasks.py": "3 tests passed\n",
    "one_file.py": "an order has to name something\n2 orders, 2 receipts\n",
    "transactions.py": "2 orders, 2 receipts sent\n",
    "unique.py": (
        "3 tasks for 5 uploads, 5 images indexed\n[True, False, False] of every album: the sea's task waits already\n"
    ),
    "schedules.py": ("28.03. 01:30 29.03. 01:00 30.03. 00:30 UTC\nTea is ready, Clocks go forward tonight\n"),
}


def test_every_example_is_tested() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, url: str) -> None:
    program = f"""
import runpy, warnings
warnings.simplefilter("error")
runpy.run_path({str(EXAMPLES / name)!r}, run_name="__main__")
"""
    done = forking.run("-c", program, env={**os.environ, "FANG_DATABASE_URL": url})
    assert (done.returncode, done.stdout) == (0, SAYS[name]), done.stderr


def test_the_feed_reader(url: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.feed_reader", "--feeds", "50", "--database-url", url]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False, timeout=PATIENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "50 of 50 feeds synced 2 times or more; 0 differ from what was published\n" in done.stdout
    assert re.search(r"^[1-9]\d+ syncs in .* feeds a minute; [1-9]\d* had not changed$", done.stdout, re.MULTILINE)
    assert re.search(r"^[1-9]\d+ entries, 0 of them twice$", done.stdout, re.MULTILINE)
