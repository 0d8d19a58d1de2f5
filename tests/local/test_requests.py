"""Apps that answer below a path and to POST only, and three apps in one config, on a real Ray."""

from __future__ import annotations

import json

import pytest

from pytest_serve_chaos import Answer, RequestKind
from pytest_serve_chaos.experiment import Experiment

pytestmark = pytest.mark.serve_cluster(app="data/three_apps.yaml")

CHAT = RequestKind(
    app="chat",
    name="chat",
    path="/v1/chat/completions",
    body={"model": "m${n % 3}", "messages": [], "user": "u${seed}-${n}"},
    headers={"x-tenant": "t${n % 5}"},
)
PRICES = RequestKind(app="prices", name="prices", body=["ab", 3])
ALL = [RequestKind(app="front"), CHAT, PRICES]


def is_right(answer: Answer) -> bool:
    if answer.name == "chat":
        return str(json.loads(answer.body)["model"]).startswith("m")
    return answer.name != "prices" or answer.body == b"6"


@pytest.mark.parametrize(
    ("app", "deployment"),
    [
        pytest.param(app, name, marks=pytest.mark.replica_failure(deployment=f"{app}#{name}"))
        for app, name in (("front", "Front"), ("chat", "Chat"), ("prices", "Prices"))
    ],
)
def test_each_app_is_judged_by_its_own_requests(experiment: Experiment, app: str, deployment: str) -> None:
    result = experiment.sending(requests=ALL, check=is_right, rate=45).run(availability=0.95, longest_outage="5s")
    assert {part.of.name for part in result.parts} >= {"front", "chat", "prices"}
    (victim,) = (result.before.find(victim) for victim in result.victims) if result.before else (None,)
    assert victim is not None
    assert victim.deployment == f"{app}#{deployment}"
    assert all((part.measurement.sent or 0) > 200 for part in result.parts)


@pytest.mark.proxy_failure
def test_an_app_below_a_path_that_takes_post_only(experiment: Experiment) -> None:
    result = experiment.sending(requests=[CHAT], check=is_right, rate=40).run(availability=0.95, longest_outage="5s")
    assert any("no requests were sent to front, prices" in remark for remark in result.remarks)
    assert result.measurement.kept_sent
