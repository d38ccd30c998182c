"""What docs show of frameworks runs as it stands there, as files of an application, in a process of its own.

Frameworks and trackers configure the process that they are in.
"""

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forking

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(# (\S+\.py)([^\n]*)\n.*?)^```", re.DOTALL | re.MULTILINE)

Runs = Callable[[str, str], str]


def test_each_page_that_is_run_here_says_so() -> None:
    for page in ("sentry.md", "flask.md", "django.md", "isolation.md"):
        text = (DOCS / page).read_text("utf-8")
        assert len(BLOCK.findall(text)) == text.count("```python\n"), page


@pytest.fixture
def runs(tmp_path: Path, url: str) -> Runs:
    """Writes the files of a page, then runs a program beside them; returns what it prints."""

    def run(page: str, program: str) -> str:
        for block, name, _ in BLOCK.findall((DOCS / page).read_text("utf-8")):
            file = tmp_path / name.rstrip(",")
            file.parent.mkdir(exist_ok=True)
            with file.open("a") as opened:
                opened.write(block)
        here = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"  # as `python -c` does
        done = forking.run(
            "-c", here + textwrap.dedent(program), cwd=tmp_path, env={**os.environ, "FANG_DATABASE_URL": url}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_sentry(runs: Runs) -> None:
    program = """
        import json, sentry_sdk

        class ToList(sentry_sdk.transport.Transport):
            def capture_envelope(self, envelope):
                events.extend(item.payload.json for item in envelope.items if item.type == "event")

        events, init = [], sentry_sdk.init
        here = {"dsn": "https://key@example.org/1", "transport": ToList, "auto_enabling_integrations": False}
        sentry_sdk.init = lambda **options: init(**options | here)

        from tasks import Charge, pool, queue
        queue.insert_task(Charge(card="4111-1111"), max_retries=0)
        queue.insert_task(Charge(card="4222-2222"), max_retries=1)
        assert pool.drain() == 2

        assert sorted(event["level"] for event in events) == ["error", "warning"], events
        for event in events:
            assert event["tags"] == {"fang.kind": "Charge", "fang.task_type": "common", "bank": "first"}
            assert event["contexts"]["task"]["run"] == 1
            assert event["exception"]["values"][0]["type"] == "ValueError"
        assert "4111" not in json.dumps(events) and "4222" not in json.dumps(events)
        queue.close()
    """
    runs("sentry.md", program)


def test_flask_before_and_after_a_fork(runs: Runs) -> None:
    program = """
        import importlib.util, os, shop, signal

        def config():
            spec = importlib.util.spec_from_file_location("config", "gunicorn.conf.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module

        with shop.app.app_context():
            shop.db.create_all()
        assert shop.app.test_client().post("/orders").json == {"order": 1}  # all is connected before the fork

        def session():
            with shop.app.app_context():
                return shop.db.session.execute(shop.db.text("SELECT pg_backend_pid()")).scalar()

        parents = session()
        child = os.fork()
        hooks = config()
        if child == 0:
            code = 1
            try:
                hooks.post_fork(None, None)
                assert session() != parents
                hooks.post_worker_init(None)
                assert shop.app.test_client().post("/orders").status_code == 201
                hooks.worker_int(None)
                for number in (signal.SIGINT, signal.SIGQUIT):
                    signal.raise_signal(number)  # gunicorn's, after that of the terminal
                hooks.worker_exit(None, None)
                code = 0
            finally:
                os._exit(code)
        assert shop.app.test_client().post("/orders").status_code == 201
        assert os.waitpid(child, 0)[1] == 0
        shop.pool.drain()
        with shop.app.app_context():
            assert [order.receipt_sent for order in shop.Order.query] == 3 * [True]
            shop.db.engine.dispose()
        assert shop.queue.count_by_kind() == {}
        shop.queue.close()
    """
    runs("flask.md", program)


def test_django(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "settings.py").write_text(
        textwrap.dedent("""
            import os
            from sqlalchemy import make_url
            url = make_url(os.environ["FANG_DATABASE_URL"])
            host = url.host or url.query.get("host", "")
            INSTALLED_APPS = ["shop.apps.ShopConfig"]
            ROOT_URLCONF = "shop.urls"
            DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
            DATABASES = {
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": url.database,
                    "USER": url.username,
                    "PASSWORD": url.password or "",
                    "HOST": host,
                    "PORT": url.port or url.query.get("port", ""),
                    "CONN_MAX_AGE": 60,
                    "CONN_HEALTH_CHECKS": True,
                }
            }
        """)
    )
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(
        "from django.db import models\n\n\nclass Order(models.Model):\n"
        "    receipt_sent = models.BooleanField(default=False)\n"
    )
    program = """
        import logging
        import worker  # sets Django up
        from django.db import connection, transaction
        from django.test import RequestFactory
        from shop.models import Order
        from shop.tasks import SendReceipt, pool, queue
        from shop.views import place_order

        logged = []
        logging.getLogger("fang_threaded").addFilter(lambda record: logged.append(record.getMessage()))
        with connection.schema_editor() as editor:
            editor.create_model(Order)
        request = RequestFactory().get("/")
        place_order(request)
        try:
            with transaction.atomic():
                place_order(request)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        assert queue.count_by_kind() == {"SendReceipt": 1}

        with pool:
            while queue.count_by_kind():
                pass
            with connection.cursor() as cursor:  # those of the pool's threads, too
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                               " WHERE datname = current_database() AND application_name = ''"
                               " AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
                assert len(cursor.fetchall()) >= 1
            for _ in range(8):
                place_order(request)
            while queue.count_by_kind():
                pass
        assert list(Order.objects.values_list("receipt_sent", flat=True)) == 9 * [True]
        assert not [line for line in logged if "failed" in line], logged
        queue.close()
        connection.close()
    """
    runs("django.md", program)


def test_isolation(runs: Runs) -> None:
    program = """
        import os, runpy, sys
        from fang_threaded import Queue

        import pathlib
        tasks = pathlib.Path("tasks.py")
        tasks.write_text(tasks.read_text().replace("postgresql://localhost/app", os.environ["FANG_DATABASE_URL"]))
        from tasks import Render, pool, queue
        queue.insert_task(Render(document="good"))
        broken = queue.insert_task(Render(document="broken"))
        assert pool.drain() == 3  # the first crash is tried again at once
        assert queue.find_task_by_id(broken.id).crashes == 2
        assert set(queue.count_by_kind()) == {"Render"}
        assert len(queue.tasks_of_kinds(["Render"])) == 1
        queue.close()
    """
    assert runs("isolation.md", program) == "rendered good in attempt 1\n"
