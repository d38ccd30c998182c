"""Tests how the changes that people make on the page are written down."""

from typing import Any

import pytest

from fang_core.conformance.backend import Backend
from fang_core.errors import UsageError
from fang_core.monitoring.audit import DETAILS_BYTES, TEXT_BYTES, AuditEntry


def listed(backend: Backend, **options: Any) -> list[AuditEntry]:
    entries: list[AuditEntry] = backend.call(backend.queue.audit.list, **options)
    return entries


def begin(backend: Backend, target: str = "exports", details: Any = None) -> int:
    entry: int = backend.call(backend.queue.audit.begin, "ada", "pause", target, details)
    return entry


class AuditSuite:
    """Tests ``queue.audit``."""

    def test_a_change_is_written_before_it_is_made_and_its_result_after(self, backend: Backend) -> None:
        entry = begin(backend, details={"reason": 'the "API" is\\down', "until": None, "ids": [1, 2.5]})
        (found,) = listed(backend)
        assert found[0] == entry
        assert found[2:] == (
            *("ada", "pause", "exports"),
            {"reason": 'the "API" is\\down', "until": None, "ids": [1, 2.5]},
            None,
        )
        assert found.at.utcoffset() is not None
        assert backend.call(backend.queue.audit.end, entry, "paused") is True
        assert listed(backend) == [found._replace(result="paused")]

    def test_a_result_is_written_once(self, backend: Backend) -> None:
        entry = begin(backend)
        assert backend.call(backend.queue.audit.end, entry, "paused")
        assert backend.call(backend.queue.audit.end, entry, "failed") is False
        assert backend.call(backend.queue.audit.end, entry + 1, "paused") is False
        assert [found.result for found in listed(backend)] == ["paused"]

    def test_the_latest_come_first_page_by_page(self, backend: Backend) -> None:
        ids = [begin(backend, str(n)) for n in range(5)]
        assert ids == sorted(ids)
        first = listed(backend, limit=2)
        assert [entry.target for entry in first] == ["4", "3"]
        second = listed(backend, limit=2, before=first[-1].id)
        assert [entry.target for entry in second] == ["2", "1"]
        assert [entry.target for entry in listed(backend, before=second[-1].id)] == ["0"]
        assert listed(backend, before=ids[0]) == []

    def test_texts_that_no_database_holds_are_cleaned_and_cut(self, backend: Backend) -> None:
        entry = begin(backend, "a\0b\ud800" + "x" * 2_000, {"k\0": "v\ud800"})
        assert backend.call(backend.queue.audit.end, entry, "y" * 2_000)
        (found,) = listed(backend)
        assert len(found.target.encode()) <= TEXT_BYTES
        assert found.target.startswith("a\N{SYMBOL FOR NULL}b?xxx")
        assert found.details == {"k\N{SYMBOL FOR NULL}": "v?"}
        assert found.result == "y" * TEXT_BYTES

    def test_arguments_that_cannot_be_used_are_refused(self, backend: Backend) -> None:
        audit = backend.queue.audit
        for call, arguments, options in (
            (audit.list, (), {"limit": 0}),
            (audit.list, (), {"limit": 501}),
            (audit.list, (), {"limit": True}),
            (audit.list, (), {"before": "1"}),
            (audit.begin, ("ada", "pause", 7), {}),
            (audit.begin, ("ada", "pause", "x", ["no dict"]), {}),
            (audit.begin, ("ada", "pause", "x", {"much": "x" * DETAILS_BYTES}), {}),
            (audit.end, (-1, "done"), {}),
            (audit.end, (1 << 63, "done"), {}),
            (audit.end, (1, None), {}),
        ):
            with pytest.raises(UsageError):
                backend.call(call, *arguments, **options)
        assert listed(backend) == []
