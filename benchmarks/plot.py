"""Draws plots as SVG: bars with their spread, and lines."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.figures import Bar, Line, number

COLOURS: Final = ("#2563a8", "#d9822b", "#3a8f5c", "#9b4f96", "#b8433f", "#6b7280", "#a08a2e", "#2a9d9d")
WIDTH: Final = 800
LEFT: Final = 260  # where bars begin, and the names of lines
RIGHT: Final = 90  # room for figures


def bars(title: str, values: Sequence[Bar]) -> str:
    """Draws horizontal bars from zero, in the given order."""
    scale = (WIDTH - LEFT - RIGHT) / max(bar.most for bar in values)
    parts = []
    for index, bar in enumerate(values):
        y = 52 + 30 * index
        parts += [
            _text(LEFT - 8, y + 14, bar.label, anchor="end"),
            f'<rect x="{LEFT}" y="{y}" width="{bar.value * scale:.1f}" height="20" fill="{COLOURS[0]}"/>',
            _path([(LEFT + bar.least * scale, y + 10), (LEFT + bar.most * scale, y + 10)], "#111", 1.5),
            _text(LEFT + bar.most * scale + 6, y + 14, number(bar.value)),
        ]
    return _document(title, "bar: the median; thin line: what it lies between", 62 + 30 * len(values), parts)


def lines(title: str, x_name: str, series: Sequence[Line]) -> str:
    """Draws lines over a common x; both axes are logarithmic, so that equal factors are equal distances."""
    height, top, left = 420, 52, 70
    right = WIDTH - LEFT
    xs = [max(1.0, x) for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = math.log(max(1.0, point[0]) / min(xs)) / (math.log(max(xs) / min(xs)) or 1)
        up = (math.log10(point[1]) - low) / ((high - low) or 1)
        return left + across * (right - left), height - up * (height - top)

    parts = []
    for power in range(low, high + 1):
        y = place((1, 10.0**power))[1]
        parts += [_path([(left, y), (right, y)], "#ddd", 1), _text(left - 6, y + 4, number(10.0**power), anchor="end")]
    parts += [
        _text(left, height + 18, number(min(xs))),
        _text(right, height + 18, f"{number(max(xs))} {x_name}", anchor="end"),
    ]
    for index, line in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        places = [place(point) for point in line.points]
        parts += [_path(places, colour, 2), *(_dot(x, y, colour) for x, y in places)]
        parts.append(_text(right + 14, top + 20 * index + 10, line.label, colour=colour))
    return _document(title, "both axes logarithmic", height + 34, parts)


def _document(title: str, subtitle: str, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">'
    frame = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    heading = f'<text x="12" y="22" font-size="16" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, frame, heading, _text(12, 40, subtitle, colour="#555"), *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#111") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="12" fill="{colour}">{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    course = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{course}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
