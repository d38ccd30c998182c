"""Spans and metrics of inserts, runs and completions, in both modes, as OpenTelemetry's SDK receives them."""

import asyncio
import pickle
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from fang_async import AsyncMemoryQueue, AsyncQueueable, AsyncRunnable, AsyncWorkerPool
from fang_core.errors import IdInUse
from fang_telemetry.opentelemetry import OpenTelemetry
from fang_threaded import MemoryQueue, Queueable, Runnable, Snooze, TaskConfig, WorkerPool

CURRENT: list[int] = []


class Traced(Runnable):
    task_config = TaskConfig(task_type="mail", max_retries=0)
    does: str

    def run(self, queue: Queueable) -> None:
        CURRENT.append(get_current_span().get_span_context().span_id)
        if self.does == "fail":
            raise ValueError("a card number")
        if self.does == "snooze":
            raise Snooze(timedelta(hours=1))
        if self.does == "snooze in a group":
            raise ExceptionGroup("of a task group", [Snooze(timedelta(hours=1))])
        if self.does == "insert":
            queue.insert_task(Traced(does="end"))


class TracedAsync(AsyncRunnable):
    task_config = TaskConfig(task_type="mail")

    async def run(self, queue: AsyncQueueable) -> None:
        await asyncio.sleep(0)
        CURRENT.append(get_current_span().get_span_context().span_id)


class Seen(NamedTuple):
    """What a test has: Fang's side, and the SDK's."""

    telemetry: OpenTelemetry
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    providers: dict[str, Any]

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return [point for metric in metrics for point in metric.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    providers: dict[str, Any] = {"tracer_provider": tracers, "meter_provider": meters}
    CURRENT.clear()
    yield Seen(OpenTelemetry(**providers), exporter, reader, providers)
    tracers.shutdown()
    meters.shutdown()


def drained(seen: Seen, *tasks: Traced, telemetry: OpenTelemetry | None = None) -> MemoryQueue:
    telemetry = telemetry or seen.telemetry
    queue = MemoryQueue(insert_middleware=[telemetry.insert])
    for task in tasks:
        queue.insert_task(task)
    WorkerPool(queue, task_type="mail", middleware=[telemetry.run], events=[telemetry]).drain()
    return queue


def test_a_run_is_linked_to_the_insert_and_is_current_while_it_runs(seen: Seen) -> None:
    drained(seen, Traced(does="end"))
    (sent,), (processed,) = seen.spans("send mail"), seen.spans("process mail")
    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.context is not None
    assert processed.context is not None
    assert [link.context.span_id for link in processed.links] == [sent.context.span_id]
    assert processed.context.trace_id != sent.context.trace_id
    assert [processed.context.span_id] == CURRENT
    assert sent.attributes is not None
    assert processed.attributes is not None
    assert dict(sent.attributes) == {
        "messaging.system": "fang",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": processed.attributes["messaging.message.id"],
    }
    assert processed.attributes["messaging.operation.name"] == "process"
    (settled,) = seen.spans("settle")
    assert settled.kind is SpanKind.CLIENT
    assert settled.attributes is not None
    assert settled.attributes["messaging.batch.message_count"] == 1


def test_a_task_that_a_run_inserts_belongs_to_the_runs_trace(seen: Seen) -> None:
    drained(seen, Traced(does="insert"))
    first, second = sorted(seen.spans("send mail"), key=lambda span: span.start_time or 0)
    (parent,) = [span for span in seen.spans("process mail") if span.context == second.parent]
    assert first.parent is None
    assert parent.links[0].context.span_id == first.context.span_id


def test_the_run_may_be_in_the_trace_of_the_insert(seen: Seen) -> None:
    drained(seen, Traced(does="end"), telemetry=OpenTelemetry(**seen.providers, same_trace=True))
    (sent,), (processed,) = seen.spans("send mail"), seen.spans("process mail")
    assert processed.parent is not None
    assert sent.context is not None
    assert processed.parent.span_id == sent.context.span_id


def test_a_failed_run_has_the_class_of_its_error_and_not_its_text(seen: Seen) -> None:
    drained(seen, Traced(does="fail"))
    (span,) = seen.spans("process mail")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    assert "card" not in span.to_json()
    drained(seen, Traced(does="fail"), telemetry=OpenTelemetry(**seen.providers, record_exceptions=True))
    assert "card" in seen.spans("process mail")[-1].to_json()


@pytest.mark.parametrize("does", ["snooze", "snooze in a group"])
def test_a_snooze_is_no_error(seen: Seen, does: str) -> None:
    drained(seen, Traced(does=does))
    (span,) = seen.spans("process mail")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert "error.type" not in span.attributes


def test_what_was_measured(seen: Seen) -> None:
    queue = drained(seen, Traced(does="end"), Traced(does="fail"))
    rows = queue.insert_tasks([Traced(does="end"), Traced(does="end")])
    with pytest.raises(IdInUse):
        queue.insert_task(Traced(does="fail"), id=rows[0].id)
    assert sum(point.value for point in seen.points("messaging.client.sent.messages")) == 4
    assert sum(point.value for point in seen.points("messaging.client.consumed.messages")) == 2
    runs = {point.attributes.get("error.type"): point.count for point in seen.points("messaging.process.duration")}
    assert runs == {None: 1, "ValueError": 1}
    operations = seen.points("messaging.client.operation.duration")
    sends = [point for point in operations if point.attributes["messaging.operation.name"] == "send"]
    errors = {point.attributes.get("error.type"): point.count for point in sends}
    assert errors == {None: 3, "fang_core.errors.IdInUse": 1}
    assert sum(point.count for point in operations) > sum(errors.values())  # settle
    (bulk,) = [span for span in seen.spans("send mail") if "messaging.batch.message_count" in (span.attributes or {})]
    assert bulk.attributes is not None
    assert bulk.attributes["messaging.batch.message_count"] == 2


async def test_asyncio(seen: Seen) -> None:
    queue = AsyncMemoryQueue(insert_middleware=[seen.telemetry.insert])
    await queue.insert_tasks([TracedAsync(), TracedAsync()])
    pool = AsyncWorkerPool(
        queue, task_type="mail", number_of_workers=2, middleware=[seen.telemetry.run], events=[seen.telemetry]
    )
    await pool.drain()
    (sent,), processed = seen.spans("send mail"), seen.spans("process mail")
    assert {span.links[0].context.span_id for span in processed} == {sent.context.span_id}
    assert sorted(CURRENT) == sorted(span.context.span_id for span in processed if span.context)
    assert not get_current_span().get_span_context().is_valid


def test_its_middleware_can_go_to_a_child_process() -> None:
    copy = pickle.loads(pickle.dumps(OpenTelemetry(same_trace=True, record_exceptions=True).run)).__self__
    assert (copy._same_trace, copy._record_exceptions) == (True, True)
