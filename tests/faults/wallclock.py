"""Processes whose wall clock is wrong, or jumps, by a library that is loaded before all others (``wallclock.c``).

Their monotonic clocks go right. (faketime does the same, and breaks waits by the monotonic clock, such as Python's.)
"""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest import SkipTest
from unittest.mock import patch

SOURCE: Final = Path(__file__).with_suffix(".c")
COMPILER: Final = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class WallClock:
    """The wall clock of all processes that are started with ``environment``, and of their children."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.move(0)
        library = directory / "wallclock.so"
        assert COMPILER is not None
        subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "FANG_FAULTS_CLOCK": str(self._file)}

    def move(self, seconds: float) -> None:
        """Sets how far it is ahead of the right one. They mapped the file: it is written in place, at once."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", int(seconds * 1e9)))

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """For processes that inherit this one's."""
        with patch.dict(os.environ, self.environment):
            yield


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    """One that goes right so far. Without a C compiler the test is skipped."""
    if COMPILER is None:
        raise SkipTest("there is no C compiler: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="fang-clock-") as directory:
        Path(directory).chmod(0o755)  # a server may run as another user
        yield WallClock(Path(directory))
