"""Joins what several processes expose to Prometheus, in its text format, into one text. It is pure."""

from collections.abc import Iterable, Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def joined(texts: Mapping[str, str], unlabelled: Iterable[str] = ()) -> str:
    """Returns one text. Each sample of ``texts`` gets the label ``process`` with the key of its text; the samples of
    ``unlabelled`` stay as they are.

    The samples of one family must stand together, below its help and its type, which are those of the first process
    that names them.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for name, text in (*texts.items(), *((None, text) for text in unlabelled)):
        label = None if name is None else f'process="{_escaped(name)}"'
        family = ""
        described: set[str] = set()  # by this process
        for line in text.split("\n"):  # no other character ends a line there, and a kind may have any of them
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                if family not in heads or family in described:
                    heads.setdefault(family, []).append(line)
                    described.add(family)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(line if label is None else _with(label, line))
    lines = (line for family in (*heads, *(samples.keys() - heads)) for line in _of(family, heads, samples))
    return "".join(f"{line}\n" for line in lines)


def _of(family: str, heads: Mapping[str, list[str]], samples: Mapping[str, list[str]]) -> Iterable[str]:
    yield from heads.get(family, ())
    yield from samples.get(family, ())


def _with(label: str, line: str) -> str:
    """Adds a label to a sample, ``name{labels} value`` or ``name value``."""
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, _, rest = line.partition(" ")
    return f"{name}{{{label}}} {rest}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
