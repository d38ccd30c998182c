"""Migrations where the library is installed, and where Alembic is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from fang_postgres import migrate
from tests.postgres.migrations.catalogs import ROOT


def test_without_alembic() -> None:
    program = "import sys; sys.modules['alembic'] = None; import fang_postgres.migrate"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.endswith("MissingExtra: alembic is missing: pip install 'fang-tasks[cli]'\n")


def test_an_installed_copy_finds_its_migrations_and_has_the_files_of_the_page_and_the_scripts_of_redis(
    tmp_path: Path,
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    assert not (installed / "alembic").exists()
    page = [path.relative_to(ROOT) for kind in ("static", "templates") for path in (ROOT / "fang_web" / kind).iterdir()]
    assert page
    scripts = [path.relative_to(ROOT) for path in (ROOT / "fang_redis" / "scripts").iterdir()]
    assert [str(path) for path in [*page, *scripts] if not (installed / path).is_file()] == []
    program = "from fang_postgres import migrate; print(migrate.__file__); print(migrate.sql())"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert printed.startswith(str(installed))
    assert printed.partition("\n")[2].strip() == migrate.sql().strip()
