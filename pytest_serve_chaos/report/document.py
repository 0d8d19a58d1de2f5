"""The JSON document of a run, for programs: one versioned object, without NaN or infinity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from pytest_serve_chaos import __version__
from pytest_serve_chaos.analysis.record import run_event, warnings_of
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.events import ClusterReady, FaultAsked, LogsKept, Predicted, of_kind
from pytest_serve_chaos.history import History
from pytest_serve_chaos.json_records import WARNING_KEYS
from pytest_serve_chaos.model import (
    ROLES,
    Checked,
    Component,
    ConfigWarning,
    Evidence,
    Identity,
    Json,
    Measurement,
    Outage,
    Role,
)
from pytest_serve_chaos.prediction.comparison import comparison
from pytest_serve_chaos.report.trial_rates import trial_rates
from pytest_serve_chaos.report.trials import trial_document

SCHEMA = 2
"""Goes up when a field changes its meaning or goes away; new fields do not raise it."""


def summary_document(history: History, results: Iterable[Result]) -> dict[str, Json]:
    """The run and all its experiments as plain JSON data. All times are seconds, those of outages from the fault.

    Fields: ``schema``; ``program`` (name and version); ``run`` (the last cluster, how long it took to start, the seed);
    ``warnings`` (what the check of the configuration said, for all clusters of the run); ``trials`` (the rate of each
    experiment whose test was run several times: ``of``, ``planned``, ``allowed``, ``run``, ``failed``,
    ``inconclusive``, ``rate``, ``rate_least``, ``rate_most``, ``verdict`` and ``text``); ``experiments``, each with
    ``experiment``, ``fault``, ``verdict``, ``reasons``, ``checks`` (those that the test brought, and what they found),
    ``tracebacks`` (of checks that raised an exception), ``remarks``, ``warnings``, ``cluster``, ``expectations``,
    ``measurement``, ``never`` (what did not come back while it was observed), ``parts`` (each ``app`` or ``name`` with
    its own measurement), ``predictions`` (what each fault was expected to cost, computed before it),
    ``against_prediction`` (what was seen, and by how much it is beyond that), ``watched`` (what processes used after
    recovery; null where nobody watched them), ``evidence``, ``run_again``, ``trial`` (``of``, ``number``, ``planned``,
    ``allowed`` and ``outcome``; null where the test was run once), ``victims``, ``identities`` (role -> kept, gone and
    new) and ``logs`` (the directory, from that of the run; null where none were kept). Of head, workers and Redis in
    pods, ``identities`` also has the ``machine``, which is the name of the Kubernetes node.
    """
    results = tuple(results)
    run = run_event(history)
    logs = {event.experiment: event.directory for event in of_kind(LogsKept, history.events)}
    return {
        "schema": SCHEMA,
        "program": {"name": "pytest-serve-chaos", "version": __version__},
        "run": {} if run is None else _run(run),
        "warnings": [_warning(warning) for warning in warnings_of(history)],
        "trials": trial_rates(results),
        "experiments": [{**_experiment(result), "logs": logs.get(result.experiment)} for result in results],
    }


def _run(run: ClusterReady) -> dict[str, Json]:
    description = {} if run.description is None else _object(run.description)
    measured = {"seed": run.seed, "start_seconds": run.start_seconds}
    return {"text": run.text, **description, **{name: value for name, value in measured.items() if value is not None}}


def _experiment(result: Result) -> dict[str, Json]:
    asked = next((event.at for event in of_kind(FaultAsked, result.events)), None)
    return {
        "experiment": result.experiment,
        "fault": result.fault,
        "verdict": result.outcome,
        "reasons": list(result.reasons),
        "checks": [_checked(checked) for checked in result.checks],
        "tracebacks": list(result.verdict.tracebacks),
        "remarks": list(result.remarks),
        "warnings": [_warning(warning) for warning in result.warnings],
        "cluster": to_json(result.description),
        "expectations": to_json(result.expectations),
        "measurement": _measurement(result.measurement, asked),
        "never": list(result.never),
        "parts": [
            {part.of.kind: part.of.name, "measurement": _measurement(part.measurement, asked)} for part in result.parts
        ],
        "machine": to_json(result.machine),
        "watched": to_json(result.watched),
        "predictions": [_prediction(event) for event in of_kind(Predicted, result.events)],
        "against_prediction": _against(result),
        "evidence": [_evidence(evidence, asked or 0.0) for evidence in result.evidence],
        "run_again": result.run_again,
        "trial": trial_document(result),
        "victims": [str(victim) for victim in result.victims],
        "identities": {role: _identities(result, role) for role in ROLES if _seen(result, role)},
    }


def _measurement(measurement: Measurement, asked: float | None) -> dict[str, Json]:
    return {**_object(measurement), "outages": [_outage(outage, asked or 0.0) for outage in measurement.outages]}


def _prediction(event: Predicted) -> dict[str, Json]:
    return {**_object(event.prediction), "injection": event.injection}


def _against(result: Result) -> Json:
    """What was seen against what was expected; null where that cannot be compared."""
    found = comparison(result)
    if found is None:
        return None
    return {**{name: value for name, value in _object(found).items() if name != "prediction"}, "text": found.text}


def _warning(warning: ConfigWarning) -> dict[str, Json]:
    return {WARNING_KEYS.get(name, name): value for name, value in _object(warning).items()}


def _checked(checked: Checked) -> dict[str, Json]:
    return {"check": checked.check, "missed": [*checked.missed], "unknown": [*checked.unknown]}


def to_json(value: object) -> Json:
    """Plain JSON data for any record of the model; identities become text, numbers that JSON has no word for None."""
    if isinstance(value, Identity):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping) or (is_dataclass(value) and not isinstance(value, type)):
        return _object(value)
    if isinstance(value, Iterable):
        return [to_json(item) for item in value]
    raise TypeError(f"{value!r} has no place in a JSON document")


def _object(value: object) -> dict[str, Json]:
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}  # type: ignore[arg-type]


def _outage(outage: Outage, asked: float) -> dict[str, Json]:
    return {
        "start": round(outage.start - asked, 6),
        "end": None if outage.end is None else round(outage.end - asked, 6),
        "lost": outage.lost,
        "late": outage.late,
        "sent": outage.sent,
    }


def _evidence(evidence: Evidence, asked: float) -> dict[str, Json]:
    return {"at": round(evidence.at - asked, 6), "side": evidence.side, "text": evidence.text}


def _seen(result: Result, role: Role) -> bool:
    return any(topology is not None and topology.of(role) for topology in (result.before, result.after))


def _identities(result: Result, role: Role) -> dict[str, Json]:
    before = {c.identity: c for c in result.before.of(role)} if result.before else {}
    after = {c.identity: c for c in result.after.of(role) if c.identity not in result.gone} if result.after else {}
    return {
        "kept": [_component(c) for i, c in before.items() if i in after],
        "gone": [_component(c) for i, c in before.items() if i not in after],
        "new": [_component(c) for i, c in after.items() if i not in before],
    }


def _component(component: Component) -> dict[str, Json]:
    where: dict[str, Json] = {} if component.machine is None else {"machine": component.machine}
    return {"name": component.name, "identity": str(component.identity), **where}
