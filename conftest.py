"""Runs the Python of README.md and docs/ as tests.

The blocks of a document build on each other, in a namespace of their own. Each runs as it stands, but that

- the URL that a reader would write becomes that of a database with the tables, or of an empty one of Redis, made for
  the document when it is needed;
- the SQLite file that a reader would name is in a directory of the document's own;
- pools end when their work is done;
- it is the main program, and what it defines can be imported from the file that the document names;
- test functions that a block defines are called.

What cannot run says why, above the block: ``<!-- skip: next "the reason" -->``.
"""

import ast
import asyncio
import inspect
import re
import sqlite3
import sys
import types
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Column, Engine, Integer, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from fang_core.tasks.registry import REGISTRY
from fang_redis import RedisQueue
from fang_sqlite import SqliteQueue
from fang_threaded import Queue, Runnable
from tests.logs import logging_as_it_is

pytest_plugins = ["tests.fixtures", "tests.sqlitefiles", "tests.transports", "tests.watchdog"]

WRITTEN_OF_REDIS = "redis://localhost:6379/0"
WRITTEN_FILE = "tasks.db"

OPENED = Queue | RedisQueue | SqliteQueue | sqlite3.Connection | Engine
"""What a block may have opened."""

Namespace = dict[str, Any]
Function = Callable[..., Any]

WRITTEN = re.compile(r"postgresql(\+\w+)?://localhost/app")  # what a reader would write


def ends_or_goes_on(code: str) -> bool:
    """Tells whether nothing in a block comes after a ``run()`` that ends only with its process."""
    first = ast.parse(code).body[:-1]
    return not any(isinstance(each, ast.Expr) and ast.unparse(each).endswith(".run()") for each in first)


def evaluate(example: Example) -> None:
    """Runs one block."""
    namespace = example.namespace
    assert ends_or_goes_on(str(example.parsed)), "a reader who copies this waits at run() for ever: write drain()"
    code = str(example.parsed).replace(".run()", ".drain()").replace('if __name__ == "__main__":', "if True:")
    if WRITTEN.search(code):
        url = database_url(namespace)
        code = WRITTEN.sub(lambda written: url.replace("postgresql", f"postgresql{written[1] or ''}", 1), code)
    if WRITTEN_OF_REDIS in code:
        code = code.replace(WRITTEN_OF_REDIS, redis_url(namespace))
    code = code.replace(WRITTEN_FILE, f"{namespace['_directory'].name}/{WRITTEN_FILE}")
    before = tests_in(namespace)
    exec(compile("\n" * example.line + code, example.path, "exec", dont_inherit=True), namespace)
    vars(sys.modules["documented"]).update(namespace)
    namespace["_opened"] += [value for value in namespace.values() if isinstance(value, OPENED)]
    for function in tests_in(namespace):
        if function not in before:
            call(function)


def database_url(namespace: Namespace) -> str:
    """The document's database, made when this is first asked for."""
    if "_databases" not in namespace:
        namespace["_databases"] = namespace["new_database"]()
        url = namespace["_url"] = next(namespace["_databases"])
        namespace["_engine"] = namespace["engine"] = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        namespace["Order"].metadata.create_all(namespace["engine"])
    return str(namespace["_url"])


def redis_url(namespace: Namespace) -> str:
    """The document's database of Redis, empty when this is first asked for."""
    if "_redis_url" not in namespace:
        namespace["_redis_url"] = namespace["new_redis"]()
    return str(namespace["_redis_url"])


def tests_in(namespace: Namespace) -> list[Function]:
    return [value for name, value in namespace.items() if name.startswith("test_") and inspect.isfunction(value)]


def call(function: Function) -> None:
    value = function()
    if inspect.iscoroutine(value):
        asyncio.run(value)


def prepare(namespace: Namespace) -> None:
    """Names that stand for the reader's own application."""
    namespace["_registered"], REGISTRY._classes = REGISTRY._classes, {}  # of other documents and tests, with schedules
    REGISTRY.version += 1
    module = types.ModuleType("documented")
    sys.modules["documented"] = sys.modules["tasks"] = module  # README's first file
    namespace["__name__"] = "documented"

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id = Column(Integer, primary_key=True)

    class SendReceipt(Runnable):
        order_id: int | None

        def run(self, queue: Any) -> None: ...

    namespace["_restore_logging"] = logging_as_it_is()
    namespace["_directory"] = TemporaryDirectory()
    namespace.update(_opened=[], Session=Session, Order=Order, SendReceipt=SendReceipt)


def finish(namespace: Namespace) -> None:
    """Gives back the connections, the database, and the process' logging."""
    namespace["_restore_logging"]()
    for opened in namespace["_opened"]:  # a later block may have given the name to another
        if isinstance(opened, Engine):
            opened.dispose()
        else:
            opened.close()
    namespace["_directory"].cleanup()
    if "_databases" in namespace:
        next(namespace["_databases"], None)
    REGISTRY._classes = namespace["_registered"]
    REGISTRY.version += 1


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=evaluate), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=prepare,
    teardown=finish,
    fixtures=["new_database", "new_redis"],
).pytest()
