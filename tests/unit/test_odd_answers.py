"""Ray's and Serve's REST answer with something odd: that is an answer that cannot be used, whatever it is."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json


def dashboard(answer: Json, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda *_: httpx.Response(200, json=answer))
    return Dashboard("http://head:8265")


def app(deployment: Json) -> Json:
    return {"applications": {"app": {"status": "RUNNING", "deployments": {"Pid": deployment}}}}


def result(rows: Json) -> Json:
    return {"data": {"result": {"result": rows}}}


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ({"applications": {"app": None}}, "applications.app is null, not an object"),
        ({"applications": ["app"]}, r"applications is \['app'\], not an object"),
        (["applications"], r" is \['applications'\], not an object"),
        ({"applications": {"app": {"status": 3}}}, "app.status is 3, not a text"),
        ({"applications": {"app": {"deployments": {"Pid": None}}}}, "deployments.Pid is null, not an object"),
        (app({"target_num_replicas": "4"}), "target_num_replicas is '4', not a whole number"),
        (app({"target_num_replicas": "many"}), "target_num_replicas is 'many', not a whole number"),
        (app({"target_num_replicas": True}), "target_num_replicas is True, not a whole number"),
        (app({"replicas": {"one": 1}}), "replicas is {'one': 1}, not a list"),
        (app({"replicas": [None]}), r"replicas\[0\] is null, not an object"),
        (app({"replicas": [{"pid": "x"}]}), r"replicas\[0\].pid is 'x', not a whole number"),
        (app({"deployment_config": [1]}), r"deployment_config is \[1\], not an object"),
        ({"proxies": {"n1": None}}, "proxies.n1 is null"),
        ({"controller_info": "c"}, "controller_info is 'c', not an object"),
        ({"applications": {"app": {"deployment_topology": {"nodes": {"P": None}}}}}, "nodes.P is null"),
        (
            {"applications": {"app": {"deployment_topology": {"nodes": {"P": {"outbound_deployments": [1]}}}}}},
            r"outbound_deployments\[0\] is 1, not an object",
        ),
    ],
)
def test_an_odd_answer_of_serve_is_no_use_and_says_where(
    answer: Json, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ObservationError, match=f"GET http://head:8265/api/serve/applications/: the answer.*{where}"):
        dashboard(answer, monkeypatch).serve()


@pytest.mark.parametrize("ask", [Dashboard.nodes, Dashboard.actors])
@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"data": None},
        {"data": ["result"]},
        {"data": {"result": {"result": None}}},
        result({"rows": 1}),
        result([None]),
        result(["row"]),
        result([{"state": {}, "pid": 1}]),
    ],
)
def test_an_odd_answer_of_the_state_api_is_no_use(
    ask: Callable[[Dashboard], object], answer: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ObservationError):
        ask(dashboard(answer, monkeypatch))


def test_what_is_missing_or_null_is_not_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    starting: Json = {"replica_id": "r1", "state": "STARTING", "pid": None, "actor_id": None, "node_id": None}
    status = dashboard(app({"status": "UPDATING", "replicas": [starting]}), monkeypatch).serve()
    (row,) = status.replicas
    assert (row.deployment, row.state, row.pid, row.actor_id) == ("Pid", "STARTING", None, None)
    assert (status.targets, status.controller, status.proxies) == ({"app#Pid": 0}, None, {})


@pytest.mark.parametrize(
    ("warning", "silent"),
    [
        (None, 0),
        ("", 0),
        ("Failed to query data from raylet. Queried 3 raylet and 1 raylet failed to reply. It is due to ...", 1),
        ("Queried 12 raylet and 11 raylet failed to reply.", 11),
        ("Queried 3 agent and 2 agent failed to reply.", 0),
    ],
)
def test_how_many_raylets_are_silent_is_in_a_warning(
    warning: str | None, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Json = {"data": {"result": {"result": [], "partial_failure_warning": warning}}}
    assert dashboard(answer, monkeypatch).silent_raylets() == silent
