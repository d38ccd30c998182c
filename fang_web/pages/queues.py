"""Shows task types: how they stand, whether they are paused, their limits; pauses and resumes them."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final, NamedTuple

from markupsafe import Markup
from starlette.responses import Response

from fang_core.flow.info import TypeInfo
from fang_core.flow.limits import FlowRule
from fang_core.masking.keys import shown_type
from fang_core.monitoring.stats import KindStats, Stats, TypeStats
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.charts import throughput
from fang_web.figures import Reader, done_by
from fang_web.pages.limiting import MOST_LOOKED_AT, counts_by_key, form_of_limits, read_keys
from fang_web.pages.pausing import lasts
from fang_web.parameters import SPANS
from fang_web.routing import Route, action, page
from fang_web.shortening import matching, shortened
from fang_web.view import View


class QueueRow(NamedTuple):
    """Holds what the page shows of a task type.

    Attributes:
        name: its name.
        now: how it stands, if that is known.
        info: if it is paused or limited, how.
        rules: its limits, in words.
        declared: what each class says of them in the code, in words.
    """

    name: str
    now: TypeStats | None
    info: TypeInfo | None
    rules: list[str]
    declared: list[str]


async def queues(view: View) -> Response:
    """Shows all task types."""
    reader = Reader(view)
    stats = await reader.stats(timedelta(hours=1))
    infos = await _read_types(reader, view)
    shown = shortened(matching(_rows(stats, infos), view.parameters.text("q"), lambda row: row.name))
    return view.render("queues.html", shown=shown, done=await done_by(view), unread=reader.unread)


async def queue(view: View) -> Response:
    """Shows one task type, with a form for its limits."""
    name = view.segment("task_type")
    span_name, since = view.parameters.since()
    reader = Reader(view)
    stats = await reader.stats(since, task_types=[name])
    infos = await _read_types(reader, view)
    rows = _rows(stats, [info for info in infos if info.task_type == name])
    row = next((each for each in rows if each.name == name), QueueRow(name, None, None, [], []))
    chart = throughput(stats.points, stats.since, stats.until) if stats and stats.points else Markup("")
    kinds: list[KindStats] = [each for each in stats.kinds if each.task_type == name] if stats else []
    return view.render(
        "queue.html",
        row=row,
        limits=form_of_limits(row.info),
        keys=await read_keys(reader, view, name) if counts_by_key(row.info) else None,
        most_looked_at=MOST_LOOKED_AT,
        since=span_name,
        spans=list(SPANS),
        kinds=kinds,
        chart=chart,
        done=await done_by(view),
        unread=reader.unread,
    )


async def _read_types(reader: Reader, view: View) -> list[TypeInfo]:
    """Returns what is known of the types that are paused or limited, as it may be shown."""
    infos: list[TypeInfo] = await reader.read("limits", view.queue.limits.list(), [])
    return [shown_type(info, view.settings.masked) for info in infos]


def _rows(stats: Stats | None, infos: list[TypeInfo]) -> list[QueueRow]:
    now = {each.task_type: each for each in (stats.types if stats else ())}
    known = {info.task_type: info for info in infos}
    return [
        QueueRow(name, now.get(name), info, *([], []) if info is None else (_texts(info.rules), _declared(info)))
        for name, info in ((name, known.get(name)) for name in sorted({*now, *known}))
    ]


def _declared(info: TypeInfo) -> list[str]:
    return [f"{kind}: {'; '.join(_texts(rules)) or 'no limits'}" for kind, rules in sorted(info.declared.items())]


def _texts(rules: Iterable[FlowRule]) -> list[str]:
    return [str(rule) for rule in rules]


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


ROUTES: Final[list[Route]] = [
    page("/queues", queues),
    page("/queues/{task_type:path}", queue),
    action("/actions/pause-type", pause, role=Role.OPERATOR),
    action("/actions/resume-type", resume, role=Role.OPERATOR),
]
