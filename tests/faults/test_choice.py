"""What ``python -m tests.faults`` tries: what it was told, and never nothing; and what it keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults import __main__ as command
from tests.faults.choice import choose
from tests.faults.matrix import MATRIX
from tests.faults.registry import Fault
from tests.faults.trial import Trial


def chosen(*arguments: str) -> set[tuple[str, str]]:
    return {(fault.id, mix) for fault, mix in choose(MATRIX, arguments).trials}


def test_an_id_names_its_fault_and_the_variants_of_it() -> None:
    assert chosen("F52", "async") >= {("F52", "async"), ("F52 with its pool", "async")}
    assert {fault.split()[0] for fault, _ in chosen("F52", "async")} == {"F52"}
    assert chosen("F52 with its pool", "mixed") == {("F52 with its pool", "mixed")}


def test_an_exact_id_names_one_fault() -> None:
    assert chosen("--exact", "F52", "async") == {("F52", "async")}


def test_all_of_a_backend_fill_its_table() -> None:
    choice = choose(MATRIX, ["--backend", "sqlite"])
    assert {fault.backend for fault, _ in choice.trials} == {"sqlite"}
    assert choice.is_whole
    assert not choose(MATRIX, ["--backend", "sqlite", "S01"]).is_whole
    assert {fault.backend for fault, _ in choose(MATRIX, []).trials} == {"postgres", "sqlite", "redis"}


@pytest.mark.parametrize(
    "arguments", [["F99"], ["--backend", "redis", "F04"], ["R12", "async"], ["--exact", "F08 beside"]]
)
def test_what_tries_nothing_is_refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        choose(MATRIX, arguments)
    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_what_a_trial_wrote_that_did_not_hold_is_kept(tmp_path: Path) -> None:
    def fails(trial: Trial) -> None:
        (trial.directory / "worker-0.log").write_text("said")
        raise AssertionError

    fault, nursery = Fault("S00", "a trial that fails", fails, backend="sqlite"), None
    kept = choose(MATRIX, ["S01", "--keep", str(tmp_path / "kept")]).kept
    tried: Any = command._try
    assert tried(fault, "threaded", None, nursery, 1, kept) is None
    assert (tmp_path / "kept" / "S00, threaded" / "worker-0.log").read_text() == "said"
