"""A run for OpenTelemetry: what the SDK's exporters get, and what a receiver of OTLP over HTTP gets."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from pytest_serve_chaos import telemetry
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.errors import ExportFailed, MissingDependency, SettingsError
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.results import result_of
from pytest_serve_chaos.telemetry import otel
from tests.unit.histories import FAULT, Story, head_failure, node_failure, not_started, written

ZERO = 1_796_126_400_250_000_000
"""The fault of the first experiment, in nanoseconds since 1970."""

SECOND = 1_000_000_000


class MetricsInMemory(MetricExporter):
    """Keeps what it gets."""

    def __init__(self, result: MetricExportResult = MetricExportResult.SUCCESS) -> None:
        super().__init__()
        self.result = result
        self.metrics: dict[str, Metric] = {}

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        (resource,) = metrics_data.resource_metrics
        (scope,) = resource.scope_metrics
        self.metrics = {metric.name: metric for metric in scope.metrics}
        return self.result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is open."""


def outcomes_of(*stories: Story) -> Outcomes:
    history = History()
    history.origin, history.began = FAULT, datetime(2026, 12, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
    run: dict[str, Json] = {"backend": "local", "ray_version": "2.60.0", "workers": 2, "gcs": "redis"}
    run |= {"app": "ranker:app", "profile": "fast", "replicas": 4, "url": "http://127.0.0.1:8000/"}
    history.add(written("run", "local backend", at=FAULT - 20, data=run))
    for number, story in enumerate(stories):
        story.add_to(history, later=100.0 * number)
    return Outcomes(history, tuple(result_of(history, story.experiment) for story in stories))


def spans_of(outcomes: Outcomes) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    otel.send(outcomes, exporter, MetricsInMemory())
    return exporter.get_finished_spans()


def named(spans: tuple[ReadableSpan, ...], name: str) -> tuple[ReadableSpan, ...]:
    return tuple(span for span in spans if span.name == name)


def context(span: ReadableSpan) -> SpanContext:
    assert isinstance(span.context, SpanContext)
    return span.context


def points(metric: Metric) -> list[NumberDataPoint]:
    assert isinstance(metric.data, Gauge)
    return list(metric.data.data_points)


def attributes(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


def test_an_experiment_is_a_trace_with_its_faults_outages_and_lost_requests() -> None:
    spans = spans_of(outcomes_of(node_failure()))
    (whole,) = named(spans, "experiment node_failure")
    assert (whole.start_time, whole.end_time) == (ZERO - 10 * SECOND, ZERO + 60 * SECOND)
    assert whole.parent is None
    assert attributes(whole)["serve_chaos.verdict"] == "failed"
    assert attributes(whole)["test.case.result.status"] == "fail"
    assert attributes(whole)["serve_chaos.ray_version"] == "2.60.0"
    assert whole.status.status_code is StatusCode.ERROR
    assert "the longest outage lasted 24.0 s" in (whole.status.description or "")
    others = [span for span in spans if span is not whole]
    assert {span.parent and span.parent.span_id for span in others} == {context(whole).span_id}
    assert {context(span).trace_id for span in spans} == {context(whole).trace_id}
    assert len({context(span).span_id for span in spans}) == len(spans)
    assert len(named(spans, "lost request")) == 400
    (outage,) = named(spans, "outage")
    assert (outage.start_time, attributes(outage)["serve_chaos.lost"]) == (ZERO, 400)


def test_a_fault_says_when_it_landed_and_by_which_signs() -> None:
    (fault,) = (span for span in spans_of(outcomes_of(head_failure())) if span.name.startswith("fault"))
    assert (fault.start_time, fault.end_time) == (ZERO, ZERO + 8 * SECOND)
    assert attributes(fault)["serve_chaos.fault"] == "SIGKILL to the head"
    assert attributes(fault)["serve_chaos.victims"] == ("head",)
    assert [(event.name, event.timestamp - ZERO) for event in fault.events] == [
        ("asked", 0),
        ("landed", 8 * SECOND),
        ("evidence of the victim", SECOND // 50),
        ("evidence of the cluster", 8 * SECOND),
    ]


def test_a_lost_request_says_why_and_is_linked_to_the_fault_before_its_end() -> None:
    story = Story().lose(-5.0, -4.9, error="HTTP 503", takes=0.1).lose(3.0, 3.1, error="HTTP 500", takes=0.1)
    spans = spans_of(outcomes_of(story))
    (fault,) = (span for span in spans if span.name.startswith("fault"))
    lost = sorted(named(spans, "lost request"), key=lambda span: span.start_time or 0)
    before, after = lost[0], lost[-1]
    assert (before.kind, before.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert (attributes(before)["error.type"], attributes(before)["http.response.status_code"]) == ("HTTP 503", 503)
    assert attributes(before)["serve_chaos.way"] == "proxies"
    assert before.links == ()
    assert [link.context.span_id for link in after.links] == [context(fault).span_id]


def test_what_is_sent_again_is_the_same() -> None:
    first, again = (spans_of(outcomes_of(head_failure(), node_failure())) for _ in range(2))
    assert [span.to_json() for span in first] == [span.to_json() for span in again]
    assert len({context(span).trace_id for span in first}) == 2


def test_another_run_has_other_ids() -> None:
    other = outcomes_of(head_failure())
    other.history.began = datetime(2026, 12, 2, tzinfo=timezone.utc)
    one, two = spans_of(outcomes_of(head_failure())), spans_of(other)
    assert not {context(s).trace_id for s in one} & {context(s).trace_id for s in two}
    assert not {context(s).span_id for s in one} & {context(s).span_id for s in two}


def test_figures_are_metrics_with_their_units_at_the_end_of_the_experiment() -> None:
    metrics = MetricsInMemory()
    sent = otel.send(outcomes_of(head_failure(), not_started()), InMemorySpanExporter(), metrics)
    lost = metrics.metrics["serve_chaos.requests.lost"]
    assert (lost.unit, lost.description) == ("{request}", "Those of them without a good answer.")
    (point,) = points(lost)
    assert (point.value, point.time_unix_nano) == (3, ZERO + 60 * SECOND)
    assert point.attributes == {
        "serve_chaos.experiment": "head_failure",
        "serve_chaos.verdict": "passed",
        "serve_chaos.backend": "local",
        "serve_chaos.ray_version": "2.60.0",
    }
    assert points(metrics.metrics["serve_chaos.availability"])[0].value == pytest.approx(0.997009, abs=1e-6)
    assert str(sent) == f"2 experiments as {sent.spans} spans, and {sent.points} figures"


def test_a_latency_without_end_is_no_figure() -> None:
    metrics = MetricsInMemory()
    otel.send(outcomes_of(node_failure()), InMemorySpanExporter(), metrics)
    assert "serve_chaos.latency.p99_before" in metrics.metrics
    assert "serve_chaos.latency.p99_during" not in metrics.metrics


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans_of(outcomes_of(head_failure()))[0].resource.attributes["service.name"] == "pytest-serve-chaos"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly-chaos")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")  # that of the app under test
    assert spans_of(outcomes_of(head_failure()))[0].resource.attributes["service.name"] == "nightly-chaos"


class Refuses(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Nothing is open."""


def test_what_nobody_takes_is_an_error() -> None:
    with pytest.raises(ExportFailed, match="the spans could not be sent"):
        otel.send(outcomes_of(head_failure()), Refuses(), MetricsInMemory())
    failing = MetricsInMemory(MetricExportResult.FAILURE)
    with pytest.raises(ExportFailed, match="the figures could not be sent"):
        otel.send(outcomes_of(head_failure()), InMemorySpanExporter(), failing)


def test_a_history_that_does_not_say_when_it_began_is_refused() -> None:
    outcomes = outcomes_of(head_failure())
    outcomes.history.began = None
    with pytest.raises(ExportFailed, match="does not say when its run began"):
        spans_of(outcomes)


def test_secrets_stay_here() -> None:
    told = head_failure().event(1.0, "remark", "the app wants password=hunter2, and https://me:pw@api/x?key=s3cr3t")
    exporter = InMemorySpanExporter()
    otel.send(outcomes_of(told), exporter, MetricsInMemory())
    sent = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "the app wants password=..." in sent
    assert "hunter2" not in sent
    assert "me:pw" not in sent
    assert "s3cr3t" not in sent


def test_of_very_many_lost_requests_those_that_are_sent_are_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "MOST_LOST", 7)
    exporter = InMemorySpanExporter()
    sent = otel.send(outcomes_of(node_failure()), exporter, MetricsInMemory())
    spans = exporter.get_finished_spans()
    begun = sorted((span.start_time or 0) for span in named(spans, "lost request"))
    assert len(begun) == 7
    between = [round((later - earlier) / SECOND) for earlier, later in pairwise(begun)]
    assert set(between) <= {3, 4}, "400 of them in 24 s"
    (whole,) = named(spans, "experiment node_failure")
    assert attributes(whole)["serve_chaos.lost_requests_without_span"] == 393
    assert str(sent).endswith("; 393 of the lost requests have no span")
    (outage,) = named(spans, "outage")
    assert attributes(outage)["serve_chaos.lost"] == 400


# -- exporters that do not work ----------------------------------------------------------------------------------------


class Blocks(SpanExporter):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go, self.asked, self.shut_down = threading.Event(), 0, threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.asked += 1
        self.let_go.wait(20.0)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.shut_down.set()


class Raises(MetricExporter):
    """Ends with an error of its own."""

    def __init__(self) -> None:
        super().__init__()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        raise RuntimeError("no route to https://collector?token=abc\nTraceback")

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        raise RuntimeError("it was never open")


def exports_with(monkeypatch: pytest.MonkeyPatch, spans: SpanExporter, metrics: MetricExporter) -> None:
    monkeypatch.setattr(otel, "find_exporters", lambda: (lambda: spans, lambda: metrics))


def test_nobody_waits_for_an_exporter_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Blocks()
    exports_with(monkeypatch, exporter, MetricsInMemory())
    monkeypatch.setattr(otel, "_BATCH", 100)
    with pytest.raises(ExportFailed, match=r"not sent to OpenTelemetry within 0\.05 s") as given_up:
        otel.export(outcomes_of(node_failure()), within=0.05)
    assert "serve-chaos report RUN --format otel" in str(given_up.value)
    exporter.let_go.set()
    assert exporter.shut_down.wait(20.0)
    assert exporter.asked <= 1, "what was given up does not go on"


def test_an_error_of_an_exporter_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    exports_with(monkeypatch, InMemorySpanExporter(), Raises())
    with pytest.raises(ExportFailed) as failed:
        otel.export(outcomes_of(head_failure()))
    assert failed.value.checked == ("RuntimeError: no route to https://collector?token=...",)


def test_an_exporter_that_cannot_be_made_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> SpanExporter:
        raise ValueError("there is no compression 'brotli'")

    monkeypatch.setattr(otel, "find_exporters", lambda: (make, MetricsInMemory))
    with pytest.raises(SettingsError, match="there is no compression 'brotli'"):
        telemetry.check()


def test_without_the_sdk_a_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_serve_chaos.telemetry.otel", None)
    monkeypatch.delattr(telemetry, "otel", raising=False)
    with pytest.raises(MissingDependency) as missing:
        telemetry.check()
    assert "pip install 'pytest-serve-chaos[otel]'" in str(missing.value)


# -- over HTTP ---------------------------------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        self.headers: list[str | None] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.setdefault(self.path, []).append(body)
        self.server.headers.append(self.headers.get("x-tenant"))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.shutdown()
        thread.join(5)


def test_a_receiver_gets_spans_and_figures_once(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=chaos")
    node_failure().lose(0.0, 24.0).event(61.0, "verdict", "failed").history(tmp_path / "history.jsonl")
    for _ in range(2):
        assert main(["report", str(tmp_path), "--format", "otel"]) == 0
    assert capsys.readouterr().out.startswith("sent to OpenTelemetry: 1 experiments as 1203 spans, and ")
    requests = [ExportTraceServiceRequest.FromString(body) for body in receiver.bodies["/v1/traces"]]
    spans = [
        span for request in requests for one in request.resource_spans for s in one.scope_spans for span in s.spans
    ]
    assert len(spans) == 2 * 1203
    assert len({span.span_id for span in spans}) == 1203, "the second time says the same once more"
    figures = ExportMetricsServiceRequest.FromString(receiver.bodies["/v1/metrics"][0])
    names = {metric.name for metric in figures.resource_metrics[0].scope_metrics[0].metrics}
    assert {"serve_chaos.requests.lost", "serve_chaos.availability"} <= names
    assert set(receiver.headers) == {"chaos"}


def test_why_a_receiver_refuses_is_in_the_error(
    receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.status = 403
    head_failure().event(61.0, "verdict", "passed").history(tmp_path / "history.jsonl")
    assert main(["report", str(tmp_path), "--format", "otel"]) == 2
    said = capsys.readouterr().err
    assert "the spans could not be sent to OpenTelemetry" in said
    assert "403" in said


def test_the_sdk_can_be_disabled(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert "OTEL_SDK_DISABLED" in telemetry.send(outcomes_of(head_failure()))
    assert receiver.bodies == {}


def test_a_protocol_without_an_exporter_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(SettingsError, match="no exporter for the protocol 'http/json'"):
        telemetry.check()


def test_what_is_not_installed_is_named_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(otel._PROTOCOLS, "grpc", ("opentelemetry.exporter.otlp.proto.nowhere", "the-exporter"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(MissingDependency) as missing:
        telemetry.check()
    assert "pip install the-exporter" in str(missing.value)
