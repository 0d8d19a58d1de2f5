"""The text of an issue and its picture, from a history alone."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.faults import was_cut_off
from pytest_serve_chaos.cli import main
from pytest_serve_chaos.events import (
    ClusterReady,
    ComponentCame,
    ComponentGone,
    FaultAsked,
    LogsExcerpted,
    Note,
    Repeatable,
    ServeSaid,
    TrafficBegan,
)
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import ClusterDescription, Expectations, Json, LogLine, Measurement, Verdict
from pytest_serve_chaos.report.issue import issue_markdown, subject_of
from pytest_serve_chaos.report.issue.document import MOST, title_of
from pytest_serve_chaos.report.markdown_text import escaped, fenced, folded, in_code
from pytest_serve_chaos.report.picture import timeline_svg
from pytest_serve_chaos.report.picture.canvas import fitted, width_of
from pytest_serve_chaos.report.timeline import timeline_of
from pytest_serve_chaos.report.timeline_facts import facts_of
from pytest_serve_chaos.results import result_of, unfinished
from tests.unit.histories import FAULT, Story, component, deaf_controller, head_failure, node_failure, not_started

CLUSTER = ClusterDescription(
    "kind", "2.60.0", 2, "redis 7.0", "apps:app", "fast", 4, "http://127.0.0.1:1/", {"image": "rayproject/ray:2.60.0"}
)
SVG = "{http://www.w3.org/2000/svg}"


def lines(*texts: str, file: str = "serve/controller_7.log") -> LogsExcerpted:
    logged = tuple(LogLine(number / 10, "head", file, text) for number, text in enumerate(texts))
    return LogsExcerpted("log lines", lines=logged, left_out=0)


def told(story: Story) -> Story:
    """The experiment with all that a run of today writes."""
    statuses = {"app default": "RUNNING", "deployment default#SleepyPid": "HEALTHY", "proxy on worker-2": "HEALTHY"}
    story.add(-9.9, ServeSaid("Serve says", statuses=statuses))
    story.add(-10.0, TrafficBegan("traffic begins", rate=50.0))
    story.add(0.1, ComponentGone("controller is gone (PID 190)", component=component("controller", "head")))
    story.add(7.0, ComponentCame("controller is there", component=component("controller", "head", incarnation=2)))
    story.add(61.0, lines("INFO controller -- Controller starting", "ERROR controller -- `odd` @ray #123"))
    options = ("--serve-chaos-backend=kind", "--serve-chaos-rate=50")
    return story.add(
        61.0,
        Repeatable(
            "pytest --serve-chaos --serve-chaos-seed=7 --serve-chaos-backend=kind test_a.py::test_head",
            test="test_a.py::test_head",
            seed=7,
            options=options,
            on_local=("--serve-chaos-rate=50",),
        ),
    )


def history_of(story: Story, path: Path | None = None) -> History:
    history = History(path)
    history.add(ClusterReady("a cluster", at=900.0, description=CLUSTER, seed=7))
    story.add_to(history)
    history.close()
    return history if path is None else History.load(path)


def issue(story: Story, path: Path | None = None) -> str:
    history = history_of(story, path)
    return issue_markdown(subject_of(history, result_of(history, story.experiment)))


def picture(story: Story) -> str:
    history = history_of(story)
    return timeline_svg(timeline_of(result_of(history, story.experiment), history), "a cluster")


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_issue_has_all_in_the_order_in_which_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    text = issue(told(node_failure()), path)
    parts = [
        " requests lost or late after SIGKILL to the head (Ray 2.60.0)\n",
        "(95 % interval: ",
        "](timeline.svg)",
        "<details><summary>Versions, topology and settings</summary>",
        "| Ray | `2.60.0` |",
        "| settings that were changed | `--serve-chaos-backend=kind --serve-chaos-rate=50` |",
        "### What happened, in seconds from the fault",
        "    +0.00 s  fault          SIGKILL to the head",
        "### Lost requests",
        "| `ReadTimeout` | fresh connection | none answered | 0.0 s to +23.9 s | 5.0 s | 400 |",
        "### Log lines around the fault",
        "**controller (PID 7) on head**",
        "### What Serve said, and what answered",
        "deployment default#SleepyPid HEALTHY",
        "### Run it again",
        "--serve-chaos-backend=local --serve-chaos-seed=7 --serve-chaos-rate=50 test_a.py::test_head",
        "`test_a.py` is not part of pytest-serve-chaos. Attach it",
        "### Known defects that look like this",
        f"SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


HOST: dict[str, Json] = {
    "has_cluster": True, "system": "Linux 6.8 x86_64", "distribution": "Debian 12", "processors": 2,
    "memory": 8 << 30,
}  # fmt: skip
SET: dict[str, Json] = {
    "head": {"RAY_A": "1", "RAY_B": "2"},
    "workers": {"RAY_A": "1"},
    "serve": {"health_check_period_s": 1.0},
}


def issue_of(ready: ClusterReady) -> str:
    history = History()
    history.add(ready)
    told(node_failure()).add_to(history)
    return issue_markdown(subject_of(history, result_of(history, "node_failure")))


def test_a_maintainer_is_told_the_machine_and_what_the_profile_sets() -> None:
    text = issue_of(ClusterReady("", at=900.0, description=CLUSTER, host=HOST, profile_settings=SET))
    for row in (
        "| operating system | `Linux 6.8 x86_64, Debian 12` |",
        "| processors | `2` |",
        "| memory | `8.0 GiB` |",
        "| `RAY_A` | `1` | head and workers |",
        "| `RAY_B` | `2` | head |",
        "| `health_check_period_s` | `1.0` | Serve config |",
    ):
        assert row in text


def test_an_issue_says_nothing_of_its_authors_machine_and_contexts() -> None:
    details: dict[str, Json] = {
        "context": "prod-eu",
        "run": "sc-7f",
        "redis": "/home/me/bin/redis-server",
        "image": "x",
    }
    history = History()
    history.add(ClusterReady("", at=900.0, description=replace(CLUSTER, backend="kubernetes", details=details)))
    options = ("--serve-chaos-context=prod-eu", "--serve-chaos-allow-context=prod-eu", "--serve-chaos-rate=50")
    command = f"pytest --serve-chaos {' '.join(options)} test_a.py"
    node_failure().add(61.0, Repeatable(command, test="test_a.py", options=options)).add_to(history)
    text = issue_markdown(subject_of(history, result_of(history, "node_failure")))
    assert "prod-eu" not in text
    assert "/home/me" not in text
    assert "sc-7f" not in text
    assert "| redis | `redis-server` |" in text
    assert "--serve-chaos-context=... --serve-chaos-allow-context=... --serve-chaos-rate=50" in text


def test_the_command_of_an_issue_names_files_and_none_of_its_authors_directories() -> None:
    options = ("--serve-chaos-redis-server=/home/me/bin/redis-server", "--serve-chaos-path=/v1/models")
    command = f"pytest --serve-chaos {' '.join(options)} test_a.py"
    repeat = Repeatable(command, test="test_a.py", options=options, on_local=options)
    text = issue(node_failure().add(61.0, repeat))
    assert "/home/me" not in text
    both = "--serve-chaos-redis-server=redis-server --serve-chaos-path=/v1/models"
    assert f"--serve-chaos-backend=local --serve-chaos-seed=7 {both} test_a.py" in text
    assert f"| settings that were changed | `{both}` |" in text


def test_the_machine_of_the_tests_is_not_taken_for_that_of_a_cluster_elsewhere() -> None:
    text = issue_of(ClusterReady("", at=900.0, description=CLUSTER, host={**HOST, "has_cluster": False}))
    assert "| processors of the tests' machine | `2` |" in text
    assert "| processors |" not in text
    assert "Set by the profile" not in text


def test_of_an_older_history_what_it_does_not_have_is_left_out() -> None:
    text = issue(told(node_failure()))
    assert "operating system" not in text
    assert "Set by the profile" not in text


def test_a_failure_without_a_lost_request_says_what_failed() -> None:
    text = issue(told(deaf_controller()))
    assert text.startswith("## 3 proxies do not hear their controller after SIGKILL to the head (Ray 2.60.0)\n")
    assert re.search(r"\nNone of \d+ requests was lost or late in the 20 s after the fault", text)
    assert "[ray#63784](https://github.com/ray-project/ray/issues/63784): proxies that were alive" in text
    assert "no longer received the controller's updates" in text


@pytest.mark.parametrize(
    ("story", "title"),
    [
        (not_started(), "## The pod held no replica and answered nothing before the fault (Ray 2.60.0)\n"),
        (Story().without("landed", "evidence"), "## The fault did not land"),
        (Story(), "## No request lost after SIGKILL to the head"),
    ],
)
def test_a_title_says_no_more_than_was_seen(story: Story, title: str) -> None:
    text = issue(story)
    assert text.startswith(title), text.splitlines()[0]
    assert "after nothing was broken" not in text


NOT_LANDED = Story().without("landed", "evidence")
CUT_OFF = Story(traffic_until=0.0).without("landed", "evidence", "redundancy_back", "settled")
CUT_OFF.events = [event for event in CUT_OFF.events if event.at <= FAULT and event.kind != "topology"]


def test_what_did_not_land_led_to_nothing() -> None:
    text = issue(NOT_LANDED)
    title, _, sentence = text.splitlines()[:3]
    assert title == "## The fault did not land within 60 s: SIGKILL to the head (Ray 2.60.0)"
    assert sentence.startswith("SIGKILL to the head; that did not land, so what it cost was not measured.")
    assert "What the fault cost was not measured." in text
    assert "No request was lost" not in text


def test_of_a_history_that_was_cut_off_nobody_knows_whether_the_fault_landed() -> None:
    history = history_of(CUT_OFF)
    text = issue_markdown(subject_of(history, unfinished(history, CUT_OFF.experiment)))
    assert text.startswith("## The run ended before its verdict, in the phase inject: SIGKILL to the head (Ray 2.60.0)")
    assert "SIGKILL to the head; the history ends before it shows whether that landed" in text
    assert "![Fault at 0.0 s: SIGKILL to the head; the history ends before it shows whether it landed." in text
    assert "- so far: the history ends before it shows whether the fault landed" in text
    assert "did not land" not in text


def test_a_fault_that_was_given_up_did_not_land_though_nothing_follows() -> None:
    """As when a test by hand asks about its requests while the experiment goes on."""
    asked = FaultAsked("SIGKILL to the head", at=0.0)
    assert was_cut_off(asked, [asked, Note("look at this", at=1.0)])
    assert not was_cut_off(asked, [asked, Note("the fault is not proved: no sign yet", at=9.0)])


def test_losses_that_no_figure_counts_are_called_so() -> None:
    text = issue(Story().without("landed", "evidence").lose(1.0, 2.0))
    assert "No figure counts these: what the fault cost was not measured." in text
    assert "| `ReadTimeout` |" in text


def test_the_picture_of_an_experiment_without_a_fault_says_that() -> None:
    story = Story(before=None, after=None).without("asked", "landed", "evidence", "redundancy_back", "settled")
    assert "![No fault was injected." in issue(story)


def test_what_the_generator_did_is_no_title_about_lost_requests() -> None:
    story = told(node_failure())
    story.requests = [replace(one, sent=one.scheduled + 3.0, finished=one.finished + 3.0) for one in story.requests]
    story.requests = [replace(one, error=None, status=200) for one in story.requests]
    text = issue(story)
    assert text.startswith("## The load generator was late: SIGKILL to the head (Ray 2.60.0)")
    assert "These figures are not the cluster's alone." in text


def test_a_title_is_no_mere_name() -> None:
    history = history_of(told(node_failure()))
    result = result_of(history, "node_failure")
    result = replace(result, measurement=Measurement())
    measured = replace(result, verdict=Verdict("measured", ("nothing was judged",)), measurement=Measurement(sent=9))
    assert title_of(subject_of(history, measured)).startswith("No request lost after SIGKILL to the head")
    for reason, title in (
        (
            "p999: 4.0 s, and 0.5 s is allowed",
            "P999: 4.0 s, and 0.5 s is allowed after SIGKILL to the head (Ray 2.60.0)",
        ),
        ("3 proxies are stale: a, b, c", "3 proxies are stale after SIGKILL to the head (Ray 2.60.0)"),
    ):
        subject = subject_of(history, replace(result, verdict=Verdict("failed", (reason,))))
        assert title_of(subject) == title


def test_an_older_history_says_what_it_does_not_have() -> None:
    text = issue(node_failure())
    assert "The history does not have what Serve's REST API said." in text
    assert "-k node_failure" in text
    assert "### Log lines around the fault\n\nThe history has no log lines of that time." in text


def test_log_lines_end_no_block_and_link_nothing() -> None:
    story = node_failure().add(61.0, lines("``` @ray-project/team fixes #123", "</details><script>", "````text"))
    text = issue(story)
    (block,) = re.findall(r"^(`{3,})text\n(.*?)^\1$", text[text.index("### Log lines") :], re.MULTILINE | re.DOTALL)
    assert block[0] == "`````"
    assert block[1].count("\n") == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@ray-project/serve", "@<!-- -->ray-project/serve"),
        ("fixes #123", "fixes #<!-- -->123"),
        ("GH-12", "GH-<!-- -->12"),
        ("http://evil", "http&#58;//evil"),
        ("<img src=x>", "&lt;img src=x>"),
        ("# not a heading", "\\# not a heading"),
        ("1. not a list", "1<!-- -->. not a list"),
        ("- not a list", "\\- not a list"),
        ("> no quotation", "\\> no quotation"),
        ("`a`|b*c*", "\\`a\\`\\|b\\*c\\*"),
        ("0.5 s -> 3", "0.5 s -> 3"),
    ],
)
def test_text_of_others_is_text(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_what_is_folded_has_a_title_that_is_text() -> None:
    assert folded("a_b <c> & @ray #1", ["text"])[0] == (
        "<details><summary>a_b &lt;c&gt; &amp; @<!-- -->ray #<!-- -->1</summary>"
    )


@given(st.text())
def test_code_of_others_is_code(text: str) -> None:
    shown = in_code(text)
    fence = re.match("`+", shown)
    assert fence is not None
    assert shown.endswith(fence[0])
    inside = shown[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall("`+", inside)
    assert "\n" not in shown
    assert "|" not in shown


@given(st.lists(st.text(alphabet="`~@#<a\n "), max_size=5))
def test_a_block_ends_where_it_ends(texts: list[str]) -> None:
    first, *inside, last = fenced(texts)
    assert len(inside) == len(texts)
    assert first == f"{last}text"
    assert not any(line.strip().startswith(last) for line in inside)


@settings(max_examples=10, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_names_of_others_break_neither_the_text_nor_the_picture(name: str) -> None:
    story = Story(traffic_until=1.0, begin=-1.0)
    story.event(0.0, "asked", name, fault=name)
    story.add(61.0, lines(name, file=name))
    history = history_of(story)
    result = result_of(history, "head_failure")
    subject = subject_of(history, replace(result, fault=name))
    assert "<script" not in issue_markdown(subject).lower().replace("\\", "")
    ET.fromstring(timeline_svg(replace(subject.timeline, experiment=name, fault=name), name))


def test_the_text_has_room_in_an_issue() -> None:
    words = [f"ERROR {chr(97 + i % 26) * 300} ```" for i in range(12)]
    story = node_failure()
    for number in range(40):
        story.add(61.0, lines(*words, file=f"serve/controller_{number}.log"))
        story.event(number / 10, "problem", "x" * 5000)
    assert len(issue(story)) <= MOST


# -- the picture -------------------------------------------------------------------------------------------------------


def texts(svg: str) -> list[tuple[float, float, float, str]]:
    """Each text with where it begins, its line and where it ends at the latest."""
    found = []
    for element in ET.fromstring(svg).iter(f"{SVG}text"):
        x, y = float(element.get("x", "0")), float(element.get("y", "0"))
        size = {"big": 15, "head": 12}.get(element.get("class", "").split()[-1], 11)
        text = (element.text or "") + "".join(child.tail or "" for child in element)
        found.append((x, y, x + width_of(text, size), text))
    return found


@pytest.mark.parametrize("story", [told(node_failure()), told(deaf_controller()), told(head_failure()), Story()])
def test_no_text_is_over_another_and_none_beyond_the_edge(story: Story) -> None:
    found = texts(picture(story))
    assert len(found) > 10
    assert [text for _, _, right, text in found if right > 900] == []
    for number, (x, y, right, text) in enumerate(found):
        for other_x, other_y, other_right, other in found[number + 1 :]:
            apart = abs(y - other_y) >= 10 or right <= other_x or other_right <= x
            assert apart, f"{text!r} is over {other!r}"


def test_the_picture_is_light_and_dark_and_says_what_it_shows() -> None:
    svg = picture(told(node_failure()))
    assert "@media (prefers-color-scheme:dark)" in svg
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert "400 of 1198 requests lost" in (described.text or "")
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_the_picture_counts_the_losses_that_it_shows() -> None:
    story = node_failure().lose(-9.0, -8.0, error="ReadError").lose(-2.0, -1.9, error="ConnectError")
    shown = [text for *_, text in texts(picture(story))]
    assert "400 ReadTimeout" in shown
    assert "5 ConnectError" in shown
    assert not [text for text in shown if "ReadError" in text], "five seconds before the fault are shown"


def test_a_busy_experiment_is_no_large_picture() -> None:
    story = Story(rate=150.0).lose(0.0, 20.0, every=2)
    assert len(picture(story)) < 100_000


@given(st.text(max_size=80), st.floats(0, 300))
def test_a_text_is_cut_to_its_room(text: str, room: float) -> None:
    assert width_of(fitted(text, room, 11), 11) <= room


# -- its facts as text -------------------------------------------------------------------------------------------------


def test_the_facts_are_what_the_picture_shows() -> None:
    story = told(node_failure(Expectations(slow_after=1.0)))
    history = history_of(story)
    facts = facts_of(timeline_of(result_of(history, story.experiment), history))
    assert facts[0] == "Fault at 0.0 s: SIGKILL to the head, landed at +8.0 s."
    assert facts[1].startswith("Outage from 0.0 s to +24.0 s (24.0 s): 400 of 1198 requests lost")
    assert any(fact.startswith("controller: gone PID 200 at +0.1 s, there PID 200 since +7.0 s") for fact in facts)
    assert facts[-1].endswith("app default RUNNING, deployment default#SleepyPid HEALTHY, proxy on worker-2 HEALTHY.")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run" / "history.jsonl"
    path.parent.mkdir()
    history_of(told(node_failure()), path)
    assert main(["report", str(path.parent), "--issue", "node_failure", "--out", str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["issue.md", "timeline.svg"]
    assert str(tmp_path / "out" / "issue.md") in capsys.readouterr().out
    assert main(["report", str(path), "--issue", "node_failure"]) == 0
    assert (path.parent / "issue-node_failure" / "issue.md").read_text() == (tmp_path / "out" / "issue.md").read_text()


def test_an_experiment_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    history_of(told(node_failure()), path)
    assert main(["report", str(path), "--issue", "other"]) == 2
    error = capsys.readouterr().err
    assert "has no experiment 'other'" in error
    assert "node_failure" in error
