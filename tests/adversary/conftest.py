"""Lets a long run say how far it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adversary.many import TELLER


@pytest.fixture(scope="session", autouse=True)
def progress_is_seen(request: pytest.FixtureRequest) -> Iterator[None]:
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(text, flush=True)

    before, TELLER.say = TELLER.say, say
    yield
    TELLER.say = before
