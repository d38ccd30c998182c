"""The defects of ``make mutants`` can still be built in: the texts that they replace are there, once each; and whatever
a trial does, the others are tried."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.faults.choice import choose
from tests.faults.matrix import MATRIX
from tests.faults.mutants import MUTANTS
from tests.faults.mutants import __main__ as command
from tests.faults.mutants.mutant import ROOT, Edit, InFault, InTest, Mutant
from tests.faults.report import PAGE, table_of_mutants


@pytest.mark.parametrize("edit", [edit for mutant in MUTANTS for edit in mutant.edits], ids=lambda edit: edit.file)
def test_an_edit_can_be_made(edit: Edit) -> None:
    assert (ROOT / edit.file).read_text().count(edit.text) == 1, edit.text


@pytest.mark.parametrize("trial", [mutant.trial for mutant in MUTANTS if isinstance(mutant.trial, InTest)], ids=str)
def test_the_test_that_shows_it_is_there(trial: InTest) -> None:
    file, *within, name = trial.node.split("::")
    source = (ROOT / file).read_text()
    assert all(re.search(rf"\nclass {each}[:(]", source) for each in within)
    if "(ConformanceSuite)" in source:
        source += "".join(each.read_text() for each in (ROOT / "fang_core/conformance").rglob("*.py"))
    assert re.search(rf"\n{'    ' * len(within)}(async )?def {name.partition('[')[0]}\(", source)


@pytest.mark.parametrize("trial", [mutant.trial for mutant in MUTANTS if isinstance(mutant.trial, InFault)], ids=str)
def test_the_fault_that_shows_it_is_there(trial: InFault) -> None:
    _, *arguments = trial.command
    assert [(fault.id, mix) for fault, mix in choose(MATRIX, arguments).trials] == [trial]


def test_the_page_has_them_all() -> None:
    assert table_of_mutants([(mutant.defect, str(mutant.trial)) for mutant in MUTANTS]) in PAGE.read_text()


def test_the_others_are_tried_where_a_trial_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, sound = InTest("broken"), InTest("sound")
    edit = Edit("file", "text", "instead")
    one, two = Mutant("one", [edit], broken, "why"), Mutant("two", [edit], sound, "why")
    three = Mutant("three", [], sound, "why")

    def tried(trial: Any, edits: Sequence[Edit]) -> tuple[int, str]:
        return (1, "that is why") if edits or "broken" in trial.command else (0, "")

    monkeypatch.setattr(command, "MUTANTS", (one, two, three))
    monkeypatch.setattr(command, "_try", tried)
    monkeypatch.setattr(sys, "argv", ["mutants"])
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "FAILS without a defect: broken" in said
    assert "caught by sound: two" in said
    assert "SURVIVED by sound: three" in said
    assert "1 of 3 were caught" in said


def test_a_trial_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(InTest):
        command = ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(600)")

    monkeypatch.setattr(command, "WITHIN", 1.0)
    code, said = command._try(Endless("endless"), [])
    assert code is None
    assert said.endswith("it did not end within 1 s")
