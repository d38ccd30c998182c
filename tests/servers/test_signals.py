"""A pool inside of a real web server: a real signal ends both, and what runs comes to its end."""

import re
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.forking import Forked
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


Serve = Callable[[str], Forked]


@pytest.fixture
def serve(tmp_path: Path, url: str) -> Iterator[Serve]:
    started: list[Forked] = []

    def serve(form: str) -> Forked:
        program = "import asyncio\n" + textwrap.dedent(FORMS[form]).replace("postgresql://localhost/app", url) + TASK
        (tmp_path / "app.py").write_text(program)
        imports = ("fastapi", "uvicorn.server", "fang_async")
        process = Forked("-m", "uvicorn", "--port", "0", "app:app", cwd=tmp_path, imports=imports)
        started.append(process)
        return process

    yield serve
    for process in started:
        process.close()


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
    line = process.stdout.readline()
    assert line == "runs\n", process.communicate(timeout=PATIENT)
    process.send_signal(signal.SIGTERM)
    assert any("Waiting for application shutdown" in line for line in process.stderr)
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=PATIENT)
    assert out == "ran\n", err
    assert process.returncode == -signal.SIGTERM  # uvicorn's way, after an orderly end
    assert rows(url) == (0, 0)
