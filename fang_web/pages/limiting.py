"""Shows the limits of a task type and who holds them by key; sets them, and gives them back to the code."""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from itertools import chain
from typing import Final, NamedTuple

from starlette.responses import Response

from fang_core.flow.info import TypeInfo
from fang_core.flow.keys import By, by_name
from fang_core.flow.limits import Fair, FlowRule, Limit, Rate
from fang_core.lifecycle import DUE_STATES
from fang_core.masking.keys import shown_key, shown_rules
from fang_core.masking.masks import masks_of
from fang_core.record import TaskState
from fang_core.tasks.selecting.filter import TaskFilter
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.errors import BadRequest
from fang_web.figures import Reader
from fang_web.parameters import Parameters
from fang_web.routing import Route, action
from fang_web.view import View

PERIODS: Final = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
"""What a rate can be counted by, in the form."""
MOST_LOOKED_AT: Final = 500
"""Tasks that run, and that wait, of which the keys are counted."""
MOST_KEYS: Final = 20
_MOST: Final = 1_000_000


class LimitsForm(NamedTuple):
    """Holds the values of the form of limits: a number, or a number and a period; None for an empty field.

    Attributes:
        limit, rate: of the whole type.
        each, rate_each: of each key.
        by: the names of the fields that make the key.
        staying: the rules that the form cannot express, so that setting limits in it keeps them.
    """

    limit: int | None
    rate: tuple[int, str] | None
    each: int | None
    rate_each: tuple[int, str] | None
    by: str
    staying: list[str]


class KeyUse(NamedTuple):
    """Counts the tasks of a key that run, and that wait, among those that were looked at."""

    key: str
    running: int
    waiting: int


class KeyUses(NamedTuple):
    """Counts the running and waiting tasks of a task type by key.

    Attributes:
        keys: those with the most tasks that run, and then that wait.
        hidden: how many more there are.
        is_all: whether all tasks of the type have been looked at.
    """

    keys: list[KeyUse]
    hidden: int
    is_all: bool


def form_of_limits(info: TypeInfo | None) -> LimitsForm:
    """Returns what the form shows of the rules that hold."""
    rules = () if info is None else info.rules
    declared = () if info is None else chain.from_iterable(info.declared.values())
    by = next((rule.by for rule in (*rules, *declared) if rule.by is not None), None)
    whole, each = (_limit(rules, by_key=by_key) for by_key in (False, True))
    rates = [_sayable(_rate(rules, by_key=by_key)) for by_key in (False, True)]
    return LimitsForm(whole, rates[0], each, rates[1], _by_text(by), [str(rule) for rule in rules if _is_odd(rule)])


def counts_by_key(info: TypeInfo | None) -> bool:
    """Returns whether tasks of the type have keys that are counted."""
    return bool(form_of_limits(info).by)


async def read_keys(reader: Reader, view: View, task_type: str) -> KeyUses | None:
    """Counts the keys of the first tasks that run and wait; None if that cannot be read."""
    pages = []
    for states in ((TaskState.IN_PROGRESS,), tuple(DUE_STATES)):
        wanted = TaskFilter(task_types=[task_type], states=states)
        pages.append(await reader.read("keys", view.queue.list_tasks(wanted, limit=MOST_LOOKED_AT), None))
    running, waiting = pages
    if running is None or waiting is None:
        return None
    masks = {
        kind: masks_of(kind, view.settings.masked) for kind in {task.kind for page in pages for task in page.tasks}
    }
    counts = [Counter(shown_key(task, masks[task.kind]) or "" for task in page.tasks) for page in (running, waiting)]
    keys = [KeyUse(key, counts[0][key], counts[1][key]) for key in {*counts[0], *counts[1]}]
    keys.sort(key=lambda each: (-each.running, -each.waiting, each.key))
    return KeyUses(keys[:MOST_KEYS], len(keys[MOST_KEYS:]), running.cursor is None and waiting.cursor is None)


# What is changed ------------------------------------------------------------------------------------------------------


async def set_limits(view: View) -> Response:
    """Sets how many tasks of the type run at once, and how fast they start. What the form cannot say stays."""
    name, reason = view.form.required("name"), view.form.text("reason", most=500)
    wanted = _wanted(view.form)
    infos: list[TypeInfo] = await view.queue.limits.list()
    info = next((each for each in infos if each.task_type == name), None)
    old = () if info is None else info.rules
    rules = [_with_burst(rule, old) for rule in wanted] + _staying(old, wanted)
    said = ", ".join(map(str, shown_rules(info, rules, view.settings.masked))) or "none"
    async with audited(view, "set limits", name, {"limits": said, "reason": reason}) as change:
        await view.queue.limits.set(name, rules, reason=reason or None, by=view.user.name)
        change.result = f"limits: {said}"
    return view.redirect("queues", name, done=change.id)


async def remove_limits(view: View) -> Response:
    """Forgets what was set, so that what the code declares holds again."""
    name = view.form.required("name")
    async with audited(view, "remove limits", name) as change:
        await view.queue.limits.remove(name, by=view.user.name)
        change.result = "what the code declares holds again"
    return view.redirect("queues", name, done=change.id)


def _wanted(form: Parameters) -> list[FlowRule]:
    rules: list[FlowRule] = []
    limit = form.whole("limit", least=0, most=_MOST, default=-1)
    if limit >= 0:
        rules.append(Limit(limit))
    rules += _wanted_rate(form, "rate", "per", None)
    each = form.whole("each", least=1, most=_MOST, default=0)
    if each or form.text("rate_each"):
        by = _wanted_by(form)
        rules += [Limit(each, by=by)] if each else []
        rules += _wanted_rate(form, "rate_each", "per_each", by)
    return rules


def _wanted_rate(form: Parameters, name: str, period: str, by: By | None) -> list[FlowRule]:
    rate = form.whole(name, least=0, most=_MOST, default=0)
    if rate:
        return [Rate(rate, per=PERIODS[form.choice(period, PERIODS, default="s")], by=by)]
    if form.raw(name, most=20) == "0":
        raise BadRequest("a rate of 0 starts nothing: pause the task type, or leave the rate empty for none")
    return []


def _wanted_by(form: Parameters) -> By:
    names = tuple(name.strip() for name in form.text("by", most=500).split(","))
    if not all(names):
        raise BadRequest("a limit of each key needs the name of the field that makes the key, as the class has it")
    return names[0] if len(names) == 1 else names


# Rules ----------------------------------------------------------------------------------------------------------------


def _limit(rules: Collection[FlowRule], *, by_key: bool) -> int | None:
    return next((rule.n for rule in rules if isinstance(rule, Limit) and (rule.by is not None) is by_key), None)


def _rate(rules: Collection[FlowRule], *, by_key: bool) -> Rate | None:
    return next((rule for rule in rules if isinstance(rule, Rate) and (rule.by is not None) is by_key), None)


def _sayable(rate: Rate | None) -> tuple[int, str] | None:
    """Returns the rate as the form has it; None if there is none, or one that the form cannot say."""
    unit = next((name for name, period in PERIODS.items() if rate is not None and period == rate.per), None)
    return None if rate is None or unit is None else (rate.n, unit)


def _is_odd(rule: FlowRule) -> bool:
    """Returns whether the form cannot say this rule."""
    return isinstance(rule, Fair) or (isinstance(rule, Rate) and _sayable(rule) is None)


def _staying(old: Collection[FlowRule], wanted: Collection[FlowRule]) -> list[FlowRule]:
    """Returns the rules that the form cannot express, without the rates that rates of the form replace."""
    replaced = {rule.by is None for rule in wanted if isinstance(rule, Rate)}
    return [rule for rule in old if _is_odd(rule) and not (isinstance(rule, Rate) and (rule.by is None) in replaced)]


def _with_burst(rule: FlowRule, rules: Collection[FlowRule]) -> FlowRule:
    """Returns the rule that holds already if it differs in nothing that the form can say."""
    old = _rate(rules, by_key=rule.by is not None)
    is_same = isinstance(rule, Rate) and old is not None and (rule.n, rule.per) == (old.n, old.per)
    return old if is_same and old is not None and _by_text(rule.by) == _by_text(old.by) else rule


def _by_text(by: By | None) -> str:
    if by is None:
        return ""
    name = by_name(by)
    return name if isinstance(name, str) else ", ".join(name)


ROUTES: Final[list[Route]] = [
    action("/actions/set-limits", set_limits, role=Role.ADMIN),
    action("/actions/remove-limits", remove_limits, role=Role.ADMIN),
]
