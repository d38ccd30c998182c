from datetime import timedelta

import pytest

from fang_core.words.spans import exact_span, length_of, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.00012, "0.12 ms"),
        (0.9994, "999 ms"),
        (1, "1 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (7_260, "2 h 1 min"),
        (183_600, "2 d 3 h"),
        (-5, "–5 s"),
    ],
)
def test_spans_are_said_as_people_do(seconds: float, said: str) -> None:
    assert span(seconds) == span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0s", timedelta()),
        ("90 s", timedelta(seconds=90)),
        ("1.5H", timedelta(hours=1.5)),
        ("2min", timedelta(minutes=2)),
        ("15m", timedelta(minutes=15)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_lengths_are_read(text: str, length: timedelta) -> None:
    assert length_of(text) == length


@pytest.mark.parametrize(
    ("length", "written"),
    [
        (timedelta(), "0s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=200), "200s"),
        (timedelta(minutes=90), "90m"),
        (timedelta(hours=6), "6h"),
        (timedelta(hours=25), "25h"),
        (timedelta(days=14), "14d"),
    ],
)
def test_lengths_are_written_as_they_are_read(length: timedelta, written: str) -> None:
    assert exact_span(length) == written
    assert length_of(written) == length


@pytest.mark.parametrize(
    "text", ["", "5", "soon", "-1h", "1h 5m", "\N{ARABIC-INDIC DIGIT FIVE}s", "36526d", "9" * 400 + "d"]
)
def test_what_is_no_length_is_not_read(text: str) -> None:
    assert length_of(text) is None
