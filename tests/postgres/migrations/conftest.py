"""What tests of migrations share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import Engine

from tests.postgres.migrations.applications import APPLICATIONS_ENV, APPLICATIONS_REVISION
from tests.postgres.migrations.catalogs import engine_for


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def application(tmp_path: Path, engine: Engine) -> Config:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(APPLICATIONS_ENV)
    (tmp_path / "versions" / "app1.py").write_text(APPLICATIONS_REVISION)
    config = Config(attributes={"engine": engine})
    config.set_main_option("script_location", str(tmp_path).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
