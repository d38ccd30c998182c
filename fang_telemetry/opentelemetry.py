"""Traces and measures inserts, runs and completions with OpenTelemetry, by its conventions for messaging.

These conventions are still in development, so names may change with a release of this module. Needs the extra
``opentelemetry``, which is the API alone; the application installs and configures the SDK.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from opentelemetry import metrics, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from fang_core.events import Events
from fang_core.lifecycle import Cancel, Snooze, word_of
from fang_core.runs.run import Run
from fang_core.tasks.insert_middleware import Insertion

SYSTEM: Final = "fang"
"""The value of ``messaging.system``; the conventions have none for queues in a database."""

SECONDS: Final = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0, 316.0, 1000.0, 3160.0)
"""The bounds of histograms that are advised to the SDK: two a decade."""

_NAME: Final = "fang_telemetry"

_Attributes: TypeAlias = dict[str, Any]


class OpenTelemetry(Events):
    """Makes spans ``send T`` of inserts, ``process T`` of runs, and ``settle`` of written outcomes; T is a task type.

    Give one object to queues and pools: ``Queue(url, insert_middleware=[telemetry.insert])`` and
    ``WorkerPool(queue, middleware=[telemetry.run], events=[telemetry])``. A queue or a pool without it pays nothing.

    An insert writes the context of its span into the headers of its tasks, as the propagator does (W3C ``traceparent``
    unless configured otherwise). The span of a run is linked to that context.

    Args:
        tracer_provider, meter_provider: instead of the global ones.
        propagator: instead of the global one.
        same_trace: whether the span of a run is a child of the insert's span, in its trace, as well as linked to it.
        record_exceptions: whether spans have the text and the traceback of exceptions, which may quote payloads; their
            class is in ``error.type`` in any case.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        same_trace: bool = False,
        record_exceptions: bool = False,
    ) -> None:
        self._recipe = partial(type(self), same_trace=same_trace, record_exceptions=record_exceptions)
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._propagator = propagator
        self._same_trace = same_trace
        self._record_exceptions = record_exceptions
        self._operations = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of inserts, and of writing outcomes",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration", "s", "Duration of runs", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Tasks that were inserted")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Runs that have begun")

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Makes another one like it in a child process, which runs isolated tasks, with its providers."""
        return self._recipe, ()

    # Inserts ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def insert(self, insertion: Insertion) -> Iterator[None]:
        """Goes around an insert, as insert middleware of a queue."""
        attributes = _attributes("send", insertion.task_types)
        counted = {"messaging.batch.message_count": len(insertion.tasks)} if insertion.is_bulk else {}
        began = time.monotonic()
        with self._span("send", insertion.task_types, SpanKind.PRODUCER, attributes | counted) as span:
            (self._propagator or propagate.get_global_textmap()).inject(insertion.headers)
            written = 0
            try:
                yield
                rows = insertion.rows or ()
                written = sum(not row.conflict for row in rows)
                if not insertion.is_bulk and rows and span.is_recording():
                    span.set_attribute("messaging.message.id", str(rows[0].id))
            except BaseException as error:
                self._failed(span, error, attributes)
                raise
            finally:
                self._operations.record(time.monotonic() - began, attributes)
                if written:
                    self._sent.add(written, attributes)

    # Runs -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Goes around a run, as middleware of a pool."""
        task = run.task
        attributes = _attributes("process", (task.task_type,))
        about = {"messaging.message.id": str(task.id), "fang.kind": task.kind, "fang.attempt": task.attempt}
        producers = self._producers_context(run)
        came_from = trace.get_current_span(producers).get_span_context()
        self._consumed.add(1, attributes)
        began = time.monotonic()
        with self._span(
            "process",
            (task.task_type,),
            SpanKind.CONSUMER,
            attributes | about,
            context=producers if self._same_trace else None,
            links=[Link(came_from)] if came_from.is_valid else [],
        ) as span:
            try:
                yield
            except BaseException as error:
                if not isinstance(word_of(error), Snooze | Cancel):  # these say what becomes of the task
                    self._failed(span, error, attributes)
                raise
            finally:
                self._processing.record(time.monotonic() - began, attributes)

    def _producers_context(self, run: Run) -> Any:
        return (self._propagator or propagate.get_global_textmap()).extract(run.headers)

    # Outcomes ---------------------------------------------------------------------------------------------------------

    def outcomes_written(self, pool_id: UUID, count: int, seconds: float) -> None:
        """Makes the span of a batch of outcomes, which has just been written."""
        attributes = _attributes("settle", ())
        end = time.time_ns()
        span = self._tracer.start_span(
            "settle",
            kind=SpanKind.CLIENT,
            attributes=attributes | {"messaging.batch.message_count": count},
            start_time=end - int(seconds * 1e9),
        )
        span.end(end)
        self._operations.record(seconds, attributes)

    # Spans ------------------------------------------------------------------------------------------------------------

    def _span(
        self, operation: str, task_types: tuple[str, ...], kind: SpanKind, attributes: _Attributes, **more: Any
    ) -> Any:
        name = f"{operation} {task_types[0]}" if len(task_types) == 1 else operation
        return self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False, **more
        )

    def _failed(self, span: trace.Span, error: BaseException, attributes: _Attributes) -> None:
        """Marks the span, and ``attributes``, which metrics get later, with the class of the error."""
        attributes["error.type"] = _name_of(type(error))
        span.set_attribute("error.type", attributes["error.type"])
        span.set_status(Status(StatusCode.ERROR))
        if self._record_exceptions:
            span.record_exception(error)


def _attributes(operation: str, task_types: tuple[str, ...]) -> _Attributes:
    attributes: _Attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    if len(task_types) == 1:
        attributes["messaging.destination.name"] = task_types[0]
    return attributes


def _name_of(cls: type[BaseException]) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
