"""What the users of the service notice if it loses one part.

At 5 requests a second of 2 s each, ten are in flight. Those on the part that is lost are lost with it, so the share of
good answers depends on the window: 3 % of the 300 requests of a minute are 9.
"""

import json

import pytest

ONE_PART = {"availability": 0.97, "longest_outage": "3s", "window": "60s"}


def is_right(answer):
    """A good status does not make a right answer."""
    return json.loads(answer.body)["choices"][0]["message"]["content"].startswith("You said: ")


@pytest.fixture
def users(experiment):
    return experiment.sending(check=is_right)


@pytest.mark.replica_failure(deployment="Engine")
def test_an_engine_is_lost(users):
    users.run(**ONE_PART)


@pytest.mark.replica_failure(deployment="Ingress")
def test_an_ingress_is_lost(users):
    users.run(**ONE_PART)


@pytest.mark.worker_failure
def test_a_worker_is_lost(users):
    # Until Ray notices, requests go to its engines, too, and are then sent to others.
    users.run(availability=0.8, longest_outage="15s", window="60s")


@pytest.mark.proxy_failure
def test_a_proxy_is_lost(users):
    users.run(**ONE_PART)


@pytest.mark.controller_failure
def test_the_controller_is_lost(users):
    users.run()


@pytest.mark.head_failure
def test_the_head_is_lost(users):
    # An ingress that answers the head's proxy just then is silent until the GCS is back, on Kubernetes for longer.
    users.run(availability=0.7, longest_outage="30s", window="60s")
