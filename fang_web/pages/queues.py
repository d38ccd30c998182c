"""Shows task types: how they stand, whether they are paused, their limits; pauses and resumes them, sets limits."""

from datetime import timedelta
from typing import Final, NamedTuple

from markupsafe import Markup
from starlette.responses import Response

from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowRule, Limit, Rate
from fang_core.monitoring.stats import KindStats, Stats, TypeStats
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.charts import throughput
from fang_web.errors import BadRequest
from fang_web.figures import Reader, done_by
from fang_web.pages.pausing import lasts
from fang_web.parameters import SPANS
from fang_web.routing import Route, action, page
from fang_web.shortening import matching, shortened
from fang_web.view import View

PERIODS: Final = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
"""What a rate can be counted by, in the form."""
_MOST: Final = 1_000_000


class QueueRow(NamedTuple):
    """What the page shows of a task type.

    Attributes:
        name: its name.
        now: how it stands, if that is known.
        info: if it is paused or limited, how.
        rules: its limits, in words.
    """

    name: str
    now: TypeStats | None
    info: TypeInfo | None
    rules: list[str]


async def queues(view: View) -> Response:
    """Shows all task types."""
    reader = Reader(view)
    stats = await reader.stats(timedelta(hours=1))
    infos: list[TypeInfo] = await reader.read("limits", view.queue.limits.list(), [])
    shown = shortened(matching(_rows(stats, infos), view.parameters.text("q"), lambda row: row.name))
    return view.render("queues.html", shown=shown, done=await done_by(view), unread=reader.unread)


async def queue(view: View) -> Response:
    """Shows one task type, with a form for its limits."""
    name = view.segment("task_type")
    span_name, since = view.parameters.since()
    reader = Reader(view)
    stats = await reader.stats(since, task_types=[name])
    infos: list[TypeInfo] = await reader.read("limits", view.queue.limits.list(), [])
    rows = _rows(stats, [info for info in infos if info.task_type == name])
    row = next((each for each in rows if each.name == name), QueueRow(name, None, None, []))
    chart = throughput(stats.points, stats.since, stats.until) if stats and stats.points else Markup("")
    kinds: list[KindStats] = [each for each in stats.kinds if each.task_type == name] if stats else []
    return view.render(
        "queue.html",
        row=row,
        limit=_of_whole_type(row.info, Limit),
        rate=_rate(row.info),
        staying=[str(rule) for rule in _staying(row.info)],
        since=span_name,
        spans=list(SPANS),
        kinds=kinds,
        chart=chart,
        done=await done_by(view),
        unread=reader.unread,
    )


def _rows(stats: Stats | None, infos: list[TypeInfo]) -> list[QueueRow]:
    now = {each.task_type: each for each in (stats.types if stats else ())}
    known = {info.task_type: info for info in infos}
    return [
        QueueRow(name, now.get(name), known.get(name), [str(rule) for rule in _rules(known.get(name))])
        for name in sorted({*now, *known})
    ]


def _rules(info: TypeInfo | None) -> tuple[FlowRule, ...]:
    return () if info is None else info.rules


def _staying(info: TypeInfo | None) -> list[FlowRule]:
    """Returns the rules that the form cannot say, so that setting others leaves them: those by key, odd rates."""
    return [
        rule
        for rule in _rules(info)
        if rule.by is not None or (isinstance(rule, Rate) and rule.per not in PERIODS.values())
    ]


def _of_whole_type(info: TypeInfo | None, kind: type[Limit] | type[Rate]) -> FlowRule | None:
    return next((rule for rule in _rules(info) if isinstance(rule, kind) and rule.by is None), None)


def _rate(info: TypeInfo | None) -> tuple[int, str] | None:
    """Returns the rate of the whole type as the form has it; None if there is none, or one that the form cannot say."""
    rule = _of_whole_type(info, Rate)
    if not isinstance(rule, Rate):
        return None
    unit = next((name for name, period in PERIODS.items() if period == rule.per), None)
    return None if unit is None else (rule.n, unit)


# What is changed ------------------------------------------------------------------------------------------------------


async def pause(view: View) -> Response:
    """Pauses a task type."""
    name, reason = view.form.required("name"), view.form.text("reason", most=500)
    said, until = lasts(view)
    async with audited(view, "pause", name, {"reason": reason, "for": said}) as change:
        await view.queue.pause(name, until=until, reason=reason or None, by=view.user.name)
        change.result = f"paused {said}"
    return view.redirect("queues", done=change.id)


async def resume(view: View) -> Response:
    """Ends the pause of a task type."""
    name = view.form.required("name")
    async with audited(view, "resume", name) as change:
        await view.queue.resume(name)
        change.result = "resumed"
    return view.redirect("queues", done=change.id)


async def set_limits(view: View) -> Response:
    """Sets how many tasks of the type run at once, and how fast they start. What the form cannot say stays."""
    name, reason = view.form.required("name"), view.form.text("reason", most=500)
    wanted = _wanted(view)
    infos: list[TypeInfo] = await view.queue.limits.list()
    info = next((each for each in infos if each.task_type == name), None)
    rules = [_with_burst(rule, info) for rule in wanted] + _staying(info)
    said = ", ".join(map(str, rules)) or "none"
    async with audited(view, "set limits", name, {"limits": said, "reason": reason}) as change:
        await view.queue.limits.set(name, rules, reason=reason or None, by=view.user.name)
        change.result = f"limits: {said}"
    return view.redirect("queues", name, done=change.id)


def _wanted(view: View) -> list[FlowRule]:
    rules: list[FlowRule] = []
    limit = view.form.whole("limit", least=0, most=_MOST, default=-1)
    if limit >= 0:
        rules.append(Limit(limit))
    rate = view.form.whole("rate", least=0, most=_MOST, default=0)
    if rate:
        rules.append(Rate(rate, per=PERIODS[view.form.choice("per", PERIODS, default="s")]))
    elif view.form.raw("rate", most=20) == "0":
        raise BadRequest("a rate of 0 starts nothing: pause the task type, or leave the rate empty for none")
    return rules


def _with_burst(rule: FlowRule, info: TypeInfo | None) -> FlowRule:
    """Returns the rule that holds already if it differs in nothing that the form can say."""
    old = _of_whole_type(info, Rate)
    if isinstance(rule, Rate) and isinstance(old, Rate) and (rule.n, rule.per) == (old.n, old.per):
        return old
    return rule


async def remove_limits(view: View) -> Response:
    """Forgets what was set, so that what the code declares holds again."""
    name = view.form.required("name")
    async with audited(view, "remove limits", name) as change:
        await view.queue.limits.remove(name, by=view.user.name)
        change.result = "what the code declares holds again"
    return view.redirect("queues", name, done=change.id)


ROUTES: Final[list[Route]] = [
    page("/queues", queues),
    page("/queues/{task_type:path}", queue),
    action("/actions/pause-type", pause, role=Role.OPERATOR),
    action("/actions/resume-type", resume, role=Role.OPERATOR),
    action("/actions/set-limits", set_limits, role=Role.ADMIN),
    action("/actions/remove-limits", remove_limits, role=Role.ADMIN),
]
