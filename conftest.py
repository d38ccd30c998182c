"""Runs the Python of README.md and docs/ as tests, on a database of their own."""

import sys
import types
from typing import Any

from sqlalchemy import Column, Integer, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from fang_threaded import Runnable

pytest_plugins = ["tests.fixtures"]

WRITTEN = "postgresql://localhost/app"  # what a reader would write


def evaluate(example: Example) -> None:
    """As it stands, but on the test's database, and with pools that end when their work is done."""
    if "engine" not in example.namespace:
        engine = create_engine(make_url(example.namespace["shared_url"]).set(drivername="postgresql+psycopg"))
        example.namespace["Order"].metadata.create_all(engine)
        example.namespace["engine"] = engine
    code = str(example.parsed).replace(WRITTEN, example.namespace["shared_url"]).replace(".run()", ".drain()")
    exec(compile("\n" * example.line + code, example.path, "exec", dont_inherit=True), example.namespace)


def prepare(namespace: dict[str, Any]) -> None:
    """Names that stand for the reader's own application."""
    module = types.ModuleType("documented")
    sys.modules["documented"] = module
    namespace["__name__"] = "documented"

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id = Column(Integer, primary_key=True)

    class SendReceipt(Runnable):
        order_id: int | None

        def run(self, queue: Any) -> None: ...

    namespace.update(Session=Session, Order=Order, SendReceipt=SendReceipt)


def finish(namespace: dict[str, Any]) -> None:
    """Gives back the application's connections."""
    if "engine" in namespace:
        namespace["engine"].dispose()
    if "queue" in namespace:
        namespace["queue"].close()


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=evaluate)],
    patterns=["README.md", "docs/*.md"],
    setup=prepare,
    teardown=finish,
    fixtures=["shared_url"],
).pytest()
