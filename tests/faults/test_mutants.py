"""The defects of ``make mutants`` can still be built in: the texts that they replace are there, once each."""

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Edit


@pytest.mark.parametrize("edit", [edit for mutant in MUTANTS for edit in mutant.edits], ids=lambda edit: edit.file)
def test_an_edit_can_be_made(edit: Edit) -> None:
    assert (ROOT / edit.file).read_text().count(edit.text) == 1, edit.text
