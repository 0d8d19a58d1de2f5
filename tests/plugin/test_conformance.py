"""The tests that a fault or a backend of a third party must pass, and what they find."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.spec import FaultSpec
from pytest_serve_chaos.observe import post_recovery
from pytest_serve_chaos.testing import BackendConformance, FakeCluster, FakeKubernetesCluster, FaultConformance
from tests.plugin.conftest import LOAD, ROOT

# -- the faults of this package ----------------------------------------------------------------------------------------


class BuiltIn(FaultConformance):
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Whole experiments take long, and the verbs of a fault differ before them: one verb has them."""
        if metafunc.function in (
            FaultConformance.test_a_fault_that_does_nothing_is_inconclusive,
            FaultConformance.test_a_cluster_that_loses_requests_fails,
        ):
            metafunc.parametrize("how", self.fault.verbs[:1])
        else:
            super().pytest_generate_tests(metafunc)


def _conformance(fault: FaultSpec[object], **said: object) -> type[FaultConformance]:
    machines = fault.name in ("node_failure", "rayservice_upgrade")
    cluster = FakeKubernetesCluster if machines else FakeCluster
    names = {option.name for option in fault.options}
    ends = {"for_": "3s"} if "for_" in names and ("bad" not in names or said) else {}
    members = {"fault": fault, "cluster": cluster, "keywords": {**ends, **said}, "__module__": __name__}
    return type("_".join(("Test", fault.name, *map(str, said.values()))), (BuiltIn,), members)


CLASSES = (
    *(_conformance(fault) for fault in BUILT_IN),
    *(_conformance(BUILT_IN["app_update"], bad=bad) for bad in ("constructor", "health_check", "answers")),
    _conformance(BUILT_IN["rayservice_upgrade"], bad="never_ready"),
)
globals().update({one.__name__: one for one in CLASSES})
HELD = [fault for fault in BUILT_IN if any(option.name == "hold" for option in fault.options)]
globals().update({f"Test_{fault.name}_held": _conformance(fault, hold=True) for fault in HELD})


# -- faults that do not conform ----------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "add-a-fault.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"(?ms)^```python\n# (\w+\.py)\n(.*?)^```$", PAGE))

HEALED = {"test_it_heals_what_it_broke", "test_an_error_in_the_middle_is_healed"}
SEEN = 'if all(one is not None and one.state == "frozen" for one in found):'
LATER = "def later():\n    threading.Event().wait(2.2)\n    return clock.now()\n\n\n"
BROKEN: dict[str, tuple[dict[str, str], set[str]]] = {
    "it is not documented": (
        {'breaks="several replicas, which stand still for a while"': 'breaks=""'},
        {"test_it_is_documented"},
    ),
    "the default of a keyword is not valid": (
        {"    for_: float": "    times: int = keyword(Integer(1), 0)\n    for_: float"},
        {"test_its_keywords_take_their_defaults"},
    ),
    "a default expectation is not valid": (
        {"Expectations(availability=None": "Expectations(availability=99.9"},
        {"test_its_default_expectations_are_valid"},
    ),
    "it does not say what it does to an external cluster": (
        {'return Touch(actions=("run in pods",))': "return Touch()"},
        {"test_it_says_what_it_does_to_an_external_cluster"},
    ),
    "it does not declare what it needs": (
        {"    needs=(SIGNALS,),\n": ""},
        {"test_it_declares_what_it_needs"},
    ),
    "its need has no words": (
        {'Need((SIGNALS_PROCESSES,), "send signals to processes")': 'Need((SIGNALS_PROCESSES,), "")'},
        {"test_a_cluster_that_cannot_be_broken_so_is_refused"},
    ),
    "it has one sign only": (
        {'Evidence(clock.now(), "victim"': 'Evidence(clock.now(), "cluster"'},
        {"test_it_lands_with_two_signs"},
    ),
    "its options are not those of its marker": (
        {'return {"how": "stop"': 'return {"how": "pause"'},
        {"test_its_options_are_those_of_its_marker"},
    ),
    "it does not heal": ({"self.send(signal.SIGCONT)": "pass"}, HEALED),
    "it heals only what has landed": (
        {"self.send(signal.SIGCONT)": "if self.rig.injections.open[-1].landed:\n            self.send(signal.SIGCONT)"},
        {"test_an_error_in_the_middle_is_healed"},
    ),
    "it claims what it did not see": (
        {
            SEEN: "if True:",
            "return signs.nobody_answers(self.rig, self.victims, struck)": 'return Evidence(struck, "cluster", "yes")',
        },
        {"test_a_fault_that_does_nothing_is_inconclusive"},
    ),
    "it says too late when it struck": (
        {
            "return Strike(asked, (stopped,))": "return Strike(later(), (stopped,))",
            "@dataclass\nclass ReplicasPaused": LATER + "@dataclass\nclass ReplicasPaused",
            "import signal\n": "import signal\nimport threading\n",
        },
        {"test_a_cluster_that_loses_requests_fails"},
    ),
}


def red(result: pytest.RunResult) -> set[str]:
    """The names of the tests that failed."""
    return set(re.findall(r"^(?:FAILED|ERROR) [^ ]*::(\w+)", result.stdout.str(), re.MULTILINE))


@pytest.mark.parametrize("defect", BROKEN)
def test_a_defect_of_a_fault_makes_its_own_test_red(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    changes, expected = BROKEN[defect]
    module = FILES["replicas_pause.py"]
    for old, new in changes.items():
        assert old in module, old
        module = module.replace(old, new)
    monkeypatch.syspath_prepend(pytester.path)
    patience = 2.0 if "pass" in changes.values() else 8.0  # what never heals takes all of it, in each test
    conformance = FILES["test_conformance.py"].replace(
        "    fault = FAULT\n", f"    fault = FAULT\n    heals_within = {patience}\n"
    )
    pytester.makepyfile(replicas_pause=module, test_conformance=conformance)

    assert red(pytester.runpytest_inprocess("-rfE")) == expected


# -- backends that conform ---------------------------------------------------------------------------------------------


class TestFake(BackendConformance):
    plugin = "pytest_serve_chaos.testing.plugin"
    backend = "fake"


# -- backends that do not conform --------------------------------------------------------------------------------------

MODULE = """
from dataclasses import replace

from pytest_serve_chaos import Backend, ClusterStartError, Finding, ObservationError, Option
from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.capabilities import *
from pytest_serve_chaos.kinds import Integer, Kind
from pytest_serve_chaos.model import Evidence, Identity
from pytest_serve_chaos.testing import *

SIGN = (Evidence(0.0, "victim", "it is done"),)


def start(spec, settings, directory, progress):
    return Broken(spec)


class Broken(FakeKubernetesCluster):
    @property
    def description(self):
        return replace(super().description, backend="broken")

{members}

{functions}

def pytest_serve_chaos_backends():
    return [Backend(name="broken", description="it does not conform", start=start, {fields})]
"""

TEST = """
from pytest_serve_chaos.testing import BackendConformance

class TestBroken(BackendConformance):
    plugin = "broken"
    backend = "broken"
    options = {options}
    within = 3.0
"""

KILLED = "test_what_a_killed_run_left_is_undone"

FIELDS: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "an option has no help": (
        'options=(Option("broken_n", Integer(3), "4", ""),)', {}, {"test_its_options_have_valid_defaults"},
    ),
    "the doctor misses something": (
        'doctor=lambda _: [Finding("farm", "it is closed", False, "open it")]', {},
        {"test_the_doctor_finds_what_it_needs"},
    ),
    "the doctor needs the settings": (
        'options=(Option("broken_host", Kind("a host"), None, "the host"),),'
        ' doctor=lambda settings: [Finding("host", settings.others["broken_host"].upper())]',
        {"broken_host": "farm"},
        {"test_the_doctor_works_without_settings"},
    ),
}  # fmt: skip

CLUSTERS: dict[str, tuple[str, str, set[str]]] = {
    "it says of itself what is not so": (
        """
@property
def description(self):
    return super().description

class proxies_class(FakeProxies):
    def answer(self, pid, path):
        return Reply(500, "no") if path == "/" else super().answer(pid, path)

def nodes(self):
    return super().nodes()[::-1]

def proxy_of(self, client):
    return Identity("process", ("nobody",))
""",
        "",
        {
            "test_it_describes_the_cluster",
            "test_the_app_answers",
            "test_its_nodes_are_listed_head_first",
            "test_a_connection_leads_to_a_proxy",
        },
    ),
    "it does not look well": (
        """
looks = 0

def __init__(self, spec, behaviour=None):
    super().__init__(spec, behaviour)
    self._dashboard = OddDashboard(self.world)

def components(self):
    self.looks += 1
    fresh = Identity("process", ("gcs", str(self.looks)))
    return tuple(replace(c, identity=fresh) if c.role == "gcs" else c for c in super().components())
""",
        """
from pytest_serve_chaos.testing.dashboard import FakeDashboard

class OddDashboard(FakeDashboard):
    def actors(self, **given):
        return tuple(row for row in super().actors(**given) if row.class_name != "ServeController")

    def nodes(self):
        odd = replace(super().nodes()[0], node_id="odd", address="10.9.9.9", is_head=False)
        return (*super().nodes(), odd)
""",
        {
            "test_each_component_has_its_own_identity",
            "test_the_dashboard_answers",
            "test_replicas_and_proxies_are_found",
        },
    ),
    "proxies do not answer, and no update reaches them": (
        """
def ask_proxy(self, proxy, path, *, timeout):
    return 404, "no such path"

def apply_serve_config(self, config):
    pass
""",
        "",
        {"test_each_proxy_answers_alone", "test_an_update_of_the_config_reaches_each_proxy",
         "test_a_frozen_node_goes_on", "test_a_frozen_machine_goes_on"},
    ),
    "its capabilities do nothing": (
        """
def offers(self):
    nothing = Nothing()
    keys = [
        KILLS_NODES, FREEZES_NODES, KILLS_MACHINES, DELETES_MACHINES, DRAINS_MACHINES, FREEZES_MACHINES,
        SIGNALS_PROCESSES, KILLS_ACTORS, SETS_HEALTH_FLAGS, HAS_REDIS, STREAMS_LOGS, KNOWS_ITS_SETUP,
        HAS_PROXY_ENDPOINTS,
    ]
    return (*super().offers(), *(key.by(nothing) for key in keys))
""",
        """
class Nothing:
    redis_namespace = "nothing"

    def redis_keys(self):
        return ("nothing",)

    def proxy_endpoint(self, proxy):
        return Endpoint("http://127.0.0.1:1/")

    calls = []

    def setup(self):
        self.calls.append("setup")
        if len(self.calls) > 1:  # the first is part of the start
            raise ObservationError("the farm does not say")
        return Setup()

    def stream_logs(self, directory):
        raise OSError("no space left on device")

    def __getattr__(self, name):
        return lambda *_, **__: SIGN
""",
        {
            "test_it_knows_its_setup",
            "test_it_collects_logs",
            "test_each_proxy_has_an_address",
            "test_a_killed_node_stays_away_until_it_may_come_back",
            "test_a_stopped_node_comes_back",
            "test_a_frozen_node_goes_on",
            "test_a_lost_machine_comes_back",
            "test_a_deleted_machine_comes_back",
            "test_a_drained_machine_comes_back",
            "test_a_frozen_machine_goes_on",
            "test_a_killed_process_is_replaced",
            "test_a_stopped_process_goes_on",
            "test_a_killed_actor_is_replaced",
            "test_a_replica_whose_check_fails_is_replaced",
            "test_redis_stays_away_until_it_may_come_back",
        },
    ),
    "what is taken away does not stay away, or never comes back": (
        """
def offers(self):
    return (*super().offers(), KILLS_NODES.by(Unsteady(self.world)))
""",
        """
class Unsteady(FakeNodes):
    def kill_node(self, name, *, how, hold):
        return super().kill_node(name, how=how, hold=not hold)
""",
        {"test_a_killed_node_stays_away_until_it_may_come_back", "test_a_stopped_node_comes_back"},
    ),
    "it does not end": (
        """
def close(self):
    pass
""",
        "",
        {"test_a_closed_cluster_leaves_nothing"},
    ),
}  # fmt: skip


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, *args: str, **parts: str) -> set[str]:
    """Runs the tests on a backend that is made of these parts; returns the names of those that failed."""
    monkeypatch.syspath_prepend(pytester.path)
    source = MODULE.format(**{"members": "", "functions": "", "fields": "", **parts})
    pytester.makepyfile(broken=source, test_conformance=test)
    return red(pytester.runpytest_inprocess("-rfE", *args))


@pytest.mark.parametrize("defect", FIELDS)
def test_a_defect_of_a_backend_makes_its_own_test_red(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    fields, options, expected = FIELDS[defect]
    only = ("-k", "options or doctor or starts or describes")
    assert run(pytester, monkeypatch, TEST.format(options=options), *only, fields=fields) == expected


@pytest.mark.parametrize("defect", CLUSTERS)
def test_each_defect_of_a_cluster_makes_its_own_test_red(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    members, functions, expected = CLUSTERS[defect]
    if "test_an_update_of_the_config_reaches_each_proxy" in expected:
        monkeypatch.setattr(post_recovery, "HEARS_WITHIN", 2.0)
        monkeypatch.setattr(post_recovery, "REACHED_WITHIN", 2.0)
    parts = {"members": indent(members, "    "), "functions": functions}
    found = run(pytester, monkeypatch, TEST.format(options={}), "-k", "not killed_run", **parts)
    assert found == expected


def test_a_cluster_that_does_not_start_is_tried_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = """
def start(spec, settings, directory, progress):
    with open("tried", "a") as file:
        file.write("x")
    raise ClusterStartError("the farm is closed")
"""
    found = run(pytester, monkeypatch, TEST.format(options={}), "-k", "not killed_run", functions=functions)
    assert found == {"test_it_starts_a_cluster"}
    assert (pytester.path / "tried").read_text() == "x"


def test_what_cannot_be_undone_after_a_killed_run_is_found(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = """
def start(spec, settings, directory, progress):
    cluster, entry = Broken(spec), settings.journal.write("release", "machines of the farm")
    end = cluster.close

    def close():
        end()
        settings.journal.done(entry)

    cluster.close = close
    return cluster


def release(leftover):
    raise OSError("the farm is closed")
"""
    parts = {"functions": functions, "fields": 'undo={"release": release}'}
    found = run(pytester, monkeypatch, TEST.format(options={}), "-k", "killed_run or closed", **parts)
    assert found == {KILLED}


# -- the backend `fake` ------------------------------------------------------------------------------------------------


def test_a_run_on_the_backend_needs_no_ray(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.worker_failure
        def test_it(experiment):
            assert experiment.measure(window="700ms", availability=0.5).outcome != "inconclusive"
        """
    )
    plugin = ("-p", "pytest_serve_chaos.testing.plugin", "--serve-chaos-backend=fake")
    ran = pytester.runpytest_inprocess("--serve-chaos", *LOAD, *plugin)

    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["serve-chaos: fake backend, *"])
