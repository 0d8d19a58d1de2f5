"""Ray Serve's end-to-end fault-tolerance guide as a pytest plugin.

What `__all__` names is public, and imported when it is first used; all else is private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Backend",
    "Chaos",
    "Check",
    "Checked",
    "Cluster",
    "ClusterDescription",
    "ClusterError",
    "ClusterSpec",
    "ClusterStartError",
    "CommandFailed",
    "Component",
    "Event",
    "Evidence",
    "ExpectationFailed",
    "Expectations",
    "Experiment",
    "ExportFailed",
    "FaultError",
    "FaultSpec",
    "Finding",
    "History",
    "HistoryError",
    "Identity",
    "Inconclusive",
    "Injection",
    "Judgement",
    "Latency",
    "Leftover",
    "Locked",
    "MakeTraffic",
    "Measurement",
    "Message",
    "Missed",
    "MissingDependency",
    "Need",
    "NoSuchTarget",
    "NotHealed",
    "NotLanded",
    "NotStartedAgain",
    "Observation",
    "ObservationError",
    "Option",
    "Outage",
    "Outcome",
    "Outcomes",
    "OwnerChangedIt",
    "PersistentSender",
    "Repair",
    "Reporter",
    "Request",
    "RequestKind",
    "RequestSpec",
    "Result",
    "Rig",
    "RunFailed",
    "SafetyError",
    "Sender",
    "ServeChaosError",
    "ServeCluster",
    "Settings",
    "SettingsError",
    "Strike",
    "Topology",
    "Touch",
    "Traffic",
    "Transport",
    "Unknown",
    "Unsupported",
    "Verdict",
    "WaitTimeout",
    "WatchEnded",
    "Withheld",
    "events",
    "hookspecs",
    "keyword",
    "percentile",
    "result_of",
    "results_of",
    "summary_table",
    "timeline_excerpt",
]

_HOMES = {
    "analysis.result": "Result",
    "analysis.statistics": "percentile",
    "backends": "Backend Finding Leftover Option Repair",
    "checks.base": "Check Missed Observation Unknown",
    "cluster.base": "Cluster ClusterSpec",
    "cluster.policy": "Touch",
    "events": "Event",
    "errors": "ClusterError ClusterStartError CommandFailed ExpectationFailed ExportFailed FaultError HistoryError "
    "Inconclusive Judgement Locked MissingDependency NoSuchTarget NotHealed NotLanded NotStartedAgain ObservationError "
    "OwnerChangedIt RunFailed SafetyError ServeChaosError SettingsError Unsupported WaitTimeout WatchEnded Withheld",
    "experiment": "Experiment",
    "faults.chaos": "Chaos",
    "faults.fault": "Strike",
    "faults.injection": "Injection",
    "faults.rig": "Rig",
    "faults.spec": "FaultSpec Need keyword",
    "fixtures": "MakeTraffic",
    "handle": "ServeCluster",
    "history": "History",
    "load": "Traffic",
    "model": "Checked ClusterDescription Component Evidence Expectations Identity Latency Measurement Outage "
    "Request Topology Verdict",
    "report": "Outcomes Reporter",
    "report.terminal": "summary_table timeline_excerpt",
    "results": "result_of results_of",
    "settings": "Settings",
    "traffic.request": "Answer Message Outcome RequestSpec",
    "traffic.request_kind": "RequestKind",
    "traffic.transports.base": "PersistentSender Sender Transport",
}
"""The module of each public name."""

if TYPE_CHECKING:
    from pytest_serve_chaos import events, hookspecs
    from pytest_serve_chaos.analysis.result import Result
    from pytest_serve_chaos.analysis.statistics import percentile
    from pytest_serve_chaos.backends import Backend, Finding, Leftover, Option, Repair
    from pytest_serve_chaos.checks.base import Check, Missed, Observation, Unknown
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
    from pytest_serve_chaos.cluster.policy import Touch
    from pytest_serve_chaos.errors import (
        ClusterError,
        ClusterStartError,
        CommandFailed,
        ExpectationFailed,
        ExportFailed,
        FaultError,
        HistoryError,
        Inconclusive,
        Judgement,
        Locked,
        MissingDependency,
        NoSuchTarget,
        NotHealed,
        NotLanded,
        NotStartedAgain,
        ObservationError,
        OwnerChangedIt,
        RunFailed,
        SafetyError,
        ServeChaosError,
        SettingsError,
        Unsupported,
        WaitTimeout,
        WatchEnded,
        Withheld,
    )
    from pytest_serve_chaos.events import Event
    from pytest_serve_chaos.experiment import Experiment
    from pytest_serve_chaos.faults.chaos import Chaos
    from pytest_serve_chaos.faults.fault import Strike
    from pytest_serve_chaos.faults.injection import Injection
    from pytest_serve_chaos.faults.rig import Rig
    from pytest_serve_chaos.faults.spec import FaultSpec, Need, keyword
    from pytest_serve_chaos.fixtures import MakeTraffic
    from pytest_serve_chaos.handle import ServeCluster
    from pytest_serve_chaos.history import History
    from pytest_serve_chaos.load import Traffic
    from pytest_serve_chaos.model import (
        Checked,
        ClusterDescription,
        Component,
        Evidence,
        Expectations,
        Identity,
        Latency,
        Measurement,
        Outage,
        Request,
        Topology,
        Verdict,
    )
    from pytest_serve_chaos.report import Outcomes, Reporter
    from pytest_serve_chaos.report.terminal import summary_table, timeline_excerpt
    from pytest_serve_chaos.results import result_of, results_of
    from pytest_serve_chaos.settings import Settings
    from pytest_serve_chaos.traffic.request import Answer, Message, Outcome, RequestSpec
    from pytest_serve_chaos.traffic.request_kind import RequestKind
    from pytest_serve_chaos.traffic.transports.base import PersistentSender, Sender, Transport
else:

    def __getattr__(name):
        from importlib import import_module

        if name in ("events", "hookspecs"):
            return import_module(f"{__name__}.{name}")
        for module, names in _HOMES.items():
            if name in names.split():
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
