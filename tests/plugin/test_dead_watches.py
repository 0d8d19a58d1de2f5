"""A thread that watches and has ended breaks the rig: the test is an error, whatever it would have said of the app."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import RunChaos

DIES = """
    import pytest
    from pytest_serve_chaos import clock
    from pytest_serve_chaos.clock import NotYet
    from pytest_serve_chaos.observe.watcher import Watcher

    @pytest.fixture
    def watch_dies(serve_cluster, monkeypatch):
        def end(self):
            raise SystemExit("a library called sys.exit")
        monkeypatch.setattr(Watcher, "ask", end)
        watcher = serve_cluster._rig.watcher
        clock.wait_until("its end", lambda: bool(watcher.dead) or NotYet("it goes on"), timeout=10.0, interval=0.01)
"""


@pytest.mark.parametrize(
    "test",
    [
        """
    @pytest.mark.head_failure
    def test_it(experiment, watch_dies):
        experiment.run(availability=0.7, longest_outage="500ms", window="700ms")
""",
        """
    def test_it(chaos, watch_dies):
        assert "the app" == "well"
""",
    ],
    ids=["experiment", "by-hand"],
)
def test_the_test_is_an_error_and_the_next_one_gets_a_new_cluster(run_chaos: RunChaos, test: str) -> None:
    ran = run_chaos(f"{DIES}\n{test}\n    def test_next(chaos):\n        pass\n")
    assert "the thread serve-chaos-ask ended: SystemExit: a library called sys.exit" in ran.text
    outcomes = ran.result.parseoutcomes()
    assert outcomes.get("failed", 0) == 0
    assert outcomes["errors"] >= 1
    assert "rebuilds the cluster: what watches it has ended" in ran.text
