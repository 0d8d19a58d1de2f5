"""What Serve's REST says of apps that are not well."""

from __future__ import annotations

import httpx
import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster import rest
from pytest_serve_chaos.cluster.rest import Dashboard, GivenUp
from pytest_serve_chaos.errors import ClusterStartError
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
