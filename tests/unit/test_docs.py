"""The documentation says what the code does, and what the runs in docs/measured have measured."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple, cast, get_type_hints

import pytest

from pytest_serve_chaos.analysis import configuration
from pytest_serve_chaos.analysis.demands import with_demands
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.backends.registry import BUILT_IN as BACKENDS
from pytest_serve_chaos.backends.registry import settings_table
from pytest_serve_chaos.events import EVENTS
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.spec import FaultSpec
from pytest_serve_chaos.faults.tables import JUDGED, TABLES, written
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.load import Traffic
from pytest_serve_chaos.markers import CLUSTER_MARKER, cluster_request, fault_request
from pytest_serve_chaos.model import Expectations, Measurement
from pytest_serve_chaos.options import OPTIONS
from pytest_serve_chaos.report.junit import properties
from pytest_serve_chaos.settings import Settings
from tests.unit.histories import deaf_controller, head_failure, node_failure
from tools.measured import _times_back, reduced, runs_of
from tools.measured import written as with_figures

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FILES = (*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md")))
PAGES = {path.name: path.read_text() for path in FILES}
README = PAGES["README.md"]
REFERENCE = PAGES["reference.md"]


def between(page: str, name: str) -> str:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``."""
    return page.split(f"<!-- {name} -->\n", 1)[1].split(f"<!-- /{name} -->\n", 1)[0]


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the table rows whose first cell is ``first``."""
    lines = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ") and line.endswith(" |")]
    return [cells for cells in lines if cells[0] == first]


def words(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- what is generated -------------------------------------------------------------------------------------------------


def test_the_reference_has_the_settings_as_they_are() -> None:
    assert between(REFERENCE, "settings") == settings_table(BACKENDS)


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_about_faults_are_as_they_are_made(page: str) -> None:
    assert PAGES[page] == written(PAGES[page]), "run: python -m pytest_serve_chaos.faults.tables README.md docs/*.md"


def test_each_table_about_faults_is_on_a_page() -> None:
    assert [name for name in TABLES if sum(f"<!-- {name} -->" in text for text in PAGES.values()) != 1] == []


def test_nothing_alongside_that_table_is_judged_by_default() -> None:
    bare = Expectations()
    for fault in BUILT_IN:
        assert replace(fault.expectations, **{name: getattr(bare, name) for name in JUDGED}) == bare


# -- what is written by hand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", BUILT_IN, ids=lambda fault: fault.name)
def test_readme_and_reference_say_what_each_marker_takes(fault: FaultSpec[object]) -> None:
    takes = [words(fault.verbs), words(tuple(option.name for option in fault.options))]
    (in_readme,) = rows(README, f"`{fault.name}`")
    in_reference = rows(REFERENCE, f"`{fault.name}`")[0]
    assert in_readme[-2:] == takes
    assert in_reference[1:] == takes


def test_the_reference_has_the_faults_of_each_warning_that_is_the_same_for_all_nodes() -> None:
    concerned = {
        name: {fault.name for fault in BUILT_IN if not losses.isdisjoint(fault.loses)}
        for name, losses in {
            "no_fault_tolerance": {"head"},
            "redis_forgets": {"redis"},
            "redis_on_ray_node": {"Ray node"},
            "replicas_on_head": {"head"},
            "proxy_on_head_only": {"head", "proxy"},
            "one_replica": {"replica"},
            "all_on_one_node": {"worker"},
            "no_limit_per_node": {"worker"},
            "all_on_one_machine": {"machine"},
            "no_drain": {"worker"},
            "no_replacement": {"Ray node"},
        }.items()
    }
    for code, faults in concerned.items():
        (row,) = rows(REFERENCE, f"`{code}`")
        assert set(re.findall(r"`(\w+)`", row[2])) == faults, code


def first_column(page: str, title: str) -> list[str]:
    """The names in the first column of the table whose first title that is."""
    _, _, table = page.partition(f"\n| {title} |")
    body = table.split("\n\n", 1)[0].splitlines()[2:]
    return [name for line in body for name in re.findall(r"`(\w+)`", line.split(" | ")[0])]


@pytest.mark.parametrize("record", [Result, Measurement])
def test_the_reference_has_every_field_of_a_result(record: type[Result | Measurement]) -> None:
    assert first_column(REFERENCE, f"field of `{record.__name__}`") == [field.name for field in fields(record)]


def test_the_reference_has_every_demand() -> None:
    demands = [field.name for field in fields(Expectations) if field.name != "send_lag_limit"]
    assert first_column(REFERENCE, "keyword | unit") == demands


def test_the_reference_has_every_code_of_the_check_of_the_configuration() -> None:
    source = inspect.getsource(configuration)
    codes = re.findall(r'ConfigWarning\(\n\s+"(\w+)"', source)
    assert first_column(REFERENCE, "code") == codes


def test_the_reference_has_every_kind_of_event() -> None:
    assert first_column(REFERENCE, "kind") == [event.name for event in EVENTS]


@pytest.mark.parametrize("given", [Chaos, Experiment, Injection, Traffic, ServeCluster, Result])
def test_the_reference_names_every_public_member(given: type) -> None:
    public = [name for name, value in vars(given).items() if not name.startswith("_") and _is_member(value)]
    assert public
    assert [name for name in public if not re.search(rf"`(chaos\.)?{name}\b", REFERENCE)] == []


def _is_member(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property)


def test_the_reference_names_every_junit_property() -> None:
    from pytest_serve_chaos.results import result_of

    stories = (head_failure(), node_failure(), deaf_controller())
    names = {name for s in stories for name, _ in properties(result_of(s.history(), s.experiment))}
    assert len(names) > 10
    assert [name for name in sorted(names) if f"`{name}`" not in REFERENCE] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_exists(page: str) -> None:
    named = {option.rstrip("-") for option in re.findall(r"--serve-chaos[a-z-]*", PAGES[page])}
    added = re.findall(r'Option\(\s*"(\w+)"', PAGES[page])  # by the plugin that the page shows
    flags = {row.flag for row in (*OPTIONS, *(OPTIONS[0]._replace(name=name) for name in added))}
    assert named <= {"--serve-chaos", *flags}


@pytest.mark.parametrize("page", PAGES)
def test_an_option_and_its_value_are_one_word(page: str) -> None:
    taking_a_value = {row.flag for row in OPTIONS if row.kind.metavar}
    commands = [line for line in PAGES[page].splitlines() if re.match(r"\s*(\$ pytest|- run: pytest|--serve)", line)]
    written = [word for line in commands for word in line.split() if word in taking_a_value]
    assert written == [], "pytest takes a path that is a word of its own for a test path"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    base = ROOT if page in TOP else ROOT / "docs"
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = base / path if path else base / page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# -- examples ----------------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """A block of Python on a page."""

    page: str
    source: str

    def __str__(self) -> str:
        return f"{self.page}: {self.source[:60]!r}"


def examples() -> Iterator[Example]:
    for page, text in PAGES.items():
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Example(page, block)


EXAMPLES = list(examples())


def calls(example: Example) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every call of an attribute, as ``pytest.mark.head_failure``, with those of its keywords that are literals."""
    for node in ast.walk(ast.parse(example.source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {k.arg: literal(k.value) for k in node.keywords if k.arg is not None}
            yield ast.unparse(node.func), {name: value for name, value in given.items() if value is not NotImplemented}


def literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NotImplemented


def test_there_are_examples_on_the_pages_for_users() -> None:
    assert {"README.md", "tutorial.md", "how-to.md"} <= {example.page for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_markers_of_an_example_are_valid(example: Example) -> None:
    for function, keywords in calls(example):
        name = function.removeprefix("pytest.mark.")
        marker = pytest.Mark(name, (), dict(keywords), _ispytest=True)
        if name in BUILT_IN:
            assert fault_request([marker], BUILT_IN) is not None
        elif name == CLUSTER_MARKER:
            cluster_request([marker], Settings(seed=1))


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_demands_of_an_example_can_be_made(example: Example) -> None:
    for function, keywords in calls(example):
        if function in ("experiment.run", "experiment.measure"):
            with_demands(Expectations(), keywords)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_targets_of_an_example_have_the_verbs(example: Example) -> None:
    for target, verb in re.findall(r"\bchaos\.(\w+)(?:\([^()]*\))?\.(\w+)\(", example.source):
        assert callable(getattr(kind_of(target), verb))


def kind_of(target: str) -> type:
    member = inspect.getattr_static(Chaos, target)
    kind = get_type_hints(member.fget if isinstance(member, property) else member)["return"]
    assert isinstance(kind, type)
    return kind


def test_the_api_page_names_what_there_is() -> None:
    named = re.findall(r"^\.\. auto\w+:: (\S+)$", PAGES["api.md"], re.MULTILINE)
    names = [name for name in named if ".apps." not in name]  # these import Ray
    assert len(names) > 20
    for name in names:
        assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("page", PAGES)
def test_code_of_the_package_that_is_named_exists(page: str) -> None:
    files = [path.as_posix() for path in (ROOT / "pytest_serve_chaos").rglob("*")]
    for name in re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGES[page]):
        assert (
            name.startswith(("ray/", "private/"))
            or (ROOT / name).exists()
            or any(path.endswith("/" + name.rstrip("/")) for path in files)
        ), name


# -- what was measured -------------------------------------------------------------------------------------------------


MEASURED = (ROOT / "README.md", ROOT / "docs" / "measured.md")


def summary(verdict: str = "passed", **figures: object) -> dict[str, object]:
    """What `summary.json` has of a run with one experiment."""
    measurement = {
        "sent": 400, "lost": 1, "late": 2, "seconds": 20.0, "availability": 0.9925, "longest_outage": 0.21,
        "redundancy_back": 12.04, "settled": 21.5, "before": {"p99": 0.05}, "during": {"p99": 1.25}, **figures,
    }  # fmt: skip
    reasons = ["1 of 400 requests lost (1 ReadError). Allowed: none."] if verdict == "failed" else []
    experiment: dict[str, object] = {
        "experiment": "worker_lost", "verdict": verdict, "reasons": reasons, "measurement": measurement,
        "run_again": False,
    }  # fmt: skip
    again = {**experiment, "run_again": True}
    return {"run": {"ray_version": "2.60.0", "workers": 2, "replicas": 6}, "experiments": [again, experiment]}


def page(kind: str, *runs: Mapping[str, object]) -> str:
    def of(backend: str) -> Sequence[Mapping[str, object]]:
        assert backend == "local"
        return runs

    text = with_figures(f"before\n<!-- {kind} -->\nold\n<!-- /{kind} -->\nafter\n", of)
    assert text.startswith(f"before\n<!-- {kind} -->\n")
    assert text.endswith(f"\n<!-- /{kind} -->\nafter\n")
    assert "old" not in text
    return text


def test_a_table_has_the_least_and_the_most_of_all_runs() -> None:
    better = summary(lost=0, late=0, availability=1.0, longest_outage=0.0, during=None)
    worse = summary("failed", during={"p99": None}, settled=None, redundancy_back=15.0)
    text = page("measured_local", reduced(better, 600.0), reduced(summary(), 612.0), reduced(worse, 700.0))
    assert "3 runs with Ray 2.60.0, 10 to 12 minutes for each." in text
    assert text.splitlines()[-3] == (
        "| `worker_lost` | passed, passed, failed | 0 of 400, 3 of 400, 3 of 400 | 99.25 % - 100.00 % | 0.0 s - 0.2 s |"
        " 50 ms | 1.2 s - lost | 12.0 s - 15.0 s | 21.5 s |"
    )


@pytest.mark.parametrize(("outage", "shown"), [(0.0, "-"), (0.21, "0.2 s")])
def test_a_sample_is_the_row_of_the_last_run(outage: float, shown: str) -> None:
    earlier = reduced(summary(lost=9))
    text = page("measured_local_worker_lost", earlier, reduced(summary(longest_outage=outage)))
    titles, row = (" ".join(line.split()) for line in text.splitlines()[3:5])
    assert titles == "experiment verdict lost or late / sent available outage redundancy settled"
    assert row == f"worker_lost passed 3 / 400 99.25 % in 20 s {shown} 12.0 s 21.5 s"


def test_a_sample_that_failed_has_its_reasons_without_what_is_in_brackets() -> None:
    lines = page("measured_local_worker_lost", reduced(summary("failed"))).splitlines()
    assert " FAILED " in lines[4]
    assert lines[5] == "  1 of 400 requests lost (...). Allowed: none."


def test_two_kinds_of_ingress_are_beside_each_other_for_the_experiments_that_both_have() -> None:
    python = [reduced(summary()), reduced(summary(redundancy_back=None))]
    haproxy = [reduced(summary("failed", lost=7)), reduced(summary())]
    only_python = {"experiments": [{"experiment": "gcs_lost"}]}
    runs: dict[str, Sequence[Mapping[str, object]]] = {"local": [*python, only_python], "localhaproxy": haproxy}
    name = "measured_local_and_localhaproxy"
    lines = with_figures(f"<!-- {name} -->\n<!-- /{name} -->", runs.__getitem__).splitlines()
    assert lines[1] == (
        "| experiment | verdicts, Python | verdicts, HAProxy | lost or late, Python | lost or late, HAProxy |"
        " longest outage, Python | longest outage, HAProxy | redundancy back, Python | redundancy back, HAProxy |"
    )
    assert lines[3:-1] == [
        "| `worker_lost` | passed 2 times | failed, passed | 3 of 400, 3 of 400 | 9 of 400, 3 of 400 | 0.2 s | 0.2 s |"
        " 12.0 s | 12.0 s |"
    ]


def test_what_was_expected_is_beside_what_was_seen_in_all_runs() -> None:
    with_prediction = summary()
    (_, experiment) = cast("list[dict[str, object]]", with_prediction["experiments"])
    experiment["predictions"] = [
        {
            "lost": 0.4, "lost_most": 3, "outage_least": 0.0, "outage_most": 0.31, "redundancy_least": 5.0,
            "redundancy_most": None, "dominant": "PERIOD = 1",
        }
    ]  # fmt: skip
    experiment["against_prediction"] = {
        "lost": 31, "unexplained": 28, "outage": 1.2, "outage_beyond": 0.89, "redundancy": 12.04,
        "redundancy_beyond": None,
    }  # fmt: skip
    text = page("measured_local_expected", reduced(summary()), reduced(with_prediction))
    assert text.splitlines()[-3] == (
        "| `worker_lost` | at most 3 | 31 | 28 | up to 0.3 s | 1.2 s | at least 5.0 s | 12.0 s | `PERIOD = 1` |"
    )


@pytest.mark.parametrize(
    ("back", "words"),
    [([12.0, None, 14.0], "12.0 s - 14.0 s, never in 1 of 3"), ([None, None], "never"), ([12.0], "12.0 s")],
)
def test_redundancy_that_never_came_back_in_a_run_is_in_the_table(back: list[float | None], words: str) -> None:
    assert _times_back([{"redundancy": one} for one in back]) == words


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.name)
def test_the_pages_have_the_figures_of_the_runs(path: object) -> None:
    text = (ROOT / str(path)).read_text()
    assert text == with_figures(text, runs_of), "run: python tools/measured.py write README.md docs/measured.md"
