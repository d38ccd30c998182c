"""The hints work for users: what is wrong is red in their editors, what is right is not."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "typing"

Lines = dict[str, set[int]]
"""file name -> the lines on which a checker reports an error"""


def run(*command: str) -> str:
    ended = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr  # 1: errors were found; others: it did not work
    return ended.stdout


def mypy() -> Lines:
    output = run("mypy", "--no-pretty", "--no-error-summary", str(SAMPLES / "good.py"), str(SAMPLES / "bad.py"))
    found: Lines = {}
    for path, line in re.findall(r"^(.+?):(\d+): error:", output, re.MULTILINE):
        found.setdefault(Path(path).name, set()).add(int(line))
    return found


def basedpyright() -> Lines:
    output = run("basedpyright", "--outputjson", str(SAMPLES / "good.py"), str(SAMPLES / "bad.py"))
    found: Lines = {}
    for diagnostic in json.loads(output)["generalDiagnostics"]:
        line = diagnostic["range"]["start"]["line"] + 1
        found.setdefault(Path(diagnostic["file"]).name, set()).add(line)
    return found


def marked(name: str) -> set[int]:
    lines = (SAMPLES / name).read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# red")}


@pytest.mark.parametrize("checker", [mypy, pytest.param(basedpyright, marks=pytest.mark.long)])
def test_exactly_the_marked_lines_are_red(checker: Callable[[], Lines]) -> None:
    found = checker()

    assert len(marked("bad.py")) > 20
    assert found.get("bad.py", set()) == marked("bad.py")
    assert set(found) <= {"bad.py"}
