"""What tests of liveness share."""

from collections.abc import Iterator

import pytest

from tests.proxy import Proxy


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy
