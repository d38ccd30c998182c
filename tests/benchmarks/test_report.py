from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import scenarios_of, title_of
from benchmarks.figures import Bar, Line
from benchmarks.report import DOCUMENT as FILE
from benchmarks.report import Table, replaced
from benchmarks.scenarios import GROUPS, SCENARIOS

DOCUMENT = "above\n<!-- all: begin -->\nold\n<!-- all: end -->\nbelow\n"


def test_a_table_in_markdown() -> None:
    table = Table("some", "Some tasks", ("system", "rate"), rows=[("ours", 2.0), ("theirs", None)], notes=["a note"])
    expected = ["### Some tasks", "", "| system | rate |", "| --- | ---: |", "| ours | 2 |", "| theirs | - |", ""]
    assert table.markdown().splitlines() == [*expected, "- a note"]


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    assert replaced(DOCUMENT, "all", "new\n") == DOCUMENT.replace("old", "new")


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="compare: begin"):
        replaced(DOCUMENT, "compare", "new\n")


@pytest.mark.parametrize(
    ("names", "title", "scenarios"),
    [
        (["all"], "all", list(SCENARIOS)),
        (["flow"], "flow", list(GROUPS["flow"])),
        (["sqlite", "redis"], "sqlite", list(GROUPS["sqlite"])),
        (["slots", "idle"], "some", ["idle", "slots"]),
        (["flow", "idle"], "some", ["idle", *GROUPS["flow"]]),
    ],
)
def test_all_and_groups_are_names_of_several_scenarios(names: list[str], title: str, scenarios: list[str]) -> None:
    assert (title_of(names), scenarios_of(names)) == (title, scenarios)
    if title != "some":
        assert "new\n" in replaced(FILE.read_text(), title, "new\n")


def test_bars_and_lines_become_pictures_and_no_figures_none() -> None:
    bars = Table("b", "a < b", (), bars=[Bar("one", 2, 1, 4), Bar("two", 1, 1, 1)])
    lines = Table("l", "lines", (), lines=[Line("one", [(0, 10), (100, 900)])], x_name="tasks")
    assert _count(bars, "rect") == 3  # the background is one
    assert _count(lines, "circle") == 2
    assert Table("n", "nothing", ()).svg() is None


def _count(table: Table, shape: str) -> int:
    svg = table.svg()
    assert svg is not None
    return len(ElementTree.fromstring(svg).findall(f"{{http://www.w3.org/2000/svg}}{shape}"))
