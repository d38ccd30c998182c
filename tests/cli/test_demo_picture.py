"""What the demo has a browser show, and what it says without one."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from fang_cli.demo.picture import Picture

PAGE = '<link rel="stylesheet" href="/static/1/fang.css"><script defer nonce="n" src="/static/2/x.js"></script><p>5</p>'


def _get(path: str) -> str:
    return {"/?since=15m": PAGE, "/static/1/fang.css": r"p::before { content: '\1' }"}[path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all programs that are installed."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_browser_gets_a_page_that_needs_nothing_else(programs: Path, tmp_path: Path) -> None:
    browser = programs / "chromium"
    browser.write_text("""#!/bin/sh
        for argument; do case $argument in --screenshot=*) target=${argument#*=};; esac; done
        /bin/cat "${argument#file://}" >"$target"
    """)
    browser.chmod(0o755)
    picture = Picture(tmp_path / "overview.png", _get)
    picture.keep()
    assert picture.draw(nullcontext()).endswith(f"is in {tmp_path / 'overview.png'}")
    shown = r"<style>p::before { content: '\1' }</style><p>5</p>"
    assert (tmp_path / "overview.png").read_text() == shown


def test_without_a_browser_one_line_says_what_is_missing(programs: Path, tmp_path: Path) -> None:
    assert shutil.which("chromium") is None, programs
    picture = Picture(tmp_path / "overview.png", _get)
    picture.keep()
    assert picture.draw(nullcontext()) == "no picture of the page: it needs Chromium (apt-get install chromium)"
    assert not (tmp_path / "overview.png").exists()
