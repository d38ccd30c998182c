"""What is kept of an exception can always be stored, whatever the exception does."""

import json
import runpy
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import MemoryQueue, Queueable, RetentionMode, Runnable, TaskConfig, UsageError
from fang_core.failure import MESSAGE_BYTES, TRACEBACK_BYTES, clean, describe, origin, text_of
from fang_threaded import WorkerPool

anything = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates and NUL included


def size(text: str | None) -> int:
    """In bytes of UTF-8; raises where it cannot be encoded."""
    return len((text or "").encode("utf-8", "strict"))


@given(anything, st.integers(0, 40))
def test_clean_text_can_be_stored_and_keeps_to_its_limit(text: str, limit: int) -> None:
    cleaned = clean(text, limit)

    assert size(cleaned) <= limit
    assert "\0" not in cleaned


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_clean_leaves_good_text_as_it_is(text: str) -> None:
    assert clean(text, 200) == text


def test_clean_cuts_between_characters() -> None:
    assert clean("ä" * 10, 5) == "ää"
    assert clean("a\0b\ud800c", 100) == "a␀b?c"


@given(anything)
def test_any_text_of_an_exception_can_be_stored(text: str) -> None:
    report = describe(ValueError(text))

    assert size(report.message) <= MESSAGE_BYTES
    assert report.message.startswith("ValueError")


class Hostile(Exception):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __str__(self) -> str:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class Trap(str):
    """Text whose own methods raise."""

    def __getitem__(self, _: Any) -> NoReturn:
        raise SystemExit

    def __format__(self, _: str) -> NoReturn:
        raise SystemExit

    def __len__(self) -> NoReturn:
        raise SystemExit

    def replace(self, *_: Any) -> NoReturn:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("plain"), "ValueError: plain"),
        (ValueError(), "ValueError"),
        (ValueError("two\nlines"), "ValueError: two\nlines"),
        (Hostile("a\0b\ud800"), "Hostile: a␀b?"),
        (Hostile(SystemExit(1)), "Hostile: <its __str__ raised SystemExit>"),
        (Hostile(KeyboardInterrupt()), "Hostile: <its __str__ raised KeyboardInterrupt>"),
        (Hostile(5), "Hostile: <its __str__ raised TypeError>"),
        (Hostile(Trap("text")), "Hostile: text"),
        (Endless(), "Endless: <its __str__ raised RecursionError>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_hostile_exceptions(error: BaseException, message: str) -> None:
    assert describe(error).message == message


@pytest.mark.parametrize("text", ["x" * 50_000_000, "ä" * 25_000_000], ids=["ascii", "two bytes each"])
def test_fifty_megabytes_are_cut(text: str) -> None:
    message = describe(ValueError(text)).message

    assert size(message) in (MESSAGE_BYTES, MESSAGE_BYTES - 1)


def test_a_type_with_an_endless_name_is_cut() -> None:
    error = type("E" * 100_000, (Exception,), {})("text")

    assert size(describe(error).message) == MESSAGE_BYTES


def group_of(*errors: BaseException, text: str = "group") -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup(text, errors)


@pytest.mark.parametrize(
    ("group", "lines"),
    [
        (group_of(ValueError("x")), ["ExceptionGroup: group (1 sub-exception)", "- ValueError: x"]),
        (
            group_of(SystemExit(1), Hostile(KeyboardInterrupt())),
            [
                "BaseExceptionGroup: group (2 sub-exceptions)",
                "- SystemExit: 1",
                "- Hostile: <its __str__ raised KeyboardInterrupt>",
            ],
        ),
        (
            group_of(group_of(KeyError("a"), group_of(OSError("b"))), TypeError("c\0")),
            ["ExceptionGroup: group (2 sub-exceptions)", "- KeyError: 'a'", "- OSError: b", "- TypeError: c␀"],
        ),
        (
            group_of(*map(ValueError, range(4))),
            ["ExceptionGroup: group (4 sub-exceptions)", *(f"- ValueError: {n}" for n in range(3)), "- ..."],
        ),
    ],
    ids=["one", "hostile", "nested", "four"],
)
def test_of_a_group_the_first_causes_are_named(group: BaseExceptionGroup[BaseException], lines: list[str]) -> None:
    assert describe(group).message.split("\n") == lines


def test_of_a_group_with_long_texts_each_cause_has_its_share() -> None:
    message = describe(group_of(*(ValueError("ä" * 5_000) for _ in range(4)), text="x" * 5_000)).message

    assert MESSAGE_BYTES - 100 <= size(message) <= MESSAGE_BYTES
    assert [line[:12] for line in message.split("\n")] == ["ExceptionGro", *["- ValueError"] * 3, "- ..."]


def test_groups_of_any_size_and_depth_are_described() -> None:
    wide = group_of(*[ValueError("x")] * 1_000_000)
    deep: BaseException = ValueError("at the bottom")
    for _ in range(10_000):
        deep = group_of(deep)
    repeated: BaseException = ValueError("again")
    for _ in range(200):  # 2^200 paths
        repeated = group_of(repeated, repeated)

    assert describe(wide).message.endswith("- ValueError: x\n- ...")
    assert describe(deep).message.endswith("- ValueError: at the bottom")
    assert describe(repeated).message.endswith("- ValueError: again\n- ...")


def test_a_group_that_hides_what_it_holds() -> None:
    class Hiding(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> NoReturn:
            raise SystemExit

        def __str__(self) -> NoReturn:
            raise SystemExit

    assert describe(Hiding("group", [ValueError("x")])).message.split("\n") == [
        "Hiding: <its __str__ raised SystemExit>",
        "- ValueError: x",
    ]


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - handed on to the test
        return caught


def test_the_traceback_has_the_frames_and_not_the_text() -> None:
    report = describe(raised(ValueError("SECRET")))

    assert report.traceback is not None
    assert "in raised" in report.traceback
    assert "SECRET" not in report.traceback


def test_the_origin_is_type_and_innermost_place() -> None:
    line = raised.__code__.co_firstlineno + 2
    assert origin(describe(raised(ValueError("SECRET")))) == f"ValueError at {__file__}:{line}"
    assert origin(describe(ValueError("SECRET"))) == "ValueError"
    assert origin(describe(ExceptionGroup("SECRET", [raised(ValueError("x"))]))) == "ExceptionGroup"


def test_an_exception_that_was_never_raised_has_no_frames() -> None:
    assert describe(ValueError()).traceback == ""


def deeper(levels: int) -> None:
    if levels == 0:
        raise ValueError("at the bottom")
    deeper(levels - 1)


def test_of_a_deep_recursion_the_innermost_frames_are_kept() -> None:
    with pytest.raises(ValueError, match="bottom") as caught:
        deeper(500)

    trace = describe(caught.value).traceback
    assert trace is not None
    assert 0 < size(trace) <= TRACEBACK_BYTES
    assert 'raise ValueError("at the bottom")' in trace


def test_a_traceback_is_cut_in_front_by_bytes(tmp_path: Path) -> None:
    """Source lines of several bytes a character: what is cut away must not be the innermost frame."""
    source = tmp_path / "wide.py"
    steps = [f"def step{n}():\n    step{n + 1}(); '{'ж' * 150}'\n" for n in range(40)]
    source.write_text("".join(steps) + "def step40():\n    raise ValueError\n", "utf-8")
    scope = runpy.run_path(str(source))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no text
        scope["step0"]()

    trace = describe(caught.value).traceback
    assert trace is not None
    assert TRACEBACK_BYTES - 4 <= size(trace) <= TRACEBACK_BYTES
    assert "in step40" in trace
    assert trace.rstrip(" ^\n").endswith("raise ValueError")


def test_text_of_is_for_any_object() -> None:
    assert text_of(ValueError("a\0b")) == "a␀b"
    assert text_of(5) == "5"
    assert size(text_of("ж" * 5_000)) == MESSAGE_BYTES
    assert text_of(Hostile(GeneratorExit())) == "<its __str__ raised GeneratorExit>"


def test_a_traceback_begins_with_the_own_code_and_goes_on_in_libraries() -> None:
    class Broken(Runnable):
        task_config = TaskConfig(kind="failure.Broken")

        def run(self, queue: Queueable) -> None:
            json.loads("{")

    queue = MemoryQueue()
    task = queue.insert_task(Broken())
    WorkerPool(queue, retention_mode=RetentionMode.KEEP_ALL).drain()
    found = queue.find_task_by_id(task.id)
    assert found is not None
    trace = found.errors[0]["traceback"]
    assert trace.startswith(f'  File "{__file__}"'), trace
    assert "json/decoder.py" in trace


def test_an_error_of_a_library_or_of_fang_itself_keeps_its_frames() -> None:
    with pytest.raises(UsageError) as caught:
        MemoryQueue().find_task_by_id("none")  # type: ignore[arg-type]
    error = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # type: ignore[union-attr]
    trace = describe(error).traceback
    assert trace is not None
    assert trace.count("fang_core") >= 2
