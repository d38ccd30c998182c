"""Says what the task classes of a pool declare for its task types: limits, rates and fairness."""

from collections.abc import Iterable, Mapping, Sequence

from fang_core.backends.pools import Declaration
from fang_core.errors import DefinitionError
from fang_core.flow.limits import rules_as_json, settings_of
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable


def declarations(classes: Mapping[str, type[BaseRunnable]], task_types: Sequence[str]) -> list[Declaration]:
    """Returns what these classes, by kind, declare for each of the task types.

    It withdraws what other releases have declared for kinds that now declare nothing. Raises ``DefinitionError`` if two
    classes of one task type declare different things, whether they are of this mode or of the other one.
    """
    _check_that_all_agree([*classes.values(), *REGISTRY.classes()], frozenset(task_types))
    nothing: dict[str, list[dict[str, object]]] = {kind: [] for kind in classes}
    declared: dict[str, dict[str, list[dict[str, object]]]] = {}
    for cls in classes.values():
        options = cls.__fang_options__
        if options.rules:
            declared.setdefault(options.task_type, {})[options.kind] = rules_as_json(options.rules)
    return [Declaration(task_type, nothing | declared.get(task_type, {})) for task_type in task_types]


def news(declared: Iterable[Declaration], before: Iterable[Declaration]) -> list[Declaration]:
    """Returns what is declared now and was not before.

    The rest stays as it is: pools of a newer release may have declared something else for these kinds meanwhile.
    """
    known = {each.task_type: each.limits for each in before}
    return [
        each._replace(
            limits={kind: rules for kind, rules in each.limits.items() if known[each.task_type].get(kind) != rules}
        )
        for each in declared
    ]


def repeated(declared: Iterable[Declaration]) -> list[Declaration]:
    """Returns what a pool declares again that was taken for dead: others may have dropped it meanwhile."""
    return [each._replace(is_repeated=True) for each in declared if any(each.limits.values())]


def _check_that_all_agree(classes: Iterable[type[BaseRunnable]], task_types: frozenset[str]) -> None:
    """Raises ``DefinitionError`` unless all classes of a task type declare the same.

    The fields that make the keys may differ, since classes may name them differently.
    """
    first: dict[str, type[BaseRunnable]] = {}
    for cls in classes:
        task_type = cls.__fang_options__.task_type
        if task_type not in task_types:
            continue
        other = first.setdefault(task_type, cls)
        if settings_of(cls.__fang_options__.rules) != settings_of(other.__fang_options__.rules):
            limited, unlimited = sorted((other, cls), key=lambda each: not each.__fang_options__.rules)
            raise DefinitionError(
                f"{_told(limited)} and {_told(unlimited)} have the task type {task_type!r:.100}, whose limits hold for "
                "both: give one of them another task_type, or both the same limits and fair_by"
            )


def _told(cls: type[BaseRunnable]) -> str:
    rules = cls.__fang_options__.rules
    return f"{cls.__module__}.{cls.__qualname__} ({'; '.join(map(str, rules)) if rules else 'no limits'})"
