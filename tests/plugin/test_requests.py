"""What is sent: paths, kinds of requests, several apps; and that each is judged by its own requests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster, FakeProxies, Reply, World
from tests.plugin.conftest import LOAD, Ran, RunChaos
from tests.plugin.test_endpoints import FakeWithEndpoints
from tests.plugin.test_external import ExternalFake

POST_BELOW_A_PATH = FakeBehaviour(below="/v1/chat", takes="POST")

THREE = """
applications:
- {name: front, route_prefix: /, import_path: "pytest_serve_chaos.apps.sleepy_pid:app"}
- {name: chat, route_prefix: /llm, import_path: "pytest_serve_chaos.apps.sleepy_pid:app"}
- {name: vision, route_prefix: /vision, import_path: "pytest_serve_chaos.apps.sleepy_pid:app"}
"""

SURVIVES = """
import pytest

@pytest.mark.replica_failure
def test_it(experiment):
    experiment.run(availability=0.7, window="1500ms", longest_outage="20s")
"""


@pytest.fixture
def three(pytester: pytest.Pytester) -> str:
    """A config of three apps; the option that gives it."""
    (pytester.path / "three.yaml").write_text(THREE)
    return "--serve-chaos-app=three.yaml"


def history(ran: Ran) -> History:
    return History.load(ran.directory / "history.jsonl")


def experiment(ran: Ran) -> dict[str, Json]:
    (found,) = cast("list[dict[str, Json]]", ran.summary["experiments"])
    return found


# -- paths and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", [FakeCluster, FakeWithEndpoints, ExternalFake], ids=lambda c: c.__name__)
def test_an_app_below_a_path_that_takes_post_only_gets_a_verdict(
    run_chaos: RunChaos, cluster: type[FakeCluster]
) -> None:
    ran = run_chaos(
        SURVIVES,
        "--serve-chaos-path=/v1/chat",
        "--serve-chaos-method=POST",
        '--serve-chaos-body={"messages": []}',
        behaviour=POST_BELOW_A_PATH,
        cluster=cluster,
    )
    ran.outcomes(passed=1)
    assert any(request.kept for request in history(ran).requests)


@pytest.mark.parametrize(
    "sending",
    [
        'path="/v1/chat", method="POST"',
        'requests=[RequestKind(path="/v1/chat", body={"n": "${n}"})]',
        'url=serve_cluster.url + "v1/chat", method="POST", body=b"{}"',
    ],
)
@pytest.mark.parametrize("cluster", [FakeCluster, FakeWithEndpoints], ids=lambda c: c.__name__)
def test_a_test_says_what_is_sent(run_chaos: RunChaos, sending: str, cluster: type[FakeCluster]) -> None:
    ran = run_chaos(
        f"""
        import pytest
        from pytest_serve_chaos import RequestKind

        @pytest.mark.replica_failure
        def test_it(experiment, serve_cluster):
            experiment.sending({sending}).run(availability=0.7, window="700ms", longest_outage="20s")
        """,
        behaviour=POST_BELOW_A_PATH,
        cluster=cluster,
    )
    ran.outcomes(passed=1)


def test_traffic_by_hand_says_what_is_sent(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        from pytest_serve_chaos import RequestKind

        CHAT = RequestKind(name="chat", path="/v1/chat", body={"user": "u${n % 5}"})

        def test_it(traffic, chaos):
            with traffic(path="/v1/chat") as first, traffic(requests=[CHAT], wait=False) as second:
                killed = chaos.replica().kill()
                killed.wait_redundancy_back("5s")
            assert first.requests and second.requests
            assert {request.name for request in second.requests} == {"chat"}
            assert second.lost == 0 < first.lost + 1
        """,
        "--serve-chaos-method=POST",
        behaviour=POST_BELOW_A_PATH,
    )
    ran.outcomes(passed=1)


def test_the_wrong_path_is_not_steady(run_chaos: RunChaos) -> None:
    behaviour = FakeBehaviour(below="/v1/chat", waits=POST_BELOW_A_PATH.waits)
    ran = run_chaos(SURVIVES, "--serve-chaos-path=/v1/chatt", behaviour=short(behaviour))
    ran.outcomes(inconclusive=1)
    assert "HTTP 404" in ran.text


def short(behaviour: FakeBehaviour) -> FakeBehaviour:
    """Nobody waits for long for a steady state that cannot come."""
    from dataclasses import replace

    return replace(behaviour, waits=replace(behaviour.waits, steady_within=2.0))


# -- before there is a cluster -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"path": "/a"}\n{"path": "/b", "wieght": 2}\n', "line 2: a request has no 'wieght'"),
        ('{"app": "rank"}\n', "there is no app 'rank'"),
        ('{"path": "/a", "body_file": "cat.jpg"}\n', "line 1: body_file cat.jpg cannot be read"),
        ('{"body": "${user}"}\n', "line 1: there is no '${user}'"),
    ],
)
def test_a_file_of_requests_is_refused_before_there_is_a_cluster(
    pytester: pytest.Pytester, text: str, why: str
) -> None:
    (pytester.path / "requests.jsonl").write_text(text)
    pytester.makepyfile(SURVIVES)
    result = pytester.runpytest_inprocess(
        "--serve-chaos",
        *LOAD,
        "-p",
        "pytest_serve_chaos.testing.plugin",
        "--serve-chaos-backend=fake",
        "--serve-chaos-requests=requests.jsonl",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert why in result.stderr.str()
    assert "cluster is up" not in result.stdout.str()


def test_an_unknown_app_is_refused_before_anything_is_broken(run_chaos: RunChaos, three: str) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.sending(app="chatt").run()
        """,
        three,
    )
    assert "there is no app 'chatt'" in ran.text
    assert ran.backend.clusters[0].world.struck is None


# -- kinds of requests -------------------------------------------------------------------------------------------------


class WithoutDogs(FakeProxies):
    """From the first fault on, one path answers nothing but errors."""

    def serve(self, pid: int, path: str) -> Reply:
        """Loses them."""
        if "dogs" in path and self.world.struck is not None:
            return Reply(500, "no dogs")
        return super().serve(pid, path.partition("?")[0])


class ForgetsDogs(FakeCluster):
    proxies_class = WithoutDogs


KINDS = (
    '{"name": "cats", "path": "/?cats=${n}", "weight": 9}\n'
    '{"name": "dogs", "path": "/?dogs=${n}&seed=${seed}", "weight": 1}\n'
)


def test_kinds_have_figures_of_their_own(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    (pytester.path / "requests.jsonl").write_text(KINDS)
    ran = run_chaos(SURVIVES, "--serve-chaos-requests=requests.jsonl")
    ran.outcomes(passed=1)
    names = Counter(request.name for request in history(ran).requests if not request.kept)
    assert names["cats"] > 5 * names["dogs"] > 0
    parts = cast("list[dict[str, Json]]", experiment(ran)["parts"])
    assert [part["name"] for part in parts] == ["cats", "dogs"]
    assert "requests 'cats': 0 of " in ran.text
    assert "requests 'dogs': not judged by themselves: too few requests" in ran.text


def test_the_verdict_says_which_kind_failed(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    """All together, nine of ten are answered, which is what is demanded."""
    (pytester.path / "requests.jsonl").write_text(KINDS)
    demands = 'window="4s", longest_outage=None, traffic_back=None'
    ran = run_chaos(
        SURVIVES.replace('window="1500ms", longest_outage="20s"', demands),
        "--serve-chaos-requests=requests.jsonl",
        cluster=ForgetsDogs,
    )
    ran.outcomes(failed=1)
    reasons = cast("list[str]", experiment(ran)["reasons"])
    assert all(reason.startswith("requests 'dogs': ") for reason in reasons), reasons


def test_an_expected_status_is_a_good_answer(run_chaos: RunChaos) -> None:
    source = """
        import pytest
        from pytest_serve_chaos import RequestKind

        KINDS = [RequestKind(name="there"), RequestKind(name="gone", path="/nowhere", status=404)]

        @pytest.mark.worker_failure
        def test_it(experiment):
            result = experiment.sending(requests=KINDS).run(availability=0.7, window="1500ms", longest_outage="20s")
            assert result.part("gone").sent and not result.part("gone").lost
        """
    run_chaos(source).outcomes(passed=1)
    wrong = source.replace("status=404", "status=410")
    ran = run_chaos(wrong, behaviour=short(FakeBehaviour()))
    assert "HTTP 404" in ran.text


def test_the_seed_repeats_a_run(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    (pytester.path / "requests.jsonl").write_text(KINDS.replace('"weight": 9', '"weight": 1'))
    source = "def test_it(traffic):\n    with traffic():\n        pass\n"
    orders = []
    for seed in (7, 7, 8):
        ran = run_chaos(source, "--serve-chaos-requests=requests.jsonl", f"--serve-chaos-seed={seed}")
        newest = max((path for path in (ran.path / ".serve-chaos").iterdir() if path.is_dir()), key=_written)
        requests = History.load(newest / "history.jsonl").requests
        fresh = sorted((r for r in requests if not r.kept), key=lambda r: r.index)
        orders.append([request.name for request in fresh])
    first, again, other = (order[: min(map(len, orders))] for order in orders)
    assert len(first) >= 6
    assert first == again != other


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


# -- several apps ------------------------------------------------------------------------------------------------------


def test_each_app_gets_its_share_and_a_judgement(run_chaos: RunChaos, three: str) -> None:
    ran = run_chaos(SURVIVES.replace("1500ms", "2s"), three, "--serve-chaos-rate=24")
    ran.outcomes(passed=1)
    apps = Counter(request.app for request in history(ran).requests if not request.kept)
    assert apps.keys() == {"front", "chat", "vision"}
    assert max(apps.values()) - min(apps.values()) <= 4
    found = experiment(ran)
    assert [part["app"] for part in cast("list[dict[str, Json]]", found["parts"])] == ["front", "chat", "vision"]
    assert "this is about the apps front, chat, vision" in cast("list[str]", found["remarks"])


def test_apps_whose_requests_stand_in_blocks_of_a_file_get_a_verdict(
    run_chaos: RunChaos, pytester: pytest.Pytester, three: str
) -> None:
    """A block has 100 requests, so in that order each app would get nothing for 8 s."""
    lines = [json.dumps({"app": app}) for app in ("front", "chat", "vision") for _ in range(100)]
    (pytester.path / "requests.jsonl").write_text("\n".join(lines))
    source = SURVIVES.replace(', longest_outage="20s"', "").replace("1500ms", "2s")
    ran = run_chaos(source, three, "--serve-chaos-requests=requests.jsonl", "--serve-chaos-rate=24")
    ran.outcomes(passed=1)


class LoseOneApp(FakeProxies):
    """For three seconds from the first fault on, every second request to one app is lost."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.asked = 0

    def serve(self, pid: int, path: str) -> Reply:
        """Loses them."""
        struck = self.world.struck
        if path == "/llm" and struck is not None and clock.now() < struck + 3.0:
            self.asked += 1
            if self.asked % 2:
                return Reply(500, "no")
        return super().serve(pid, path)


class OneAppSuffers(FakeCluster):
    proxies_class = LoseOneApp


LOSES = """
import pytest

@pytest.mark.replica_failure(deployment="front#SleepyPid")
def test_it(experiment):
    experiment.run(availability=0.7, window="2s", longest_outage=None, traffic_back=None)
"""


def test_one_app_of_three_that_loses_requests_fails_and_is_named(run_chaos: RunChaos, three: str) -> None:
    """All together, five of six are answered, which is more than is demanded."""
    # Without persistent connections, of whose few requests chance alone may send too many to that app.
    options = ("--serve-chaos-rate=24", "--serve-chaos-persistent-rate=0")
    ran = run_chaos(LOSES, three, *options, cluster=OneAppSuffers)
    ran.outcomes(failed=1)
    reasons = cast("list[str]", experiment(ran)["reasons"])
    assert reasons
    assert all(reason.startswith("app chat: ") for reason in reasons), reasons


def test_apps_that_got_too_few_requests_are_inconclusive(run_chaos: RunChaos, three: str) -> None:
    """A window that is enough for all together is not enough for each."""
    ran = run_chaos(LOSES.replace('"2s"', '"900ms"'), three, "--serve-chaos-rate=24")
    ran.outcomes(inconclusive=1)


def test_a_user_chooses_an_app_and_the_others_are_named(run_chaos: RunChaos, three: str) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            experiment.sending(app="vision").run(availability=0.7, window="1s", longest_outage="20s")
        """,
        three,
    )
    ran.outcomes(passed=1)
    remarks = experiment(ran)["remarks"]
    assert "this is about the app vision; no requests were sent to chat, front" in cast("list[str]", remarks)


@pytest.mark.parametrize("seed", range(3))
def test_a_victim_is_one_of_those_that_serve(run_chaos: RunChaos, three: str, seed: int) -> None:
    """Also where no answer names its replica: then nobody knows whether that very one served."""
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.replica_failure
        def test_it(experiment):
            result = experiment.sending(app="vision").measure(availability=None, window="1s")
            (victim,) = [result.before.find(victim) for victim in result.victims]
            assert victim.deployment.startswith("vision#")
        """,
        three,
        f"--serve-chaos-seed={seed}",
        behaviour=FakeBehaviour(anonymous=True),
    )
    ran.outcomes(passed=1)


def test_an_app_that_does_not_answer_is_not_steady(run_chaos: RunChaos, three: str) -> None:
    class SilentVision(FakeProxies):
        def wait(self, path: str) -> float:
            return float("inf") if path == "/vision" else 0.0

    class Silent(FakeCluster):
        proxies_class = SilentVision

    ran = run_chaos(SURVIVES, three, behaviour=short(FakeBehaviour()), cluster=Silent)
    ran.outcomes(inconclusive=1)


def test_a_deployed_app_is_asked_by_name(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        APP = {"name": "second", "route_prefix": "/second", "import_path": "pytest_serve_chaos.apps.sleepy_pid:app"}

        def test_it(serve_cluster, traffic):
            serve_cluster.deploy(APP)
            with traffic() as first, traffic(app="second", wait=False) as second:
                second.wait_answered()
                first.wait_answered()
            replicas = {replica.partition("#")[0] for replica in first.answered_by()}
            assert replicas == {"sleepy_pid"}
        """
    )
    ran.outcomes(passed=1)
    assert json.dumps(ran.summary)
