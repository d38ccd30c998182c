"""Shows schedules with their next ticks, and pauses, resumes, runs and removes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from fang_core.errors import IdInUse, UsageError
from fang_core.monitoring.unserved import unserved_schedule
from fang_core.record import PoolInfo
from fang_core.schedules.schedule import Cron, Every, ScheduleOnce
from fang_core.schedules.stored import ScheduleInfo
from fang_core.tasks.scheduling import SHOWN
from fang_core.words.spans import span
from fang_web.audited import audited
from fang_web.auth import Role
from fang_web.figures import Reader, done_by
from fang_web.once import came_of, is_sent_already, new_task_id, sent_already
from fang_web.pages.pausing import lasts
from fang_web.rendering import clock
from fang_web.routing import Route, action, page
from fang_web.shortening import MOST_SCHEDULES, matching, shortened
from fang_web.view import View


async def schedules(view: View) -> Response:
    """Shows schedules, in the order of their next ticks; those with the first names if there are very many."""
    reader = Reader(view)
    # Without ticks: to find those of thousands of schedules takes seconds, in which no other request is answered.
    found: list[ScheduleInfo] = await reader.read("schedules", view.queue.schedules.list(ticks=0), [])
    shown = shortened(matching(found, view.parameters.text("q"), lambda info: info.name), MOST_SCHEDULES)
    now = datetime.now(UTC)
    infos = sorted((info.with_upcoming(now, SHOWN) for info in shown.rows), key=_next_tick)
    pools: Sequence[PoolInfo] | None = await reader.read("pools", view.queue.pools(), None)
    rows = [(info, when(info), _in_code(info), _task(info, pools), new_task_id()) for info in infos]
    return view.render("schedules.html", rows=rows, shown=shown, done=await done_by(view), unread=reader.unread)


def _next_tick(info: ScheduleInfo) -> tuple[bool, datetime, str]:
    """Returns what puts schedules into the order of their next ticks, those without one at the end."""
    return (not info.upcoming, info.upcoming[0].at if info.upcoming else info.last_tick, info.name)


def when(info: ScheduleInfo) -> str:
    """Returns when a schedule is due, in words."""
    try:
        schedule = info.schedule
    except UsageError:
        return "never: its row cannot be understood"
    match schedule:
        case Cron():
            return f"{schedule.pattern} in {info.zone}"
        case Every():
            return f"every {span(schedule.interval)}"
        case ScheduleOnce():
            return f"once, at {clock(schedule.at)}"


def _in_code(info: ScheduleInfo) -> str:
    """Returns when a class is due, in words, if this was put in the place of its schedule."""
    return when(info._replace(kind=None, tz=None)) if info.is_stored and info.declared else ""


def _task(info: ScheduleInfo, pools: Sequence[PoolInfo] | None) -> tuple[str, str, str]:
    """Returns the kind and the task type of its tasks, and what pools lack to make its ticks, if that is known."""
    found = None if pools is None else unserved_schedule(info, pools)
    lacking = ""
    if found is not None:
        lacking = "no pool serves this task type" if found.kind is None else "no pool of this task type has this class"
    return str(info.kind or (info.declared or {}).get("kind", "")), info.served_as or "", lacking


async def pause(view: View) -> Response:
    """Pauses a schedule."""
    name, reason = view.form.required("name"), view.form.text("reason", most=500)
    said, until = lasts(view)
    async with audited(view, "pause schedule", name, {"reason": reason, "for": said}) as change:
        await view.queue.schedules.pause(name, until=until, reason=reason or None, by=view.user.name)
        change.result = f"paused {said}"
    return view.redirect("schedules", done=change.id)


async def resume(view: View) -> Response:
    """Ends the pause of a schedule."""
    name = view.form.required("name")
    async with audited(view, "resume schedule", name) as change:
        await view.queue.schedules.resume(name, by=view.user.name)
        change.result = "resumed"
    return view.redirect("schedules", done=change.id)


async def run_now(view: View) -> Response:
    """Inserts a task of a schedule that is due now."""
    name, id = view.form.required("name"), view.form.id("id") or new_task_id()
    async with audited(view, "run schedule", name) as change:
        if await is_sent_already(view, id):
            change.result = sent_already(id)
        else:
            try:
                change.result = came_of(await view.queue.schedules.run_now(name, id=id), id)
            except IdInUse:  # the schedule was put with another payload between two clicks
                change.result = sent_already(id)
    return view.redirect("schedules", done=change.id)


async def remove(view: View) -> Response:
    """Removes a schedule."""
    name = view.form.required("name")
    async with audited(view, "remove schedule", name) as change:
        was_there = await view.queue.schedules.remove(name)
        change.result = "removed" if was_there else "it was gone already"
    return view.redirect("schedules", done=change.id)


ROUTES: Final[list[Route]] = [
    page("/schedules", schedules),
    action("/actions/pause-schedule", pause, role=Role.OPERATOR),
    action("/actions/resume-schedule", resume, role=Role.OPERATOR),
    action("/actions/run-schedule", run_now, role=Role.OPERATOR),
    action("/actions/remove-schedule", remove, role=Role.ADMIN),
]
