"""Proxies are where the Serve config says: on each node with replicas, on the head only, or nowhere."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.testing import FakeBehaviour
from tests.plugin.conftest import RunChaos

CONFIG = """
proxy_location: {location}
applications:
  - name: edge
    route_prefix: /
    import_path: pytest_serve_chaos.apps.sleepy_pid:app
"""

LOSES_A_WORKER = """
import pytest

@pytest.mark.worker_failure
def test_a_worker(experiment):
    result = experiment.run(availability=0.8, window="2s", longest_outage=None)
    assert {c.node for c in result.after.of("proxy")} == {"head"}
"""


@pytest.fixture
def head_only(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("edge.yaml").write_text(CONFIG.format(location="HeadOnly"))


@pytest.mark.usefixtures("head_only")
def test_a_worker_without_a_proxy_lacks_nothing(run_chaos: RunChaos) -> None:
    ran = run_chaos(LOSES_A_WORKER, "--serve-chaos-app=edge.yaml")

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["*warning: only the head has a proxy: nothing answers while it is away*"])


@pytest.mark.usefixtures("head_only")
def test_a_fault_on_a_proxy_hits_the_one_that_there_is(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.proxy_failure
        def test_it(experiment):
            result = experiment.measure(availability=0.5, window="2s", longest_outage=None)
            assert result.landed
            assert result.replaced("proxy@head")
            assert any("proxy@others" in remark for remark in result.remarks)
        """,
        "--serve-chaos-app=edge.yaml",
    )

    ran.outcomes(passed=1)
    ran.result.stdout.fnmatch_lines(["*only the head has a proxy*so that one is broken"])


@pytest.mark.usefixtures("head_only")
def test_a_proxy_that_does_not_come_back_is_missing(run_chaos: RunChaos) -> None:
    """Whoever needs one proxy only still needs that one."""
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.proxy_failure
        def test_it(experiment):
            experiment.run(availability=0.1, window="2s", longest_outage=None, redundancy_back="1s")
        """,
        "--serve-chaos-app=edge.yaml",
        behaviour=FakeBehaviour(back_after=30.0),
    )

    ran.outcomes(failed=1)
    ran.result.stdout.fnmatch_lines(["*redundancy is not back*no proxy on head*"])


@pytest.mark.parametrize("location", ["Disabled", "Nowhere"])
def test_without_proxies_no_cluster_is_started(run_chaos: RunChaos, pytester: pytest.Pytester, location: str) -> None:
    pytester.path.joinpath("edge.yaml").write_text(CONFIG.format(location=location))

    ran = run_chaos(LOSES_A_WORKER, "--serve-chaos-app=edge.yaml")

    assert ran.backend.clusters == []
    assert f"proxy_location is {location}" in ran.text.replace("'", "")
    assert "proxy_location: EveryNode" in ran.text or "EveryNode, HeadOnly" in ran.text
