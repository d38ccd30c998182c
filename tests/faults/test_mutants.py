"""The defects of ``make mutants`` can still be built in: the texts that they replace are there, once each."""

import re

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Edit, InTest
from tests.faults.report import PAGE, table_of_mutants


@pytest.mark.parametrize("edit", [edit for mutant in MUTANTS for edit in mutant.edits], ids=lambda edit: edit.file)
def test_an_edit_can_be_made(edit: Edit) -> None:
    assert (ROOT / edit.file).read_text().count(edit.text) == 1, edit.text


@pytest.mark.parametrize("trial", [mutant.trial for mutant in MUTANTS if isinstance(mutant.trial, InTest)], ids=str)
def test_the_test_that_shows_it_is_there(trial: InTest) -> None:
    file, *within, name = trial.node.split("::")
    source = (ROOT / file).read_text()
    assert all(f"\nclass {each}:" in source for each in within)
    assert re.search(rf"\n{'    ' * len(within)}(async )?def {name}\(", source)


def test_the_page_has_them_all() -> None:
    assert table_of_mutants([(mutant.defect, str(mutant.trial)) for mutant in MUTANTS]) in PAGE.read_text()
