"""The JSON Schema of `summary.json`: real documents fit it, and it describes each of their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_serve_chaos.analysis.growth import Trend, WatchedUsage
from pytest_serve_chaos.analysis.machine import MachineUse
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import (
    Checked,
    ClusterDescription,
    ConfigWarning,
    Expectations,
    Json,
    Latency,
    Measurement,
    Outage,
    Part,
    PartName,
)
from pytest_serve_chaos.report.document import SCHEMA, summary_document
from pytest_serve_chaos.report.schema import summary_schema
from pytest_serve_chaos.results import result_of
from tests.unit.histories import Story, deaf_controller, head_failure, node_failure, not_started, trials, written

RECORDED = json.loads((Path(__file__).parent / "recorded" / "summary.json").read_text())
"""Of a real run on the local backend."""

VALIDATOR = jsonschema.Draft202012Validator(summary_schema())


def document(*stories: Story) -> Any:
    """The document of a run that has something of everything."""
    history = History()
    run: dict[str, Json] = {"backend": "local", "ray_version": "2.60.0", "workers": 2, "gcs": "redis"}
    run |= {"app": "ranker:app", "profile": "fast", "replicas": 4, "url": "http://127.0.0.1:8000/"}
    history.add(written("run", "local backend", at=0.0, data={**run, "seed": 7, "start_seconds": 12.5}))
    warned: dict[str, Json] = {"code": "redis_forgets", "text": "Redis keeps nothing", "outage": "all restarts"}
    history.add(written("warning", "Redis keeps nothing", at=0.0, data={**warned, "mend": "", "faults": ["redis"]}))
    for number, story in enumerate(stories):
        story.add_to(history, later=100.0 * number)
    results = [result_of(history, story.experiment) for story in stories]
    first = results[0]
    results[0] = replace(
        first,
        parts=(Part(PartName("app", "front"), first.measurement), Part(PartName("name", "a"), first.measurement)),
        checks=(Checked("p999", missed=("too slow",)),),
        machine=MachineUse(2, 0.5, 0.1, 0.0, None, 0.2),
        watched=WatchedUsage(60.0, 60, 1, (Trend("gcs (PID 7)", "memory", 5e6, 1e6, None, 2e6, None),)),
        warnings=(ConfigWarning("code", "text", "outage", "fix", losses=("head",)),),
    )
    return json.loads(json.dumps(summary_document(history, results), allow_nan=False))


def test_the_rates_of_trials_are_in_it() -> None:
    found = document(*trials(["passed", "failed", "passed", "inconclusive"], planned=20, allowed=3), node_failure())
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(found)] == []
    (rate,) = found["trials"]
    counts = {name: rate[name] for name in ("of", "planned", "allowed", "run", "failed", "inconclusive", "verdict")}
    assert counts == {
        "of": "head_failure", "planned": 20, "allowed": 3, "run": 4, "failed": 1, "inconclusive": 1, "verdict": None,
    }  # fmt: skip
    assert rate["rate"] == pytest.approx(1 / 3)
    assert rate["rate_least"] < 1 / 3 < rate["rate_most"]
    assert f"{100 * rate['rate_most']:.1f} %" in rate["text"]


def test_of_trials_that_showed_nothing_there_is_no_rate() -> None:
    (rate,) = document(*trials(["inconclusive"]))["trials"]
    assert (rate["rate"], rate["rate_least"], rate["rate_most"], rate["verdict"]) == (None, None, None, "inconclusive")


WHOLE = document(head_failure(), node_failure(), not_started(), deaf_controller(), *trials(["passed", "failed"]))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(summary_schema())


@pytest.mark.parametrize("found", [WHOLE, RECORDED, json.loads(json.dumps(summary_document(History(), [])))])
def test_documents_fit_it(found: Any) -> None:
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(found)] == []
    assert found["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], 1),
        (["experiments", 0, "verdict"], "green"),
        (["experiments", 0, "measurement", "lost"], "3"),
        (["experiments", 0, "measurement", "availability"], 99.7),
        (["experiments", 1, "measurement", "outages", 0, "end"], "never"),
        (["experiments", 0, "evidence", 0, "side"], "head"),
        (["experiments", 0, "parts", 0, "app"], None),
    ],
)
def test_what_is_no_such_document_does_not(path: list[Any], value: object) -> None:
    found = json.loads(json.dumps(WHOLE))
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(found)


def described(schema: Any, value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Each value of a document with what the schema says of it; None: nothing."""
    definitions: Any = summary_schema()["$defs"]
    while "$ref" in schema or "anyOf" in schema:
        word = schema.get("$ref") or next(one["$ref"] for one in schema["anyOf"] if "$ref" in one)
        whole = definitions[word.rpartition("/")[2]]
        schema = {**whole, "description": schema.get("description") or whole["description"]}
    yield path, schema
    if isinstance(value, dict) and schema.get("properties", schema.get("additionalProperties")) is not None:
        for name, one in value.items():
            below = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if below is None:
                yield f"{path}.{name}", None
            else:
                yield from described(below, one, f"{path}.{name}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from described(schema["items"], one, f"{path}[{number}]")


@pytest.mark.parametrize("found", [WHOLE, RECORDED])
def test_each_field_of_a_document_has_a_description(found: Any) -> None:
    said = list(described(summary_schema(), found))
    assert [path for path, schema in said if schema is None] == []
    assert [path for path, schema in said if not path.endswith("]") and not schema.get("description")] == []


def numbers(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each place of the schema where a number may be."""
    if isinstance(schema, dict):
        kinds = schema.get("type", [])
        if {"number", "integer"} & set([kinds] if isinstance(kinds, str) else kinds):
            yield path, schema
        for name, one in schema.items():
            yield from numbers(one, f"{path}.{name}")


def test_each_number_has_a_unit() -> None:
    found = list(numbers(summary_schema(), "$"))
    assert len(found) > 50
    without = [path for path, schema in found if not schema.get("unit") and not path.endswith("interval.items")]
    assert without == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Measurement, "measurement"),
        (Expectations, "expectations"),
        (Outage, "outage"),
        (Latency, "latency"),
        (MachineUse, "machine"),
        (WatchedUsage, "watched"),
        (Trend, "trend"),
        (ClusterDescription, "cluster"),
    ],
)
def test_a_new_field_is_described(kind: type, name: str) -> None:
    definitions: Any = summary_schema()["$defs"]
    assert set(definitions[name]["properties"]) == {field.name for field in fields(kind)}
