"""Writes counts, and texts of rows, which any client may have written."""


def printable(line: str) -> str:
    """Returns a line without terminal codes."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def cut(text: object, most: int = 200) -> str:
    """Returns a text on one line, of at most so many characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Returns a count with its noun, like ``1 task`` or ``1,000 tasks``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
