"""What holds for a task type."""

from datetime import timedelta

from fang_core import Fair, FlowSettings, Limit, Rate
from fang_core.flow.limits import Gcra
from fang_core.flow.settings import effective

SECOND = timedelta(seconds=1)


def test_nothing_holds_unless_it_is_declared_or_set() -> None:
    assert effective({}, None) == FlowSettings()
    assert effective({"Mail": ()}, None) == FlowSettings()


def test_the_strictest_holds_of_what_classes_declare() -> None:
    old = [Limit(5), Limit(3, by="tenant"), Rate(10, burst=4)]
    new = [Limit(8), Limit(2, by="tenant"), Rate(60, per=60 * SECOND, burst=8, by="tenant"), Fair("tenant")]
    slow = [Rate(5, burst=6), Fair("tenant", weights={"acme": 2})]

    assert effective({"a": old, "b": new, "c": slow}, None) == FlowSettings(
        max_running=5,
        max_running_per_key=2,
        rate=Gcra(SECOND / 5, 4),
        key_rate=Gcra(SECOND, 8),
        fair=True,
        weights={"acme": 2},
    )


def test_what_a_person_has_set_holds_alone() -> None:
    declared = {"a": [Limit(5), Rate(10)]}
    assert effective(declared, [Limit(7)]) == FlowSettings(max_running=7)
    assert effective(declared, []) == FlowSettings()
