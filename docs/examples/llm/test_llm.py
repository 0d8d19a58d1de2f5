"""What the users of the service notice of a loss."""

import json

import pytest


def is_right(answer):
    """A good status does not make a right answer."""
    return json.loads(answer.body)["choices"][0]["message"]["content"].startswith("You said: ")


@pytest.fixture
def users(experiment):
    return experiment.sending(check=is_right)


@pytest.mark.replica_failure(deployment="Engine")
def test_an_engine_is_lost(users):
    users.run()


@pytest.mark.replica_failure(deployment="Ingress")
def test_an_ingress_is_lost(users):
    users.run()


@pytest.mark.worker_failure
def test_a_worker_is_lost(users):
    users.run()


@pytest.mark.proxy_failure
def test_a_proxy_is_lost(users):
    users.run()


@pytest.mark.controller_failure
def test_the_controller_is_lost(users):
    users.run()


@pytest.mark.head_failure
def test_the_head_is_lost(users):
    users.run()
