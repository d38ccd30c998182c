"""The checker of the tree: two modules of the modes that share too much are found, in whatever colour."""

from pathlib import Path

import pytest

from tests.tree import ALL_MODES, MOST_SHARED, Modes, Repetition, colourless, repetitions, shared

ROOT = Path(__file__).parent.parent.parent
COMMON = [f"value_{n} = await call({n})" for n in range(20)]


@pytest.fixture
def modes(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    return one, other


def write(mode: Path, name: str, lines: list[str]) -> None:
    (mode / name).write_text("\n".join(lines))


@pytest.mark.parametrize("modes", ALL_MODES, ids=lambda modes: modes.one)
def test_the_two_modes_do_not_repeat_each_other(modes: Modes) -> None:
    for other in modes.others:
        assert list(repetitions(ROOT / modes.one, ROOT / other, modes.exceptions)) == []


@pytest.mark.parametrize("modes", ALL_MODES, ids=lambda modes: modes.one)
def test_each_exception_is_one(modes: Modes) -> None:
    found = {Path(each.one).name for other in modes.others for each in repetitions(ROOT / modes.one, ROOT / other, {})}
    assert set(modes.exceptions) == found


def test_the_colour_is_taken_off() -> None:
    asynchronous = """
        class AsyncPool(AsyncBase):  # from fang_async
            # one comment
            async def __aenter__(self) -> None:
                async with asyncio.Lock() as lock:
                    raise asyncpg.Error(await lock)
    """
    threaded = """
        class Pool(Base):  # from fang_threaded

            def __enter__(self) -> None:
                # another
                with threading.Lock() as lock:
                    raise psycopg.Error(lock)
    """
    assert colourless(asynchronous) == colourless(threaded)


def test_modules_that_share_too_much_are_found_under_any_name(modes: tuple[Path, Path]) -> None:
    one, other = modes
    allowed = int(20 / MOST_SHARED)
    write(one, "a.py", COMMON + [f"own_{n}" for n in range(allowed)])
    write(other, "b.py", [line.replace("await ", "") for line in COMMON] + [f"its_{n}" for n in range(allowed - 20)])
    assert list(repetitions(one, other)) == []
    write(other, "b.py", [line.replace("await ", "") for line in COMMON] + [f"its_{n}" for n in range(allowed - 21)])
    assert list(repetitions(one, other)) == [Repetition("one/a.py", "other/b.py", 20 / (allowed - 1))]


def test_an_exception_is_one_for_modules_of_the_same_name_only(modes: tuple[Path, Path]) -> None:
    one, other = modes
    for mode, name in ((one, "a.py"), (other, "a.py"), (other, "b.py")):
        write(mode, name, COMMON)
    assert [repetition.other for repetition in repetitions(one, other, {"a.py": "a reason"})] == ["other/b.py"]


def test_very_short_modules_say_nothing_and_lines_count_as_often_as_they_stand_in_both() -> None:
    assert shared(COMMON[:15], COMMON[:15]) == 0.0
    assert shared(["pass"] * 20, ["pass"] * 5 + COMMON) == 0.25
