"""What tests of the supervisor share."""

from collections.abc import Iterator
from typing import Any

import pytest

from fang_cli.supervisor.process_group import Limits

pytest.register_assert_rewrite("tests.cli.supervisor.told")  # so that its assertions tell values; before its import


@pytest.fixture
def make() -> Iterator[Any]:
    from tests.cli.supervisor.told import Told

    made: list[Told] = []

    def make(processes: int = 2, *, is_reloading: bool = False, **limits: float) -> Told:
        made.append(Told(processes, Limits(**limits), is_reloading=is_reloading))
        return made[-1]

    yield make
    for told in made:
        for process in told.started:
            process.close()
