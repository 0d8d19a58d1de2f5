"""The trace of a run, read as Perfetto reads it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.events import ComponentCame, ComponentGone
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.base import Outcomes
from pytest_serve_chaos.report.perfetto import _Slots, perfetto_trace, perfetto_trace_with_ray
from pytest_serve_chaos.report.ray_timeline import RayTask, RayTimeline, read_ray_timeline
from pytest_serve_chaos.report.timeline import timeline_of
from pytest_serve_chaos.report.track_events import TraceWriter
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, component, head_failure, node_failure, not_started, request
from tests.unit.perfetto_traces import Slice, Trace, read

BEGAN = datetime(2026, 12, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
SECOND = 1_000_000_000
ORIGIN = 1_796_126_400_250_000_000
"""The moment `BEGAN` in nanoseconds since 1970."""

RUN = "serve-chaos 2026-12-01T12:00:00+00:00"
HEAD, NODE = f"{RUN}/head_failure: passed", f"{RUN}/node_failure: failed"


def history_of(*stories: Story) -> History:
    """Experiments one after the other in a history that began at `BEGAN`, 900 s before the first fault."""
    history = History()
    history.origin, history.began = FAULT - 900.0, BEGAN
    for number, story in enumerate(stories):
        story.add_to(history, later=100.0 * number)
    return history


def outcomes_of(*stories: Story) -> Outcomes:
    history = history_of(*stories)
    return Outcomes(history, tuple(result_of(history, story.experiment) for story in stories))


def trace_of(*stories: Story) -> Trace:
    return read(perfetto_trace(outcomes_of(*stories)))


def judged(story: Story) -> Story:
    """The same, as a run leaves it."""
    return story.event(61.0, "verdict", "passed")


def gone_event(one: Component) -> ComponentGone:
    return ComponentGone(f"{one.name} is gone", component=one)


def came_event(one: Component) -> ComponentCame:
    return ComponentCame(f"{one.name} is there", component=one)


def seconds(one: Slice) -> tuple[float, float]:
    """Its begin and end, in seconds from the fault of the first experiment."""
    zero = ORIGIN + 900 * SECOND
    return (one.begin - zero) / SECOND, (one.end - zero) / SECOND


def test_times_are_times_of_day() -> None:
    trace = trace_of(head_failure())
    assert trace.began == [ORIGIN]
    (fault,) = (one for one in trace.of("fault") if one.name == "SIGKILL to the head")
    assert fault.begin == ORIGIN + 900 * SECOND


def test_each_experiment_has_its_tracks_in_order() -> None:
    trace = trace_of(head_failure(), node_failure())
    assert [path for path in trace.tracks if path.count("/") < 2] == [RUN, HEAD, NODE]
    below = [path.split("/")[2] for path in trace.tracks if path.startswith(f"{HEAD}/") and path.count("/") == 2]
    assert below == [
        "phases", "fault 1", "outages", "recovery", "requests in flight", "availability", "lost requests",
        "processes", "events", "requests",
    ]  # fmt: skip
    (shown,) = (one for one in trace.slices if one.track == NODE)
    assert shown.name == "node_failure"
    assert shown.arguments["verdict"] == "failed"
    assert "the longest outage lasted 24.0 s" in str(shown.arguments["reasons"])


def test_a_fault_shows_when_it_was_asked_for_when_it_landed_and_when_it_was_healed() -> None:
    trace = trace_of(head_failure().event(15.0, "healed", "the head may start"))
    outer, *inner = sorted(trace.under(f"{HEAD}/fault 1"), key=lambda one: (one.begin, one.depth, one.end))
    assert (outer.name, *seconds(outer)) == ("SIGKILL to the head", 0.0, 15.0)
    assert {(one.name, *seconds(one)) for one in inner} == {
        ("asked", 0.0, 8.0),
        ("landed", 8.0, 15.0),
        ("landed", 8.0, 8.0),
        ("healed", 15.0, 15.0),
    }
    assert all(one.depth > 0 for one in inner)
    assert outer.arguments["evidence 2"] == "8.00 s, cluster: the GCS says DEAD"
    assert outer.arguments["victims"] == "head"


def test_each_request_is_in_a_slot_in_which_nothing_else_goes_on() -> None:
    story = node_failure()
    story.requests.append(replace(request(FAULT + 1.0), stream="kept:0", path="proxy on head"))
    trace = trace_of(story)
    requests = trace.under(f"{NODE}/requests")
    assert len(requests) == len(story.requests)
    assert all(one.depth == 0 for one in requests), "requests that overlap would be shown as calls of each other"
    assert Counter(one.name for one in requests) == {"good": 3102, "ReadTimeout": 400}
    slots = {one.track for one in requests}
    assert f"{NODE}/requests/persistent connections 1" in slots
    most = max(value for _, value in trace.counters[f"{NODE}/requests in flight"])
    assert most <= len(slots) - 1 <= most + 2


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=30))
def test_whatever_overlaps_no_slot_has_two_at_a_time(spans: list[tuple[int, int]]) -> None:
    writer = TraceWriter("run", ORIGIN)
    slots, about = _Slots(writer, writer.track("all"), "slot"), writer.about("it", "event")
    ordered = sorted((ORIGIN + begin, ORIGIN + begin + lasts) for begin, lasts in spans)
    for begin, end in ordered:
        writer.slice(slots.free(begin, end), begin, end, about)
    found = read(writer.finish()).slices
    assert sorted((one.begin, one.end) for one in found) == ordered
    assert all(one.depth == 0 for one in found)
    at_once = max((sum(begin <= at < end for begin, end in ordered) for at, _ in ordered), default=0)
    assert len({one.track for one in found if one.end > one.begin}) <= max(at_once, 1) + sum(a == b for a, b in ordered)


def test_processes_are_tracks_with_their_identities() -> None:
    gone, came = component("controller", "head"), component("controller", "head", incarnation=2)
    story = head_failure().add(0.5, gone_event(gone)).add(12.0, came_event(came))
    trace = trace_of(story)
    first, second = trace.under(f"{HEAD}/processes/controller")
    assert (first.name, *seconds(first), first.arguments["identity"]) == ("PID 200", -10.0, 0.5, str(gone.identity))
    assert (second.name, second.arguments["identity"]) == ("PID 200", str(came.identity))
    assert seconds(second) == (12.0, 60.0)
    (victim,) = (one for one in trace.under(f"{HEAD}/processes") if one.arguments["victim"])
    assert victim.category == "head"


def test_an_arrow_leads_from_the_fault_to_the_first_lost_request_and_to_recovery() -> None:
    trace = trace_of(node_failure())
    ((fault, lost, back),) = trace.arrows()
    assert (fault.category, lost.category, back.category) == ("fault", "request", "recovery")
    assert (lost.name, seconds(lost)) == ("ReadTimeout", (0.0, 5.0))
    assert back.name == "traffic is back"
    assert seconds(back)[0] == pytest.approx(23.96)
    assert back.last_flows


def test_the_arrow_of_a_request_that_was_in_flight_leads_to_its_end() -> None:
    story = Story().lose(-0.04, -0.03, error="RemoteProtocolError", takes=0.1)
    ((fault, lost, *_),) = trace_of(story).arrows()
    assert (fault.category, lost.category, lost.name) == ("fault", "loss", "RemoteProtocolError")
    assert seconds(lost)[0] == pytest.approx(0.06)


def test_counters_show_what_is_in_flight_and_what_is_answered_well() -> None:
    trace = trace_of(node_failure())
    available = trace.counters[f"{NODE}/availability"]
    assert available[0][1] == 100.0
    assert 40.0 <= min(value for _, value in available) < 70.0, "of five requests, one or two are lost"
    assert available[-1][1] == 100.0
    flying = [value for _, value in trace.counters[f"{NODE}/requests in flight"]]
    assert max(flying) == pytest.approx(50 / 3 * 5, abs=2)
    assert flying[-1] <= 1
    assert all(a != b for a, b in pairwise(flying))


def test_what_was_not_broken_is_a_trace_too() -> None:
    trace = trace_of(not_started())
    assert trace.under(f"{RUN}/worker_failure: inconclusive/requests")
    assert trace.arrows() == []


def test_a_run_without_experiments_is_an_empty_trace() -> None:
    assert read(perfetto_trace(Outcomes(history_of(), ()))).tracks == {RUN: ""}


def test_the_same_run_is_the_same_bytes_and_from_its_file_too(tmp_path: Path) -> None:
    live = History(tmp_path / "history.jsonl")
    head_failure().add_to(live)
    live.close()
    loaded = History.load(tmp_path / "history.jsonl")
    first, again, read_back = (
        perfetto_trace(Outcomes(history, (result_of(history, "head_failure"),))) for history in (live, live, loaded)
    )
    assert first == again
    assert loaded.began == live.began
    both = [sorted((one.track, one.name, one.begin) for one in read(one).slices) for one in (first, read_back)]
    assert [one[:2] for one in both[0]] == [one[:2] for one in both[1]]
    assert all(abs(a - b) <= 2000 for (*_, a), (*_, b) in zip(*both, strict=True)), "the file has microseconds"


def test_two_traces_can_be_put_into_one_file() -> None:
    one, other = outcomes_of(head_failure()), outcomes_of(node_failure())
    other.history.began = BEGAN + timedelta(minutes=5)
    both = read(perfetto_trace(one) + perfetto_trace(other))
    assert [path for path in both.tracks if "/" not in path] == [RUN, RUN.replace("12:00", "12:05")]
    first, second = (one.begin for one in both.slices if one.name in ("head_failure", "node_failure"))
    assert second - first == 300 * SECOND


@given(st.text(st.characters()), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
def test_what_others_have_named_is_text_and_numbers_are_kept(name: str, number: int, share: float) -> None:
    writer = TraceWriter(name, ORIGIN)
    track = writer.track(name, description=name)
    about = writer.about(name, "event", {"text": name, "number": number, "share": share, "so": True})
    writer.slice(track, ORIGIN, ORIGIN + 1, about)
    (found,) = read(writer.finish()).slices
    assert found.name == found.arguments["text"] == printable(name)
    assert (found.arguments["number"], found.arguments["share"], found.arguments["so"]) == (number, share, True)


def test_a_history_that_does_not_say_when_it_began_begins_in_1970() -> None:
    found = outcomes_of(head_failure())
    found.history.began, found.history.origin = None, FAULT
    trace = read(perfetto_trace(found))
    assert trace.began == [0]
    assert min(one.begin for one in trace.slices) == 0, "there is no time before"


def test_all_requests_of_the_picture_are_in_the_trace() -> None:
    given = outcomes_of(head_failure())
    timeline = timeline_of(given.results[0], given.history)
    assert len(read(perfetto_trace(given)).of("request")) == len(timeline.requests)


# -- with `ray timeline` -----------------------------------------------------------------------------------------------


def ray_file(path: Path, *, at: int = ORIGIN + 900 * SECOND, of_the_dashboard: bool = False) -> Path:
    """A file as `ray timeline` of Ray 2.60 writes it, or its dashboard: two calls at once in one worker."""
    node, worker = (0, 1) if of_the_dashboard else ("127.73.1.2", "worker:5f0c")
    calls = [
        {"cat": "task::Echo", "name": "Echo.handle", "pid": node, "tid": worker, "ts": at / 1000 + begin, "dur": 5000.0,
         "cname": "generic_work", "args": {"task_id": "ab12", "attempt_number": 0}, "ph": "X"}
        for begin in (0.0, 2000.0)
    ]  # fmt: skip
    named = [
        {"name": "process_name", "args": {"name": "Node 127.73.1.2"}, "pid": 0, "tid": None, "ph": "M"},
        {"name": "thread_name", "args": {"name": "worker:5f0c"}, "pid": 0, "tid": 1, "ph": "M"},
    ]
    path.write_text(json.dumps([*calls, *named] if of_the_dashboard else calls))
    return path


@pytest.mark.parametrize("of_the_dashboard", [False, True])
def test_what_ray_recorded_is_in_the_same_trace_at_its_time(tmp_path: Path, of_the_dashboard: bool) -> None:
    ray = read_ray_timeline(ray_file(tmp_path / "timeline.json", of_the_dashboard=of_the_dashboard))
    trace = read(perfetto_trace_with_ray(outcomes_of(head_failure()), ray))
    first, second = trace.under("ray timeline/Node 127.73.1.2")
    assert first.track.split("/")[-1] == "worker:5f0c 1"
    assert (first.name, first.category, first.arguments["task_id"]) == ("Echo.handle", "task::Echo", "ab12")
    assert [seconds(one) for one in (first, second)] == [(0.0, 0.005), (0.002, 0.007)]
    assert first.track != second.track, "they overlap"
    assert trace.under(f"{HEAD}/requests")


def test_a_timeline_of_another_day_is_refused(tmp_path: Path) -> None:
    ray = read_ray_timeline(ray_file(tmp_path / "timeline.json", at=ORIGIN - 86400 * SECOND))
    with pytest.raises(HistoryError, match=r"nothing of timeline\.json happened during this run") as refused:
        perfetto_trace_with_ray(outcomes_of(head_failure()), ray)
    assert "2026-11-30T12:00:00+00:00" in str(refused.value)
    with pytest.raises(HistoryError, match="none has no events") as refused:
        perfetto_trace_with_ray(outcomes_of(head_failure()), RayTimeline("none", ()))
    assert "RAY_PROFILING=1" in str(refused.value)


@pytest.mark.parametrize("began", ["", "yesterday", "2026-12-01T12:00:00"])
def test_a_time_of_day_that_a_file_does_not_say_is_unknown(tmp_path: Path, began: str) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps({"type": "history", "format": 1, "version": "0.1.0", "began": began}) + "\n")
    assert History.load(file).began is None


def test_a_history_that_does_not_say_when_it_began_cannot_be_merged() -> None:
    given = outcomes_of(head_failure())
    given.history.began = None
    with pytest.raises(HistoryError, match="does not say when it began"):
        perfetto_trace_with_ray(given, RayTimeline("t", (RayTask("a", "b", "c", "d", 0, 1),)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('"text"', "it is not a list of events"),
        ("[1]", "it is not a list of events"),
        ('[{"ph": "X", "ts": "1", "dur": 2}]', "event 1: 'ts' must be a number, not '1'"),
        ('[{"ph": "X", "ts": -1, "dur": 2}]', "event 1: 'ts' is not a time: -1"),
        ('[{"ph": "X", "ts": 1, "dur": NaN}]', "event 1: 'dur' must be a number"),
    ],
)
def test_what_is_no_timeline_of_ray_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "timeline.json").write_text(text)
    with pytest.raises(HistoryError, match=says):
        read_ray_timeline(tmp_path / "timeline.json")


def test_chromes_other_form_is_read_and_what_has_no_name_gets_one(tmp_path: Path) -> None:
    event = {"ph": "X", "name": "f", "cat": "c", "pid": 3, "tid": 4, "ts": 1, "dur": 2}
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": [event, {"ph": "s"}]}))
    assert read_ray_timeline(tmp_path / "t.json").tasks == (RayTask("f", "c", "Node 3", "worker 4", 1000, 3000),)


# -- serve-chaos report ------------------------------------------------------------------------------------------------


def test_the_trace_of_a_run_of_last_month_is_made_from_its_directory(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    history = judged(head_failure()).history(tmp_path / "history.jsonl")
    assert history.began is not None
    zero = round(history.began.timestamp() * 1e6) * 1000 + round((FAULT - history.origin) * 1e9)
    file = ray_file(tmp_path / "timeline.json", at=zero)
    output = tmp_path / "trace.gz"
    assert main(["report", str(tmp_path), "--format", "perfetto", "--output", str(output)]) == 0
    assert len(read(output.read_bytes()).of("request")) == 3501
    merged = ["--ray-timeline", str(file)]
    assert main(["report", str(tmp_path), "--format", "perfetto", *merged]) == 0
    assert read(capfdbinary.readouterr().out).under("ray timeline")
    assert main(["analyse", str(tmp_path / "history.jsonl"), "--format", "perfetto"]) == 0
    assert gzip.decompress(capfdbinary.readouterr().out) == gzip.decompress(output.read_bytes())


def test_all_files_of_a_run_are_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged(head_failure()).history(tmp_path / "history.jsonl")
    assert main(["report", str(tmp_path)]) == 0
    assert f"json: {tmp_path / 'summary.json'}" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["experiments"][0]["experiment"] == "head_failure"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ray-timeline", "t.json"], "only a perfetto trace takes --ray-timeline"),
        (["--output", "page.html"], "nothing is written to --output"),
        (["--format", "perfetto", "--ray-timeline", "t.json"], "the timeline of Ray t.json cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    judged(head_failure()).history(tmp_path / "history.jsonl")
    assert main(["report", str(tmp_path), *words]) == 2
    assert says in capsys.readouterr().err


def test_bytes_are_not_printed_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head_failure().history(tmp_path / "history.jsonl")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["report", str(tmp_path), "--format", "perfetto"]) == 2
    assert "write it to a file: > FILE" in capsys.readouterr().err
