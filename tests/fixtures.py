"""Real servers for every test that asks for one.

A Postgres, the embedded one or that of FANG_TEST_DATABASE_URL; and a Redis, of this machine or that of
FANG_TEST_REDIS_URL.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from _pytest.runner import runtestprotocol
from sqlalchemy import make_url

from fang_embedded import EmbeddedPostgres
from fang_postgres import migrate, planner_guard
from fang_postgres.connections.connecting import READING, set_for_transaction
from fang_postgres.urls import address
from tests import by_turns, clusters, databases
from tests.examples import register_profiles
from tests.modes import Database, Harness, IdlePools, harness_of
from tests.patience import PATIENT
from tests.redisserver import EVERY_SECOND, RedisServer

MEMORY = Path("/dev/shm")
ENOUGH = 8 << 30

register_profiles()


def be_patient() -> None:
    """Gives connects, and statements that only look, as long as they need: after a few seconds the product gives them
    up, which a test asks for if it is about that."""
    address.CONNECT_TIMEOUT = int(PATIENT)  # type: ignore[misc]
    planner_guard.Reading.settings = set_for_transaction(READING | {"statement_timeout": f"{PATIENT:.0f}s"})


def pytest_configure() -> None:
    """Has servers and all temporary files live in memory, where there is room: most tests have a database of their
    own, and on a journaling disk it took 0.4 s to make one, not 0.02. ``TMPDIR`` says otherwise.

    Commands that tests start can be interrupted, however the run itself was started."""
    be_patient()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: what tests start would ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        file_system = os.statvfs(MEMORY)
        may_execute = not file_system.f_flag & os.ST_NOEXEC  # a test copies the binaries of Postgres to there
        if may_execute and file_system.f_bavail * file_system.f_frsize >= ENOUGH:
            os.environ["TMPDIR"] = str(MEMORY)
            tempfile.tempdir = None  # to be found anew


def pytest_unconfigure() -> None:
    clusters.remove()


@pytest.fixture(autouse=True)
def _url_of_applications() -> Iterator[None]:
    """Takes back the variable that commands set for the application, if they ran in this process."""
    url = os.environ.get("FANG_DATABASE_URL")
    yield
    if url is None:
        os.environ.pop("FANG_DATABASE_URL", None)
    else:
        os.environ["FANG_DATABASE_URL"] = url


@pytest.fixture
def no_finalizers_in_depth() -> Iterator[None]:
    """For tests that read texts which are nested too deeply: the garbage collector, which may come at that depth, would
    run finalizers of other tests' objects there, and these would fail."""
    gc.disable()
    yield
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` stands for: half of the time tests wait for processes, servers and clocks. Two for each core
    leave a sixth of the cores idle, three hardly any."""
    return 3 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Has the garbage collector leave alone what lives until the end: all tests, and the modules that they import. It
    would walk half a million objects time and again. And has it come seldom after that."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(5_000)
        gc.enable()


# Which tests run, and their order under xdist -------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)  # before tests are left out for their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    by_turns.mark_long(items)
    unnamed = next((item.nodeid for item in items if " at 0x" in item.nodeid), None)
    if unnamed is not None:
        raise pytest.UsageError(f"{unnamed}: each run would have another address there; give it an id")
    if hasattr(config, "workerinput"):  # in a process of xdist's
        from tests.scheduling import LONG

        items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Does in a process of xdist's what pytest does, but of a test that passed it tells that alone: reports of setup
    and teardown are shown nowhere, and took a sixth of what a test costs that does nothing."""
    options = item.config.option
    if not hasattr(item.config, "workerinput") or options.durations is not None or options.xmlpath is not None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in worth_telling(runtestprotocol(item, log=False, nextitem=nextitem)):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def worth_telling(reports: list[pytest.TestReport]) -> list[pytest.TestReport]:
    """Returns the reports of a test, or that of its call alone if all went well."""
    return [report for report in reports if report.when == "call"] if all(each.passed for each in reports) else reports


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Has the processes forked, unless ``--tx`` names other ones."""
    if all(spec.popen and not spec.python for spec in specs):
        from tests.collected import Forks

        config.pluginmanager.register(Forks(config, specs))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For ``--dist loadfile``."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import ByFileOrTest

    config.option.loadscopereorder = False  # by the number of tests: the longest files have few
    return ByFileOrTest(config, log)


# Servers and databases ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server on which databases may be made; FANG_TEST_PG_BIN names the binaries of another version."""
    given = os.environ.get("FANG_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # The role is called like our schema, which "$user" would put first on the path; an application's role is not.
    # Autovacuum would look at all databases each minute, and take their locks or change plans in some runs only.
    settings = {"search_path": "public", "max_prepared_transactions": "10", "autovacuum_naptime": "1h"}
    with EmbeddedPostgres(durable=False, bin_dir=clusters.bin_dir(), settings=settings) as server:
        yield server.url


def database(server_url: str, template: str | None = None) -> Iterator[str]:
    """A database that is dropped when the iterator goes on."""
    url = databases.create(server_url, template)
    yield url
    databases.drop(server_url, url)


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    yield from database(server_url)


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    for url in database(server_url):
        migrate.upgrade(url)
        name = make_url(url).database
        assert name is not None
        yield name


@pytest.fixture(scope="session")
def lender(server_url: str, template: str) -> Iterator[databases.Databases]:
    lender = databases.Databases(server_url, template)
    yield lender
    lender.close()


@pytest.fixture
def url(lender: databases.Databases) -> Iterator[str]:
    """A database like new, with the tables."""
    url = lender.lend()
    yield url
    lender.take_back(url)


@pytest.fixture(scope="module")
def shared_url(server_url: str, template: str) -> Iterator[str]:
    """A database with the tables, for the tests of a module."""
    yield from database(server_url, template)


@pytest.fixture(scope="module")
def emptying(shared_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared_url, options="-c lock_timeout=10s") as connection:
        yield connection


@pytest.fixture
def emptied_url(shared_url: str, emptying: psycopg.Connection[Any]) -> Iterator[str]:
    """The module's database, which each test finds empty: for many tests that use no more of it than our tables."""
    yield shared_url
    with emptying.transaction():
        databases.empty(emptying)


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Callable[[], Iterator[str]]:
    """Lends databases with the tables, for what may need none: only the first one starts the server."""

    def new() -> Iterator[str]:
        lender: databases.Databases = request.getfixturevalue("lender")
        url = lender.lend()
        yield url
        lender.take_back(url)

    return new


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """A server whose databases tests may empty; of a given one each process of xdist takes its own."""
    given = os.environ.get("FANG_TEST_REDIS_URL")
    if given:
        number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        yield urlsplit(given)._replace(path=f"/{number}").geturl()
        return
    with RedisServer(EVERY_SECOND) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_client(redis_server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def redis_url(redis_server_url: str, redis_client: redis.Redis) -> str:
    """A database that each test finds empty."""
    redis_client.flushdb()
    return redis_server_url


@pytest.fixture
def new_redis(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Empties a database, for what may need none: only the first call starts the server."""

    def new() -> str:
        return str(request.getfixturevalue("redis_url"))

    return new


@pytest.fixture(params=["threaded", "async"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Each test that asks for it runs in both modes."""
    for name in {"url", "proxy"}.intersection(request.fixturenames):
        request.getfixturevalue(name)  # made before the pools that connect there, and taken away after them
    with harness_of(request.param) as harness:
        yield harness


@pytest.fixture
def idle_pools(monkeypatch: pytest.MonkeyPatch) -> IdlePools:
    return IdlePools(monkeypatch)


@pytest.fixture(name="database")
def watched_database(url: str) -> Iterator[Database]:
    watched = Database(url)
    yield watched
    watched.close()
