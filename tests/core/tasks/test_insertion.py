"""What one insert may say for itself, and how bulk inserts are cut."""

import threading
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import StrEnum
from itertools import chain, pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fang_core import InsertOptions, PayloadError, Queueable, Runnable, TaskConfig, TwinExists, Unique, UsageError
from fang_core.backends.ticking import tick_of
from fang_core.tasks.insertion import Bulk, NewTask, Overrides, Rules, in_chunks, refuse_equal
from fang_core.tasks.options import COLUMNS
from fang_core.tasks.unique import uniq_hash
from fang_core.words.moments import EARLIEST, LATEST
from tests.patience import PATIENT

NOW = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Parse(Runnable):
    task_config = TaskConfig(kind="insertion.Parse", task_type="heavy", priority=1, max_retries=3)
    n: Any = 0

    def run(self, queue: Queueable) -> None: ...


class NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "NoOffset()"  # the same in every process: it stands in the names of tests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": True}, "priority: Input should be a valid integer"),
        ({"priority": "1"}, "priority: Input should be a valid integer"),
        ({"priority": 1.0}, "priority: Input should be a valid integer"),
        ({"priority": Decimal(1)}, "priority: Input should be a valid integer"),
        ({"priority": 3}, "priority: .* less than or equal to 2"),
        ({"priority": -3}, "priority: .* greater than or equal to -2"),
        ({"max_retries": -1}, "max_retries: .* greater than or equal to 0"),
        ({"max_retries": 1_000_001}, "max_retries: .* less than or equal to 1000000"),
        ({"max_retries": "5"}, "max_retries: Input should be a valid integer"),
        ({"max_retries": False}, "max_retries: Input should be a valid integer"),
        ({"task_type": ""}, "task_type: String should have at least 1 character"),
        ({"task_type": "a\0"}, "task_type: String should match pattern"),
        ({"task_type": "\udc80"}, "task_type: Input should be a valid string"),
        ({"task_type": b"heavy"}, "task_type: Input should be a valid string"),
        ({"task_type": "x" * 501}, "task_type: String should have at most 500 characters"),
        ({"scheduled_at": NOW.replace(tzinfo=None)}, "scheduled_at needs a time zone"),
        ({"scheduled_at": NOW.replace(tzinfo=NoOffset())}, "scheduled_at needs a time zone"),
        ({"scheduled_at": NOW.isoformat()}, "scheduled_at must be a datetime, not str"),
        ({"scheduled_at": NOW.date()}, "scheduled_at must be a datetime, not date"),
        ({"scheduled_at": 0}, "scheduled_at must be a datetime, not int"),
        (
            {"scheduled_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))},
            "scheduled_at must lie between 0001-01-03 and 9999-12-29",
        ),
        ({"scheduled_at": datetime(1, 1, 2, tzinfo=UTC)}, "scheduled_at must lie between"),
        ({"uniq": "yes"}, r"uniq is True, False or Unique\(...\), not str"),
        ({"uniq": 1}, r"uniq is True, False or Unique\(...\), not int"),
        ({"delay": -SECOND}, "delay must be between zero and a hundred years"),
        ({"delay": timedelta.max}, "delay must be between zero and a hundred years"),
        ({"delay": 60}, "delay must be a timedelta, not int"),
        ({"timeout": timedelta(0)}, "timeout must be more than zero, and a hundred years at most"),
        ({"timeout": timedelta(days=36_601)}, "timeout must be more than zero"),
        ({"timeout": 60}, "timeout must be a timedelta, not int"),
        ({"expires": timedelta(0)}, "expires must be more than zero, and a hundred years at most"),
        ({"expires": -SECOND}, "expires must be more than zero"),
        ({"expires": 60}, "expires must be a timedelta or a datetime, not int"),
        ({"expires": datetime(2024, 1, 1)}, "expires needs a time zone"),  # noqa: DTZ001 - a naive one
        ({"expires": datetime(1, 1, 2, tzinfo=UTC)}, "expires must lie between 0001-01-03 and 9999-12-29"),
        ({"headers": [("a", "b")]}, "headers must be a dict, not list"),
        ({"headers": {"a": 1}}, "headers must have only str as keys and values, not int"),
        ({"headers": {1: "a"}}, "headers must have only str as keys and values, not int"),
        ({"headers": {"a": "\0"}}, "headers must not have NUL characters"),
        ({"headers": {"\0": "a"}}, "headers must not have NUL characters"),
        ({"headers": {"a": "\ud800"}}, "headers must not have lone surrogates"),
        ({"headers": {"a": "é" * 4_096}}, "headers must have 8192 bytes at most, all together, not 8193"),
        ({"delay": SECOND, "scheduled_at": NOW}, "give scheduled_at or delay, not both"),
        ({"delay": timedelta(0), "scheduled_at": NOW}, "give scheduled_at or delay, not both"),
    ],
    ids=repr,
)
def test_what_an_insert_cannot_say(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        Overrides(**options)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": -2, "max_retries": 0, "task_type": "x" * 500},
        {"priority": 2, "max_retries": 1_000_000},
        {"delay": timedelta(0)},
        {"delay": timedelta(days=36_600)},
        {"scheduled_at": NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))},
        {"scheduled_at": EARLIEST},
        {"scheduled_at": LATEST},
        {"uniq": False},
        {"uniq": Unique(by="n", within=SECOND)},
        {"timeout": timedelta(microseconds=1)},
        {"timeout": timedelta(days=36_600)},
        {"headers": {"a": "é" * 4_095, "b": ""}},
        dict.fromkeys(InsertOptions.__annotations__),
    ],
    ids=repr,
)
def test_what_an_insert_can_say(options: dict[str, Any]) -> None:
    overrides = Overrides(**options)

    row = dict(zip(COLUMNS, overrides.new_task(Parse(), Rules()).options, strict=True))
    said = {name: value for name, value in options.items() if value is not None}
    of_class = {"task_type": "heavy", "priority": 1, "max_retries": 3, "timeout": None, "headers": None}
    assert row == of_class | {name: said[name] for name in said if name in row}
    times = {"scheduled_at": overrides.scheduled_at, "delay": overrides.delay, "uniq": overrides.uniq}
    assert times == {name: said.get(name) for name in times}


def test_without_overrides_the_class_decides() -> None:
    new = Overrides().new_task(Parse(n=5), Rules(max_payload_bytes=1000))

    assert isinstance(new.id, UUID)
    assert new.id.version == 7
    options = ("heavy", 1, 3, None, None)
    assert new[1:] == ('{"type":"insertion.Parse","n":5}', "insertion.Parse", options, None, None, None, None)


def test_overrides_win_over_the_class_also_where_they_are_zero() -> None:
    new = Overrides(priority=0, max_retries=0, task_type="light").new_task(Parse(), Rules(max_payload_bytes=1000))

    assert new.options == ("light", 0, 0, None, None)


def test_ids_rise_in_the_order_given() -> None:
    rows = list(Bulk((Parse(n=n) for n in range(500)), Overrides(), Rules(max_payload_bytes=1000)))

    assert [row.metadata for row in rows] == [f'{{"type":"insertion.Parse","n":{n}}}' for n in range(500)]
    assert rows == sorted(rows)
    assert len({row.id for row in rows}) == 500


def test_one_bad_task_stops_them_all() -> None:
    with pytest.raises(PayloadError, match=r"insertion\.Parse\.n: the text contains NUL"):
        list(Bulk([Parse(), Parse(n="\0"), Parse()], Overrides(), Rules(max_payload_bytes=1000)))
    with pytest.raises(PayloadError, match="larger than 1000 bytes"):
        list(Bulk([Parse(n="x" * 1000)], Overrides(), Rules(max_payload_bytes=1000)))


def test_rows_of_a_bulk_are_made_when_they_are_asked_for_and_once() -> None:
    bulk = Bulk((Parse(n=n) for n in range(5)), Overrides(), Rules())
    assert (len(bulk), bulk.rows) == (5, [])
    rows = iter(bulk)
    first = [next(rows), next(rows)]
    assert bulk.rows == first
    assert list(bulk)[:2] == first
    assert list(bulk) == bulk.rows
    assert len(bulk.rows) == 5


@pytest.mark.parametrize(
    ("uniq", "rules", "is_unique"),
    [
        (None, Rules(), False),
        (True, Rules(), True),
        (None, Rules(duplicated_tasks=False), True),
        (False, Rules(duplicated_tasks=False), False),
    ],
)
def test_whether_any_of_a_bulk_is_unique_is_known_before(uniq: bool | None, rules: Rules, is_unique: bool) -> None:
    bulk = Bulk([Parse()], Overrides(uniq=uniq), rules)
    assert (bulk.is_unique, bulk.rows) == (is_unique, [])
    assert (next(iter(bulk)).uniq_hash is not None) == is_unique


def test_one_task_is_not_many() -> None:
    class Bare(Runnable):
        task_config = TaskConfig(kind="insertion.Bare")

        def run(self, queue: Queueable) -> None: ...

    with pytest.raises(UsageError, match="give several tasks, or insert_task for one Bare"):
        Bulk(Bare(), Overrides(), Rules())  # type: ignore[arg-type]


# Unique tasks, and ids ------------------------------------------------------------------------------------------------


class Once(Parse):
    task_config = TaskConfig(kind="insertion.Once", uniq=True)


@pytest.mark.parametrize(
    ("cls", "uniq", "duplicated_tasks", "is_unique"),
    [
        (Parse, None, True, False),
        (Parse, True, True, True),
        (Parse, None, False, True),
        (Parse, False, False, False),
        (Once, None, True, True),
        (Once, False, True, False),
        (Once, None, False, True),
        (Once, False, False, False),
    ],
)
def test_the_insert_decides_what_is_unique_then_the_class_and_the_queue(
    cls: type[Parse], uniq: bool | None, duplicated_tasks: bool, is_unique: bool
) -> None:
    row = Overrides(uniq=uniq).new_task(cls(n=5), Rules(duplicated_tasks=duplicated_tasks))

    assert row.uniq_hash == (uniq_hash(cls(n=5), row.metadata) if is_unique else None)


class OnceADay(Parse):
    task_config = TaskConfig(kind="insertion.OnceADay", uniq=Unique(by="n", within=timedelta(days=1)))
    note: str = ""


def test_the_insert_decides_how_a_task_is_unique_then_the_class() -> None:
    of_class, task = OnceADay.__fang_options__.unique, OnceADay(n=5)
    for overrides, rules, unique in (
        (Overrides(), Rules(), of_class),
        (Overrides(uniq=True), Rules(), of_class),
        (Overrides(), Rules(duplicated_tasks=False), of_class),
        (Overrides(uniq=False), Rules(duplicated_tasks=False), None),
        (Overrides(uniq=Unique()), Rules(), Unique()),
    ):
        assert overrides.uniqueness(task, rules) == unique
    (_, kind, *_), row = Overrides().new_task(Parse(), Rules())[1:], Overrides().new_task(task, Rules())
    assert kind == "insertion.Parse"
    assert row.terms is not None
    assert (row.uniq_hash, row.terms.period) == (row.terms.compared, row.terms.compared)
    assert (row.terms.waiting, row.terms.within) == (None, timedelta(days=1))
    assert row.terms.compared == Rules().hash_of_unique(OnceADay(n=5, note="another"))


@pytest.mark.parametrize(
    ("unique", "found"),
    [
        (Unique(), (True, False, False)),
        (Unique(by="n"), (True, False, False)),
        (Unique(while_="waiting"), (False, True, False)),
        (Unique(while_="waiting", within=SECOND), (False, True, True)),
        (Unique(while_="always"), (False, False, True)),
        (Unique(while_="always", within=SECOND), (False, False, True)),
        (Unique(within=SECOND), (True, False, True)),
        (Unique(on_conflict="raise"), (True, False, False)),
    ],
    ids=repr,
)
def test_where_the_hash_of_a_unique_task_goes(unique: Unique, found: tuple[bool, bool, bool]) -> None:
    row = Overrides(uniq=unique).new_task(Parse(), Rules())
    terms = row.terms
    assert (terms is None) == unique.is_plain
    assert found == (row.uniq_hash is not None, bool(terms and terms.waiting), bool(terms and terms.period))


def test_equal_tasks_of_a_bulk_are_refused_only_if_their_insert_is_to_raise() -> None:
    for unique in (Unique(on_conflict="replace"), Unique(while_="waiting"), Unique()):
        refuse_equal(Bulk([Parse(), Parse()], Overrides(uniq=unique), Rules()))
    refuse_equal(Bulk([Parse(n=1), Parse(n=2)], Overrides(uniq=Unique(on_conflict="raise")), Rules()))
    with pytest.raises(TwinExists, match=r"^insertion\.Parse: two of the tasks are equal"):
        refuse_equal(Bulk([Parse(), Parse(n=1), Parse()], Overrides(uniq=Unique(on_conflict="raise")), Rules()))


def test_the_hash_of_a_unique_task_is_that_of_its_insert() -> None:
    for task, rules, uniq in (
        (Once(n=5), Rules(), None),
        (Parse(n=5), Rules(duplicated_tasks=False), None),
        (Parse(n=5), Rules(), True),
    ):
        assert rules.hash_of_unique(task) == Overrides(uniq=uniq).new_task(task, rules).uniq_hash
    with pytest.raises(UsageError, match="str is not a task"):
        Rules().hash_of_unique("Parse")  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="larger than 10 bytes"):
        Rules(max_payload_bytes=10).hash_of_unique(Once(n="x" * 10))


def test_a_tick_beyond_what_can_be_stored_is_refused() -> None:
    with pytest.raises(UsageError, match="scheduled_at must lie between"):
        tick_of(Parse(), datetime(9999, 12, 31, tzinfo=UTC), Rules())


def test_a_tick_with_terms_of_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match="tasks of a schedule are unique while they wait or run, or not at all"):
        tick_of(OnceADay(), NOW, Rules())


def test_an_id_may_be_given() -> None:
    assert Overrides(UUID(int=7)).new_task(Parse(), Rules()).id == UUID(int=7)
    for bad in ("x", str(UUID(int=7)), 7):
        with pytest.raises(UsageError, match=r"^id must be a UUID, not (str: write|int$)"):
            Overrides(bad)  # type: ignore[arg-type]


def test_ids_sort_in_the_order_of_their_making_on_every_thread() -> None:
    """The order in which a bulk runs depends on it."""
    made: list[list[UUID]] = [[] for _ in range(4)]
    gate = threading.Barrier(4)

    def make(ids: list[UUID]) -> None:
        gate.wait()
        ids.extend(Overrides().new_task(Parse(), Rules()).id for _ in range(3_000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    for ids in made:
        assert len(ids) == 3_000
        assert ids == sorted(ids)
    assert len(set(chain(*made))) == 12_000


def new_row(chars: int) -> NewTask:
    return NewTask(uuid4(), "x" * chars, "kind", ("common", 0, 20, None, None))


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_chunks_keep_the_order_and_their_bounds(sizes: list[int], most_rows: int, most_chars: int) -> None:
    rows = [new_row(size) for size in sizes]
    chunks = list(in_chunks(rows, most_rows=most_rows, most_chars=most_chars))

    assert [row for chunk in chunks for row in chunk] == rows
    for chunk in chunks:
        assert 1 <= len(chunk) <= most_rows
        assert len(chunk) == 1 or sum(len(row.metadata) for row in chunk) <= most_chars
    # And no chunk could have taken the next one's first row as well.
    for chunk, after in pairwise(chunks):
        full = sum(len(row.metadata) for row in chunk) + len(after[0].metadata) > most_chars
        assert full or len(chunk) == most_rows


def test_a_row_above_the_bound_goes_alone() -> None:
    small, large = new_row(1), new_row(500)

    assert list(in_chunks([small, large, small], most_chars=100)) == [[small], [large], [small]]


def test_nothing_makes_no_chunk() -> None:
    assert list(in_chunks([])) == []


# Headers and expiry ---------------------------------------------------------------------------------------------------


class Fleeting(Runnable):
    task_config = TaskConfig(kind="insertion.Fleeting", timeout=SECOND, expires=2 * SECOND)

    def run(self, queue: Queueable) -> None: ...


@pytest.mark.parametrize(
    ("options", "timeout", "expires_at"),
    [
        ({}, SECOND, NOW + 2 * SECOND),
        ({"timeout": None, "expires": None}, SECOND, NOW + 2 * SECOND),
        ({"timeout": 5 * SECOND, "expires": 9 * SECOND}, 5 * SECOND, NOW + 9 * SECOND),
        ({"expires": NOW - SECOND}, SECOND, NOW - SECOND),
        ({"expires": timedelta(days=36_600)}, SECOND, NOW + timedelta(days=36_600)),
    ],
)
def test_an_insert_overrides_what_the_class_says(options: Any, timeout: timedelta, expires_at: datetime) -> None:
    row = Overrides(**options).new_task(Fleeting(), Rules()).inserted(NOW, NOW)
    assert (row.timeout, row.expires_at) == (timeout, expires_at)


def test_nothing_expires_behind_the_last_time() -> None:
    row = Overrides(expires=timedelta(days=36_600)).new_task(Fleeting(), Rules())
    assert row.inserted(LATEST - SECOND, NOW).expires_at == LATEST


def test_headers_are_those_of_the_call_and_what_is_added() -> None:
    given = {"a": "1", "b": "2"}

    def add(headers: dict[str, str]) -> None:
        headers.update(b="3", c="4")
        del headers["a"]

    rules = Rules(inject=[add])
    assert rules.overrides(headers=given).new_task(Parse(), rules).options[-1] == {"b": "3", "c": "4"}
    assert given == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("inject", "message"),
    [
        (lambda headers: None, "inject is a list of functions"),
        ("inject", "inject is a list of functions"),
        (["inject"], "inject is a list of functions"),
        ([None], "inject is a list of functions"),
    ],
)
def test_what_cannot_add_headers_is_refused(inject: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Rules(inject=inject)


def test_async_functions_cannot_add_headers() -> None:
    async def add(headers: dict[str, str]) -> None: ...

    class Adds:
        async def __call__(self, headers: dict[str, str]) -> None: ...

    for inject in (add, Adds()):
        with pytest.raises(UsageError, match="inject takes no async functions"):
            Rules(inject=[inject])


class Tenant(StrEnum):
    KEY = "tenant"
    ACME = "acme"


class Lies(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "a lie"

    def encode(self, *_: Any) -> bytes:
        return b""

    def __contains__(self, _: object) -> bool:
        return False


def test_headers_are_plain_texts() -> None:
    given: Any = {Tenant.KEY: Tenant.ACME, Lies("a"): Lies("b")}
    headers = Overrides(headers=given).new_task(Parse(), Rules()).options[COLUMNS.index("headers")]
    assert headers == {"tenant": "acme", "a": "b"}
    assert {type(text) for text in (*headers, *headers.values())} == {str}


@pytest.mark.parametrize(("text", "message"), [("a\0", "NUL"), ("a" * 8_193, "8192 bytes"), ("\ud800", "surrogates")])
def test_headers_that_lie_about_what_they_are_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Overrides(headers={"a": Lies(text)})


def test_what_is_added_is_checked() -> None:
    def add(headers: Any) -> None:
        headers["n"] = 5

    with pytest.raises(UsageError, match="headers must have only str as keys and values, not int"):
        Rules(inject=[add]).overrides()


def test_a_list_that_changes_later_changes_nothing() -> None:
    inject: list[Any] = []
    rules = Rules(inject=inject)
    inject.append(lambda headers: headers.update(a="1"))
    assert rules.inject == ()
