"""A run for OpenTelemetry: experiments, faults, outages and lost requests as spans, and the figures as metrics.

It imports OpenTelemetry's SDK, which the extra ``otel`` brings, so nobody imports it before `telemetry.send`.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.errors import ExportFailed, MissingDependency, ServeChaosError, SettingsError, in_one_line
from pytest_serve_chaos.events import FaultAsked, of_kind
from pytest_serve_chaos.masking import with_masked_secrets
from pytest_serve_chaos.model import Measurement
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.time_of_day import unix_nanoseconds
from pytest_serve_chaos.report.timeline import Fault, Timeline, timeline_of
from pytest_serve_chaos.report.view import Moment

Attribute: TypeAlias = "str | bool | int | float | Sequence[str]"

_Exporters: TypeAlias = "tuple[Callable[[], SpanExporter], Callable[[], MetricExporter]]"

NAME = "pytest-serve-chaos"

SENT_WITHIN = 60.0
"""Seconds after which a run that is not sent yet is given up: nobody waits for a collector that hangs."""

MOST_LOST = 2000
"""Lost requests of one experiment that become spans; where there are more, these are spread evenly over all of them."""

_BATCH = 500
"""Spans that are sent at once."""

_PROTOCOLS = {
    "http/protobuf": ("opentelemetry.exporter.otlp.proto.http", "opentelemetry-exporter-otlp-proto-http"),
    "grpc": ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry-exporter-otlp-proto-grpc"),
}
"""What OTEL_EXPORTER_OTLP_PROTOCOL says -> the package that has its exporters, and what installs it."""


@dataclass(slots=True)
class Sent:
    """How much was sent, and how many lost requests were not."""

    experiments: int = 0
    spans: int = 0
    points: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        sent = f"{self.experiments} experiments as {self.spans} spans, and {self.points} figures"
        return f"{sent}; {self.left_out} of the lost requests have no span" if self.left_out else sent


def export(outcomes: Outcomes, *, within: float = SENT_WITHIN) -> str:
    """Sends the run to where OTEL_EXPORTER_OTLP_ENDPOINT says; the other variables of the SDK count, too.

    Args:
        outcomes: Of the run.
        within: Seconds after which it is given up.

    Returns:
        What was sent, in words.

    Raises:
        MissingDependency: The exporter of that protocol is not installed.
        SettingsError: There is no such protocol.
        ExportFailed: Nobody took it, or not in time; or the history does not say when the run began.
        HistoryError: Some requests are in the history's file alone, and it was changed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "nothing was sent to OpenTelemetry, because OTEL_SDK_DISABLED is set"
    exporters, given_up = find_exporters(), threading.Event()
    sent: Future[Sent] = Future()
    with _what_was_logged() as why:
        # An exporter that hangs cannot be ended from outside; this thread dies with the process.
        threading.Thread(
            target=_send_in_background, args=(outcomes, exporters, given_up, sent), name="serve-chaos-otel", daemon=True
        ).start()
        try:
            return f"sent to OpenTelemetry: {sent.result(within)}"
        except TooLate as error:
            raise ExportFailed(
                f"the run was not sent to OpenTelemetry within {within:g} s, and the rest of it is given up",
                checked=why,
                fix=["see why the collector is slow, and send the run again: serve-chaos report RUN --format otel"],
            ) from error
        except ServeChaosError as error:
            if not isinstance(error, ExportFailed):
                raise
            raise ExportFailed(error.what, checked=[*error.checked, *why], fix=error.fix) from error
        except Exception as error:  # of an exporter, or of what it is set to
            raise _nobody_took("run", [with_masked_secrets(in_one_line(error)), *why]) from error
        finally:
            given_up.set()


def _send_in_background(
    outcomes: Outcomes, exporters: _Exporters, given_up: threading.Event, sent: Future[Sent]
) -> None:
    """Sends the run. An exporter is shut down when nobody waits for it any more, for that may take its time."""
    with ExitStack() as end:
        try:
            make_spans, make_metrics = exporters
            spans = make_spans()
            end.callback(_shut_down, spans)
            metrics = make_metrics()
            end.callback(_shut_down, metrics)
            sent.set_result(send(outcomes, spans, metrics, given_up=given_up))
        except Exception as error:
            sent.set_exception(error)


def _shut_down(exporter: SpanExporter | MetricExporter) -> None:
    with suppress(Exception):  # all that it was given is sent, or known not to be
        exporter.shutdown()


def check() -> None:
    """Finds out whether exporters can be made as the environment says.

    Raises:
        MissingDependency: One of them is not installed.
        SettingsError: There is no such protocol, or an exporter does not take what the environment says.
    """
    for make in find_exporters():
        try:
            _shut_down(make())
        except Exception as error:
            raise SettingsError(
                f"OpenTelemetry's exporter cannot be created: {with_masked_secrets(in_one_line(error))}",
                fix=["correct the variables OTEL_EXPORTER_OTLP_..."],
            ) from error


def find_exporters() -> _Exporters:
    """The classes of exporters for the protocols that OTEL_EXPORTER_OTLP_PROTOCOL, or that of each signal, says.

    Raises:
        MissingDependency: One of them is not installed.
        SettingsError: There is no such protocol.
    """
    spans = _class_of("TRACES", "trace_exporter", "OTLPSpanExporter")
    metrics = _class_of("METRICS", "metric_exporter", "OTLPMetricExporter")
    return cast("Callable[[], SpanExporter]", spans), cast("Callable[[], MetricExporter]", metrics)


def _class_of(signal: str, module: str, name: str) -> Callable[[], object]:
    own, general = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = os.environ.get(own) or os.environ.get(general) or "http/protobuf"
    if protocol not in _PROTOCOLS:
        raise SettingsError(
            f"OpenTelemetry has no exporter for the protocol {protocol!r}",
            checked=[own, general],
            fix=[f"set {general} to one of {', '.join(_PROTOCOLS)}"],
        )
    package, distribution = _PROTOCOLS[protocol]
    try:
        found: Callable[[], object] = getattr(importlib.import_module(f"{package}.{module}"), name)
    except ImportError as error:
        raise MissingDependency(
            f"OpenTelemetry's exporter for {protocol} is not installed", fix=[f"pip install {distribution}"]
        ) from error
    return found


@contextmanager
def _what_was_logged() -> Iterator[list[str]]:
    """Collects why exporters fail: they log it, and return no more than that they failed."""
    lines: list[str] = []

    class Collects(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(with_masked_secrets(record.getMessage())))

    handler, logger = Collects(logging.WARNING), logging.getLogger("opentelemetry")
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def send(
    outcomes: Outcomes, spans: SpanExporter, metrics: MetricExporter, *, given_up: threading.Event | None = None
) -> Sent:
    """Sends the run to these exporters. To send it again changes nothing, for all ids come from the run.

    Args:
        outcomes: Of the run.
        spans: Takes its spans.
        metrics: Takes its figures.
        given_up: Is set once nobody waits for it any more.

    Raises:
        ExportFailed: One of them failed; or the history does not say when the run began.
        HistoryError: Some requests are in the history's file alone, and it was changed.
    """
    history, sent = outcomes.history, Sent()
    if history.began is None:
        raise ExportFailed("the history does not say when its run began, so it cannot be sent to OpenTelemetry")
    resource = Resource({"service.name": NAME, "service.version": __version__}).merge(OTELResourceDetector().detect())
    batches = _Batches(spans, sent, given_up or threading.Event())
    points: list[_Figures] = []
    for result in outcomes.results:
        timeline = timeline_of(result, history)
        zero = unix_nanoseconds(history, timeline.zero)
        tracer = _Tracer(resource, batches, f"{history.began.isoformat()} {result.experiment} ")
        sent.left_out += _Experiment(timeline, result, zero, tracer).send()
        points.append(_Figures(result, zero + round(timeline.begin * 1e9), zero + round(timeline.end * 1e9)))
        sent.experiments += 1
    batches.flush()
    data = _metrics(points, resource)
    sent.points = sum(len(metric.data.data_points) for metric in data.resource_metrics[0].scope_metrics[0].metrics)
    if sent.points and metrics.export(data) is not MetricExportResult.SUCCESS:
        raise _nobody_took("figures")
    return sent


def _nobody_took(what: str, why: Sequence[str] = ()) -> ExportFailed:
    return ExportFailed(
        f"the {what} could not be sent to OpenTelemetry",
        checked=why,
        fix=["start a collector, and name it: OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318"],
    )


# -- spans -------------------------------------------------------------------------------------------------------------


class _Batches(SpanProcessor):
    """Sends spans when there are enough of them."""

    def __init__(self, exporter: SpanExporter, sent: Sent, given_up: threading.Event) -> None:
        self._exporter = exporter
        self._sent = sent
        self._given_up = given_up
        self._ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keeps one that has ended."""
        self._ended.append(span)

    def flush(self, least: int = 1) -> None:
        """Sends those that wait, if there are so many.

        Raises:
            ExportFailed: Nobody took them.
        """
        while len(self._ended) >= least:
            if self._given_up.is_set():
                raise ExportFailed("nobody waits any longer for the run to be sent")
            batch, self._ended = self._ended[:_BATCH], self._ended[_BATCH:]
            if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
                raise _nobody_took("spans")
            self._sent.spans += len(batch)


@dataclass
class _Ids(IdGenerator):
    """Gives each span the id that comes from the run, so that it is the same one when it is sent again."""

    of: str
    span: str = field(default="", init=False)

    def generate_trace_id(self) -> int:
        """That of the experiment."""
        return _number(f"trace {self.of}", 16)

    def generate_span_id(self) -> int:
        """That of the span that begins now."""
        return _number(f"span {self.of} {self.span}", 8)


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:size], "big") or 1


class _Tracer:
    """Makes the spans of one experiment.

    Args:
        resource: Whose spans they are.
        batches: Gets them.
        of: What tells the experiment from every other, of whatever run.
    """

    def __init__(self, resource: Resource, batches: _Batches, of: str) -> None:
        self._ids = _Ids(of)
        self._batches = batches
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(batches)
        self._tracer = provider.get_tracer(NAME, __version__)

    def span(
        self,
        name: str,
        key: str,
        times: tuple[int, int],
        attributes: Mapping[str, Attribute],
        *,
        within: Span | None = None,
        links: Sequence[Link] = (),
        events: Sequence[tuple[str, int, Mapping[str, Attribute]]] = (),
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status | None = None,
    ) -> Span:
        """Makes a span that has ended.

        Args:
            name: What it is called.
            key: What tells it from the others of the experiment.
            times: When it began and ended, in Unix nanoseconds.
            attributes: What it has.
            within: Its parent.
            links: To spans that it has to do with.
            events: What happened in it, and when.
            kind: What it is, in OpenTelemetry's words.
            status: How it ended.
        """
        self._ids.span = key
        context = Context() if within is None else trace.set_span_in_context(within, Context())
        found = self._tracer.start_span(
            _shown(name), context, kind, {k: _text(v) for k, v in attributes.items()}, links, times[0]
        )
        for event, at, more in events:
            found.add_event(_shown(event), {k: _text(v) for k, v in more.items()}, at)
        if status is not None:
            found.set_status(status)
        found.end(max(times))
        self._batches.flush(_BATCH)
        return found


def _text(value: Attribute) -> Attribute:
    if isinstance(value, str):
        return _shown(value)
    return value if isinstance(value, (bool, int, float)) else [_shown(one) for one in value]


def _shown(text: str) -> str:
    """It leaves this machine, so nothing in it is left that looks like a secret."""
    return printable(with_masked_secrets(text))


_STATUS = {"passed": StatusCode.OK, "failed": StatusCode.ERROR}
"""Of a span; what showed nothing has none."""

_TEST_STATUS = {"passed": "pass", "failed": "fail"}
"""The same in the words of OpenTelemetry's conventions for tests."""


@dataclass(frozen=True, slots=True)
class _Experiment:
    """Makes the spans of an experiment: it, and in it its faults, outages and lost requests.

    Attributes:
        of: The experiment.
        result: What it gave.
        zero: The Unix time, in nanoseconds, from which its times count.
        tracer: Makes spans.
    """

    of: Timeline
    result: Result
    zero: int
    tracer: _Tracer

    def send(self) -> int:
        """Makes all of them; returns how many lost requests have none."""
        lost = [i for i, outcome in enumerate(self.of.requests.outcome) if outcome]
        left_out = max(0, len(lost) - MOST_LOST)
        whole = self._whole(left_out)
        faults = [(fault, self._fault(fault, number, whole)) for number, fault in enumerate(self.of.faults)]
        for number, outage in enumerate(self.of.outages):
            counted = {"lost": outage.lost, "late": outage.late, "sent": outage.sent}
            self.tracer.span(
                "outage", f"outage {number}", self._times(outage.start, outage.end), _own(counted), within=whole
            )
        of_so_many = len(lost) - left_out
        for n in range(of_so_many):
            self._lost(lost[n * len(lost) // of_so_many], whole, faults)
        return left_out

    def _times(self, begin: float, end: float | None) -> tuple[int, int]:
        last = self.of.end if end is None else end
        return self.zero + round(begin * 1e9), self.zero + round(max(begin, last) * 1e9)

    def _whole(self, left_out: int) -> Span:
        of = self.of
        facts: dict[str, Attribute] = {
            "experiment": of.experiment,
            "verdict": of.outcome,
            "fault": of.fault,
            **_cluster(self.result),
        }
        if left_out:
            facts["lost_requests_without_span"] = left_out
        lines = {"reasons": of.reasons, "remarks": of.remarks, "warnings": of.warnings}
        conventions = {"test.case.name": of.experiment}
        if of.outcome in _TEST_STATUS:
            conventions["test.case.result.status"] = _TEST_STATUS[of.outcome]
        code = _STATUS.get(of.outcome)
        why = _shown("; ".join(of.reasons)) if code is StatusCode.ERROR else None
        recovery = (("redundancy is back", of.redundancy_back), ("settled", of.settled))
        moments = [Moment(span.begin, f"phase: {span.text}", "") for span in of.phases]
        moments += [Moment(at, name, "") for name, at in recovery if at is not None]
        return self.tracer.span(
            f"experiment {of.experiment}",
            "experiment",
            self._times(of.begin, of.end),
            {**conventions, **_own(facts), **_own({name: list(text) for name, text in lines.items() if text})},
            events=[(one.kind, self._times(one.at, None)[0], {}) for one in moments],
            status=None if code is None else Status(code, why),
        )

    def _fault(self, fault: Fault, number: int, whole: Span) -> Span:
        moments = (("asked", fault.asked), ("landed", fault.landed), ("victim ended", fault.ended))
        events: list[tuple[str, int, Mapping[str, Attribute]]] = [
            (name, self._times(at, None)[0], {}) for name, at in (*moments, ("healed", fault.healed)) if at is not None
        ]
        events += [
            (f"evidence of the {sign.kind}", self._times(sign.at, None)[0], _own({"text": sign.text}))
            for sign in fault.evidence
        ]
        end = max(at for at in (fault.asked, fault.landed, fault.ended, fault.healed) if at is not None)
        about: dict[str, Attribute] = {
            "fault": fault.text,
            "landed": fault.landed is not None,
            "victims": list(fault.victims),
        }
        times = self._times(fault.asked, end)
        name = f"fault {fault.name}".strip()
        return self.tracer.span(name, f"fault {number}", times, _own(about), within=whole, events=events)

    def _lost(self, i: int, whole: Span, faults: Sequence[tuple[Fault, Span]]) -> None:
        requests = self.of.requests
        outcome = requests.outcomes[requests.outcome[i]]
        begin, end = requests.scheduled[i], requests.scheduled[i] + requests.latency[i]
        about: dict[str, Attribute] = {"error.type": outcome}
        if outcome.startswith("HTTP ") and outcome[5:].isdecimal():
            about["http.response.status_code"] = int(outcome[5:])
        more = {
            "way": requests.ways[requests.way[i]],
            "replica": requests.replicas[requests.replica[i]],
            "app": requests.apps[requests.app[i]],
            "request": requests.names[requests.name[i]],
            "request_id": requests.request_ids[requests.request_id[i]],
        }
        earlier = [span for fault, span in faults if fault.asked <= end]
        self.tracer.span(
            "lost request",
            f"request {i}",
            self._times(begin, end),
            {**about, **_own({name: text for name, text in more.items() if text})},
            within=whole,
            links=[Link(earlier[-1].get_span_context())] if earlier else (),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR, _shown(outcome)),
        )


def _own(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"serve_chaos.{name}": value for name, value in attributes.items()}


def _cluster(result: Result) -> dict[str, Attribute]:
    of = result.description
    return {} if of is None else {"backend": of.backend, "ray_version": of.ray_version, "app_under_test": of.app}


# -- figures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures of an experiment, and when it began and ended in Unix nanoseconds."""

    result: Result
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class _Figure:
    """A metric: what one figure is called, in which unit (UCUM), what it is, and where it comes from."""

    name: str
    unit: str
    description: str
    of: Callable[[Measurement], float | None]


_FIGURES = (
    _Figure("requests.sent", "{request}", "Requests exposed to the fault.", lambda m: m.sent),
    _Figure("requests.lost", "{request}", "Those of them without a good answer.", lambda m: m.lost),
    _Figure("requests.late", "{request}", "Those of them that were answered too late.", lambda m: m.late),
    _Figure("requests.lost_in_flight", "{request}", "Lost requests in flight at the fault.", lambda m: m.in_flight),
    _Figure(
        "requests.lost_beyond_in_flight", "{request}", "All other lost requests.", lambda m: m.lost_beyond_in_flight
    ),
    _Figure("availability", "1", "Share of requests answered well and in time.", lambda m: m.availability),
    _Figure("outages", "{outage}", "Number of outages.", lambda m: None if m.sent is None else len(m.outages)),
    _Figure("longest_outage", "s", "Length of the longest outage.", lambda m: m.longest_outage),
    _Figure("traffic_back", "s", "Time from the fault until traffic is back.", lambda m: m.traffic_back),
    _Figure("redundancy_back", "s", "Time from the fault until redundancy is back.", lambda m: m.redundancy_back),
    _Figure("settled", "s", "Time from the fault until the post-recovery check passed.", lambda m: m.settled),
    _Figure(
        "latency.p99_before", "s", "99th percentile before the fault.", lambda m: m.before.p99 if m.before else None
    ),
    _Figure(
        "latency.p99_during", "s", "99th percentile after the fault.", lambda m: m.during.p99 if m.during else None
    ),
)


def _metrics(experiments: Sequence[_Figures], resource: Resource) -> MetricsData:
    """The figures, each at the time at which its experiment ended. One that was not measured is left out."""
    metrics = []
    for figure in _FIGURES:
        found = [
            NumberDataPoint(_labels(one.result), one.begin, one.end, value)
            for one in experiments
            if (value := figure.of(one.result.measurement)) is not None and math.isfinite(value)
        ]
        if found:
            metrics.append(Metric(f"serve_chaos.{figure.name}", figure.description, figure.unit, Gauge(found)))
    scope = ScopeMetrics(InstrumentationScope(NAME, __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _labels(result: Result) -> dict[str, str]:
    faults = ",".join(dict.fromkeys(event.fault for event in of_kind(FaultAsked, result.events) if event.fault))
    labels = {"experiment": result.experiment, "verdict": result.outcome, "fault": faults}
    labels |= {name: str(value) for name, value in _cluster(result).items() if name != "app_under_test"}
    return {f"serve_chaos.{name}": printable(value) for name, value in labels.items() if value}
