"""What Ray's and Serve's REST says of apps that are not well, and that an odd answer is one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster import rest
from pytest_serve_chaos.cluster.rest import Dashboard, GivenUp
from pytest_serve_chaos.errors import ClusterStartError, ObservationError
from pytest_serve_chaos.model import Json


def said(app: dict[str, Json], monkeypatch: pytest.MonkeyPatch) -> rest.ServeStatus:
    answer = {"applications": {"ranker": app}}
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda *_: httpx.Response(200, json=answer))
    return Dashboard("http://127.0.0.1:1").serve()


def test_an_app_is_given_up_with_the_reason_that_only_its_deployment_has(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: Json = {"status": "DEPLOY_FAILED", "message": "RuntimeError: no model"}
    app: dict[str, Json] = {
        "status": "DEPLOY_FAILED",
        "message": "Failed to update the deployments ['Ranker'].",
        "deployments": {"Ranker": raised, "Front": {"status": "HEALTHY", "message": "all well"}},
    }
    monkeypatch.setattr(rest, "_GIVEN_UP_AFTER", 0.0)
    with pytest.raises(ClusterStartError) as caught:
        GivenUp().check(said(app, monkeypatch))
    assert caught.value.checked == (
        "ranker: Failed to update the deployments ['Ranker'].; Ranker: RuntimeError: no model",
    )


def test_an_app_counts_as_given_up_only_when_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0, 29.0, 31.0, 60.0, 61.0]
    monkeypatch.setattr(clock, "now", lambda: times[0])
    failed, runs = (said({"status": state}, monkeypatch) for state in ("DEPLOY_FAILED", "RUNNING"))
    given_up = GivenUp()
    for status in (failed, runs, failed, failed):
        given_up.check(status)
        del times[0]
    with pytest.raises(ClusterStartError):
        given_up.check(failed)


def test_a_long_traceback_is_cut_at_the_beginning_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = "\n".join(f'  File "/deep/{number}.py", line {number}, in call' for number in range(300))
    status = said({"status": "DEPLOY_FAILED", "message": f"{frames}\nValueError: no model"}, monkeypatch)

    first, second, *_, last = status.messages["ranker"].splitlines()
    assert (first, last) == ("...", "ValueError: no model")
    assert second.startswith("  File ")


def test_a_traceback_of_a_usual_length_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = "\n".join(f'  File "/deep/{number}.py", line {number}, in call' for number in range(40))
    message = f"Deploying app 'ranker' failed with exception:\nTraceback:\n{frames}\nValueError: no model"

    assert said({"status": "DEPLOY_FAILED", "message": message}, monkeypatch).messages["ranker"] == message


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
