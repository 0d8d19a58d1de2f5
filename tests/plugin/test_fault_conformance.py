"""Every fault of this package passes the tests that a fault of a third party must pass, and these can fail."""

from __future__ import annotations

import re

import pytest

from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.spec import FaultSpec
from pytest_serve_chaos.testing import FakeCluster, FakeKubernetesCluster, FaultConformance
from tests.plugin.conftest import ROOT

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


def _conformance(fault: FaultSpec[object], **more: object) -> type[FaultConformance]:
    machines = fault.name in ("node_failure", "rayservice_upgrade")
    cluster = FakeKubernetesCluster if machines else FakeCluster
    keywords = {option.name: "3s" for option in fault.options if option.name == "for_"} | more
    members = {"fault": fault, "cluster": cluster, "keywords": keywords, "__module__": __name__}
    return type(f"Test_{fault.name}", (BuiltIn,), members)


globals().update({f"Test_{fault.name}": _conformance(fault) for fault in BUILT_IN})
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
    conformance = FILES["test_conformance.py"].replace(
        "    fault = FAULT\n", "    fault = FAULT\n    heals_within = 8.0\n"
    )
    pytester.makepyfile(replicas_pause=module, test_conformance=conformance)

    assert red(pytester.runpytest_inprocess("-rfE")) == expected
