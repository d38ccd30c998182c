"""A pool inside of a real web server: a real signal ends both, and what runs comes to its end."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.patience import PATIENT

ROOT = Path(__file__).parents[2]

DOCUMENTED = re.findall(r"```python\n(.*?)```", (ROOT / "docs/web-servers.md").read_text("utf-8"), re.DOTALL)[0]
assert "lifespan" in DOCUMENTED

APP = """
    import asyncio
    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    from fang_async import AsyncQueue, AsyncWorkerPool

    queue = AsyncQueue("postgresql://localhost/app")
    pool = AsyncWorkerPool(queue)

    @asynccontextmanager
    async def lifespan(app):
        async with queue:
            running = asyncio.create_task(pool.run())
            yield
            {end}
            await asyncio.wait([running])

    app = FastAPI(lifespan=lifespan)
"""
FORMS = {
    "documented": DOCUMENTED,
    "run and cancel": APP.format(end="running.cancel()"),
    "run": APP.format(end="pass"),
}
TASK = """
from fang_async import AsyncRunnable
from pathlib import Path

class Held(AsyncRunnable):
    async def run(self, queue):
        print("runs", flush=True)
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        print("ran", flush=True)
"""


Serve = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path, url: str) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def serve(form: str) -> "subprocess.Popen[str]":
        program = "import asyncio\n" + textwrap.dedent(FORMS[form]).replace("postgresql://localhost/app", url) + TASK
        (tmp_path / "app.py").write_text(program)
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--port", "0", "app:app"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield serve
    for process in started:
        process.kill()
        process.communicate()


def insert(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("""INSERT INTO fang.fang_tasks (metadata) VALUES ('{"type": "Held"}')""")


def rows(url: str) -> object:
    with psycopg.connect(url) as connection:
        counts = "SELECT (SELECT count(*) FROM fang.fang_tasks), (SELECT count(*) FROM fang.fang_pools)"
        return connection.execute(counts).fetchone()


@pytest.mark.parametrize("form", FORMS)
def test_a_signal_ends_the_server_and_its_pool(form: str, serve: Serve, url: str, tmp_path: Path) -> None:
    insert(url)
    process = serve(form)
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line == "runs\n", process.communicate(timeout=PATIENT)
    process.send_signal(signal.SIGTERM)
    assert any("Waiting for application shutdown" in line for line in process.stderr)
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=PATIENT)
    assert out == "ran\n", err
    assert process.returncode == -signal.SIGTERM  # uvicorn's way, after an orderly end
    assert rows(url) == (0, 0)
