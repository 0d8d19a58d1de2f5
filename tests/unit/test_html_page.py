"""The page of a run: everything is in it, and nothing that others wrote becomes a part of it."""

from __future__ import annotations

import base64
import json
import random
import re
import zlib
from array import array
from html.parser import HTMLParser
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.analysis.trials import Series
from pytest_serve_chaos.events import LogsExcerpted, Predicted, Repeatable, ServeSaid, Warned
from pytest_serve_chaos.model import ConfigWarning, Json, LogLine, Request
from pytest_serve_chaos.predicted import PredictedStep, Prediction
from pytest_serve_chaos.report import Outcomes
from pytest_serve_chaos.report.page import page
from pytest_serve_chaos.report.page.columns import Packed, drawn, pack, pack_requests
from pytest_serve_chaos.report.page.markup import Html, data, element, inline, together
from pytest_serve_chaos.report.timeline import Requests, columns_of
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story, deaf_controller, head_failure, node_failure, not_started, request, trials

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&--><!--\u202e"


def page_of(*stories: Story) -> str:
    history = stories[0].history()
    for number, story in enumerate(stories[1:], start=1):
        story.add_to(history, later=1000.0 * number)
    return page(Outcomes(history, tuple(result_of(history, story.experiment) for story in stories)))


class Parts(HTMLParser):
    """The elements of a page, and the text in each kind of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.data: list[Json] = []
        self._open: list[str] = []
        self._is_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._is_data = ("type", "application/json") in attrs
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            if self._is_data:
                self.data.append(json.loads(data))
        elif self._open and self._open[-1] != "style":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass


def unpacked(packed: Packed) -> dict[str, list[int]]:
    planes = zlib.decompress(base64.b64decode(packed.text))
    rows = packed.rows
    return {
        name: [
            sum(planes[(4 * place + plane) * rows + row] << (8 * plane) for plane in range(4)) for row in range(rows)
        ]
        for place, name in enumerate(packed.names)
    }


def test_a_page_has_the_verdicts_and_a_section_for_each_experiment() -> None:
    parts = Parts(page_of(head_failure(), node_failure(), not_started()))
    assert parts.tags.count("section") == 4, "the verdicts, and one for each experiment"
    assert ("href", "#experiment-2") in parts.attributes
    assert ("id", "experiment-2") in parts.attributes
    assert "the pod held no replica" in parts.text
    assert "at least 99 % in 20 s" in parts.text
    assert len(parts.data) == 3


def test_what_is_drawn_is_all_that_was_sent() -> None:
    (picture,) = Parts(page_of(head_failure())).data
    table = cast("dict[str, Json]", cast("dict[str, Json]", picture)["requests"])
    assert (table["rows"], table["all"]) == (3501, 3501)
    assert table["counts"] == {"fresh": 3498, "kept": 0, "late": 0, "outcomes": [3498, 3]}
    columns = unpacked(Packed(str(table["packed"]), tuple(cast("list[str]", table["columns"])), 3501))
    assert sum(map(bool, columns["outcome"])) == 3
    assert set(columns["scheduled"][1:]) == {2000}, "at 50 a second each is 20 ms after the one before"
    assert cast("dict[str, list[str]]", table["words"])["outcome"] == ["", "RemoteProtocolError"]


def test_losses_stand_by_outcome_way_and_replica_and_those_that_no_figure_counts_are_counted() -> None:
    story = node_failure()
    story.requests[0] = request(FAULT - 9.0, "ReadTimeout", takes=2.0)
    answered = Request(1, "kept:0", FAULT + 3.0, FAULT + 3.0, FAULT + 3.1, 500, "HTTP 500", "r#1", path="proxy on head")
    story.requests.append(answered)
    text = Parts(page_of(story)).text
    assert "ReadTimeoutfresh connection-400+0.00 s+23.94 s5.0 s" in text
    assert "HTTP 500persistent connection to proxy on headr#11+3.00 s+3.00 s100 ms" in text
    assert (
        "1 more request was lost before the fault, or after the observation had ended; no figure counts them." in text
    )


def test_what_looks_like_a_known_defect_says_by_what() -> None:
    text = Parts(page_of(deaf_controller())).text
    assert "Known defects that look like this" in text
    assert "ray#63784: proxies that were alive" in text
    assert "Here: proxy on head, proxy on worker-1, proxy on worker-2 did not get a new route." in text
    assert "Known defects" not in Parts(page_of(Story())).text


def test_a_request_has_its_number_and_a_lost_one_the_id_by_which_logs_name_it() -> None:
    lost = Request(4711, "fresh", FAULT + 1.0, FAULT + 1.0, FAULT + 1.1, 500, "HTTP 500", request_id="5f0c-1")
    story = Story(before=None, after=None, rate=0.5)
    story.requests.append(lost)
    table = cast("dict[str, Json]", cast("dict[str, Json]", Parts(page_of(story)).data[0])["requests"])
    columns = unpacked(
        Packed(str(table["packed"]), tuple(cast("list[str]", table["columns"])), int(str(table["rows"])))
    )
    place = columns["number"].index(4711)
    words = cast("dict[str, list[str]]", table["words"])
    assert words["requestId"][columns["requestId"][place]] == "5f0c-1"
    assert sum(map(bool, columns["requestId"])) == 1


def test_log_lines_stand_by_process_and_with_their_times() -> None:
    lines = (
        LogLine(-0.5, "head", "serve/controller_797.log", "deploying <shop>"),
        LogLine(0.25, "head", "serve/controller_797.log", "lost", times=3),
    )
    story = head_failure().add(20.0, LogsExcerpted("2 lines", lines=lines, left_out=5))
    parts = Parts(page_of(story))
    assert "controller (PID 797) on head" in parts.text
    assert "-0.50 s  deploying <shop>\n   +0.25 s  lost  (x 3)" in parts.text
    assert "5 lines left out" in parts.text


def test_what_was_expected_stands_beside_what_was_seen() -> None:
    prediction = Prediction(
        "head_failure",
        lost=1.5,
        lost_most=4,
        outage_most=2.0,
        redundancy_least=8.0,
        redundancy_most=30.04,
        steps=(PredictedStep("outage", "the proxy is found unhealthy", 1.0, None, "PERIOD_S = 1", "serve, Ray 2.60"),),
        dominant="PERIOD_S = 1",
        change="0.5 would give 15 s",
        unknown=("how long the image is pulled",),
    )
    text = Parts(page_of(head_failure().add(-0.05, Predicted("expected", prediction=prediction)))).text
    for words in (
        "1.5 on average, at most 4 in 99 of 100 cases",
        "0 s to 2 s",
        "8 s to 30 s",
        "19.8 s",
        "at least 1 s",
    ):
        assert words in text
    assert "The setting that matters most is PERIOD_S = 1: 0.5 would give 15 s" in text
    assert "Unknown: how long the image is pulled" in text
    unknown = Prediction("custom", why_not="nobody knows what a fault of your own does")
    said = Parts(page_of(head_failure().add(-0.05, Predicted("", prediction=unknown)))).text
    assert "No prediction: nobody knows" in said


def test_a_test_that_was_run_in_trials_has_one_row_with_its_rate_and_its_trials_beneath() -> None:
    text = page_of(*trials(["passed", "failed", "passed"], allowed=1), node_failure())
    once, rates, each = re.findall(r"<tbody>(.*?)</tbody>", text.partition('id="experiments"')[0])
    assert "node_failure" in once
    assert "head_failure" not in once
    assert rates.count("<tr>") == 1
    assert ">passed</span>" in rates, "one may fail"
    rate = Series(3, 1, ("passed", "failed", "passed")).text
    assert f'<td class="rate">{rate}</td>' in rates
    assert '<td data-title="lost">0 (0 to 50)</td>' in rates
    assert each.count("<tr>") == 3
    assert '<a href="#experiment-2">head_failure-2</a>' in each
    assert '<details id="trials-1"' in text
    assert '<p class="counts">1 failed, 1 passed (3 trials)</p>' in text


def test_trials_that_have_not_all_ended_are_unfinished() -> None:
    text = page_of(*trials(["passed", "passed"], planned=20))
    assert '<p class="counts">1 unfinished (2 trials)</p>' in text


def test_it_says_how_to_repeat_the_experiment() -> None:
    assert "pytest --serve-chaos -k head_failure" in Parts(page_of(head_failure())).text
    command = "pytest --serve-chaos --serve-chaos-seed=7 tests/test_it.py::test_head"
    assert command in Parts(page_of(head_failure().add(-9.0, Repeatable(command)))).text


def test_nothing_is_loaded_and_only_the_code_of_this_package_may_run() -> None:
    text = page_of(head_failure())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe" not in policy[1]
    links = set(re.findall(r'(?:src|href)="((?!#)[^"]*)', text + page_of(deaf_controller())))
    assert links == {"https://github.com/ray-project/ray/issues/63784"}, "of a known defect"
    assert not re.search(r"<[a-z]+ [^>]*\b(?:style|on[a-z]+)=", text.split("<script>")[0].split("</style>")[1])


def test_what_others_wrote_stays_text() -> None:
    story = Story(experiment=HOSTILE, before=None, after=None)
    story.event(1.0, "note", HOSTILE).event(2.0, "remark", HOSTILE)
    story.add(3.0, ServeSaid(HOSTILE, statuses={f"app {HOSTILE}": HOSTILE}))
    story.add(-20.0, Warned("w", warning=ConfigWarning(HOSTILE, HOSTILE, HOSTILE, HOSTILE)))
    story.requests += [
        Request(9, "fresh", FAULT + 9, None, FAULT + 10, error=HOSTILE, replica=HOSTILE, path=HOSTILE, app=HOSTILE)
    ]
    parts, harmless = Parts(page_of(story)), Parts(page_of(Story(before=None, after=None)))
    assert parts.tags.count("script") == harmless.tags.count("script")
    assert "img" not in parts.tags
    assert "<script>alert(1)" in parts.text
    assert "\u202e" not in parts.text + json.dumps(parts.data, ensure_ascii=False)
    assert not [name for name, _ in parts.attributes if name.startswith("on")]


@given(st.text())
def test_text_is_never_markup(text: str) -> None:
    parts = Parts(f"<p>{element('b', text, title=text)}</p>{data({text: text}, id='x')}<i></i>")
    assert parts.tags == ["p", "b", "script", "i"]
    assert json.loads(json.dumps(parts.data)) == [{text: text}]


def test_markup_of_this_package_is_not_escaped_twice() -> None:
    assert element("p", element("b", "a & b"), None, ["c", Html("<br>")]) == "<p><b>a &amp; b</b>c<br></p>"
    assert element("meta", charset="utf-8", hidden=True, id=None) == '<meta charset="utf-8" hidden>'
    assert together(["<", Html("<")]) == "&lt;<"


def test_code_that_would_end_its_own_element_is_refused() -> None:
    with pytest.raises(ValueError, match="must not have </script"):
        inline("script", "x = '</SCRIPT>'")


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9)), max_size=50))
def test_columns_come_back_as_they_were(rows: list[tuple[int, int]]) -> None:
    columns = {"a": array("I", [a for a, _ in rows]), "b": array("I", [b for _, b in rows])}
    assert unpacked(pack(columns)) == {name: list(column) for name, column in columns.items()}


def many(number: int, *, lost: int) -> Requests:
    chance = random.Random(7)
    found = [request(at / 1000, takes=chance.expovariate(100)) for at in range(number)]
    for place in chance.sample(range(number), lost):
        found[place] = request(place / 1000, "ReadTimeout", takes=5.0)
    return columns_of(found, 0.0)


def test_of_too_many_requests_no_loss_is_left_out() -> None:
    requests = many(6000, lost=300)
    found = drawn(requests, None, most=2000)
    assert len(found) <= 2000
    assert sum(requests.outcome[i] > 0 for i in found) == 300
    assert list(found) == sorted(found)


def test_of_too_many_losses_some_are_left_out_everywhere() -> None:
    requests = many(6000, lost=5000)
    found = drawn(requests, None, most=1000)
    assert len(found) <= 1000
    times = [requests.scheduled[i] for i in found if requests.outcome[i]]
    assert min(times) < 0.1
    assert max(times) > 5.9


def test_few_requests_are_all_drawn_in_order() -> None:
    requests = columns_of([request(2.0), request(1.0), request(3.0)], 0.0)
    assert list(drawn(requests, None)) == [1, 0, 2]
    assert unpacked(pack_requests(requests, None))["scheduled"] == [0, 100000, 100000]
    assert pack_requests(columns_of([], 0.0), None).rows == 0
