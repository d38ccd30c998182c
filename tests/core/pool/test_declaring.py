"""What the classes of a pool declare."""

from typing import Any

import pytest

from fang_core import AsyncRunnable, DefinitionError, Fair, Limit, Rate, Runnable, TaskConfig
from fang_core.backends.pools import Declaration
from fang_core.pool.declaring import declarations, news
from fang_core.tasks.registry import Registry


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Kinds are global: the classes of these tests register with one of their own."""
    fresh = Registry()
    for module in ("fang_core.tasks.runnable", "fang_core.pool.declaring"):
        monkeypatch.setattr(f"{module}.REGISTRY", fresh)
    return fresh


def define(name: str, base: type = Runnable, **config: Any) -> Any:
    class Task(base):  # type: ignore[misc, valid-type]
        task_config = TaskConfig(kind=name, **config)
        tenant: str = ""
        customer: str = ""

        if base is Runnable:

            def run(self, queue: Any) -> None: ...

        else:

            async def run(self, queue: Any) -> None: ...

    return Task


def test_each_kind_declares_for_its_own_type_and_withdraws_from_the_others() -> None:
    classes = {
        "Export": define("Export", task_type="exports", limits=[Limit(5)], fair_by="tenant"),
        "Mail": define("Mail", task_type="mail"),
    }
    assert declarations(classes, ("exports", "mail")) == [
        Declaration("exports", {"Export": [{"limit": 5}, {"fair": True, "by": "tenant"}], "Mail": []}),
        Declaration("mail", {"Export": [], "Mail": []}),
    ]


def test_news_are_what_was_not_declared_before() -> None:
    before = [Declaration("exports", {"Export": [{"limit": 5}], "Mail": []})]
    now = [Declaration("exports", {"Export": [{"limit": 6}], "Mail": [], "Late": []})]
    assert news(now, before) == [Declaration("exports", {"Export": [{"limit": 6}], "Late": []})]


def test_a_former_kind_declares_nothing() -> None:
    renamed = define("New", former_kinds=("Old",), limits=[Limit(5)])
    (declared,) = declarations({"New": renamed, "Old": renamed}, ("common",))
    assert declared.limits == {"New": [{"limit": 5}], "Old": []}


@pytest.mark.parametrize("base", [Runnable, AsyncRunnable])
@pytest.mark.parametrize("other", [{}, {"limits": [Limit(6)]}, {"limits": [Limit(5), Rate(10)]}])
def test_classes_of_a_type_that_declare_different_things_are_refused(base: type, other: Any) -> None:
    """Of the other mode too: a pool of that one would declare the other thing."""
    first = define("First", limits=[Limit(5)])
    define("Second", base, **other)
    told = r"^tests\.core\.pool\.test_declaring\.define.* \(5 at once.*\) and .*define.* \(.*\) have the task type"
    with pytest.raises(DefinitionError, match=told):
        declarations({"First": first}, ("common",))
    assert declarations({"First": first}, ("exports",))[0].limits == {"First": []}


def test_classes_of_a_type_may_make_their_keys_in_different_ways() -> None:
    first = define("First", fair_by=Fair("tenant"), limits=[Limit(2, by="tenant")])
    second = define("Second", fair_by=Fair("customer"), limits=[Limit(2, by="customer")])
    (declared,) = declarations({"First": first, "Second": second}, ("common",))
    assert [rules[0]["by"] for rules in declared.limits.values()] == ["tenant", "customer"]
