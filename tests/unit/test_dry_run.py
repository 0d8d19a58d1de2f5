"""What stands between a dry run and its cluster: what reads is passed on, and everything else is withheld."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    HAS_REDIS,
    KILLS_NODES,
    SHARES_REDIS,
    SIGNALS_PROCESSES,
    Capability,
    Offer,
)
from pytest_serve_chaos.cluster.config_difference import difference
from pytest_serve_chaos.cluster.dry_run import WITHHOLDS_CHANGES, DryRunCluster
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.errors import SafetyError, Withheld
from pytest_serve_chaos.fault_plan import plan_of
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.handle import ServeCluster
from pytest_serve_chaos.model import Identity
from pytest_serve_chaos.safety.read_only import read_only
from pytest_serve_chaos.testing import FakeCluster, fake_rig
from tests.capabilities import part
from tests.unit.api_server import ApiServer


class Tunes(Protocol):
    """A capability of a third party, which says nothing of what it reads."""

    def tune(self, value: int, *, twice: bool = False) -> None: ...


TUNES = Capability[Tunes]("Tunes")


@dataclass
class Tuned:
    value: int = 0

    def tune(self, value: int, *, twice: bool = False) -> None:
        self.value = value


class WithTunes(FakeCluster):
    """A cluster with that capability."""

    tuned = Tuned()

    def offers(self) -> tuple[Offer, ...]:
        return (*super().offers(), TUNES.by(self.tuned))


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    cluster = WithTunes(ClusterSpec())
    yield cluster
    cluster.close()


@pytest.fixture
def dry(fake: FakeCluster) -> DryRunCluster:
    return DryRunCluster(fake)


# -- what is withheld --------------------------------------------------------------------------------------------------


def test_what_reads_is_passed_on(dry: DryRunCluster, fake: FakeCluster) -> None:
    assert dry.components() == fake.components()
    assert dry.dashboard.serve() == fake.dashboard.serve()
    assert part(dry, HAS_REDIS).redis_keys() == ("RAYfake@KV", "RAYfake@NODE")
    assert part(dry, HAS_REDIS).redis_namespace == "fake"


def test_what_changes_is_withheld(dry: DryRunCluster, fake: FakeCluster) -> None:
    config = fake.serve_config
    with pytest.raises(Withheld, match=r"KillsNodes\.kill_node\(name='head', how='kill', hold=True\)"):
        part(dry, KILLS_NODES).kill_node("head", how="kill", hold=True)
    with pytest.raises(Withheld, match=r"SharesRedis\.start_alongside"):
        part(dry, SHARES_REDIS).start_alongside()
    with pytest.raises(Withheld, match="apply_serve_config"):
        dry.apply_serve_config({})
    with pytest.raises(Withheld, match=r"Dashboard\.put_serve"):
        dry.dashboard.put_serve({})
    assert fake.world.struck is None
    assert fake.serve_config == config


def test_a_capability_that_does_not_say_what_it_reads_is_withheld_as_a_whole(dry: DryRunCluster) -> None:
    with pytest.raises(Withheld, match=r"Tunes\.tune\(value=3, twice=False\)"):
        part(dry, TUNES).tune(3)
    assert WithTunes.tuned.value == 0


def test_the_values_of_a_serve_config_are_in_no_message(dry: DryRunCluster) -> None:
    with pytest.raises(Withheld) as withheld:
        dry.apply_serve_config({"applications": [{"name": "a", "args": {"token": "s3cret"}}]})
    assert "s3cret" not in str(withheld.value)


# -- what an attempt would change --------------------------------------------------------------------------------------

FIRST, SECOND = (Identity("process", ("boot", pid, "1")) for pid in ("7", "8"))


def test_an_attempt_goes_on_after_a_change_that_can_be_skipped(dry: DryRunCluster) -> None:
    def attempt() -> None:
        for identity in (FIRST, SECOND):
            part(dry, SIGNALS_PROCESSES).signal_process(identity, 9)

    changes = part(dry, WITHHOLDS_CHANGES).changes_of(attempt)
    assert [change.arguments["identity"] for change in changes] == [FIRST, SECOND]


def test_an_attempt_ends_at_its_first_look_after_a_change(dry: DryRunCluster) -> None:
    looked = []

    def attempt() -> None:
        dry.components()
        part(dry, SIGNALS_PROCESSES).signal_process(FIRST, 9)
        dry.components()
        looked.append("it goes on")

    assert len(part(dry, WITHHOLDS_CHANGES).changes_of(attempt)) == 1
    assert not looked


def test_an_attempt_that_fails_before_it_changes_anything_raises_its_error(dry: DryRunCluster) -> None:
    def attempt() -> None:
        raise LookupError("nobody")

    with pytest.raises(LookupError, match="nobody"):
        part(dry, WITHHOLDS_CHANGES).changes_of(attempt)


def test_outside_of_an_attempt_even_a_signal_is_an_error(dry: DryRunCluster) -> None:
    with pytest.raises(Withheld):
        part(dry, SIGNALS_PROCESSES).signal_process(FIRST, 9)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_nothing_that_a_test_calls_by_hand_changes_anything() -> None:
    called: list[str] = []
    with fake_rig(seen_as=DryRunCluster) as rig:
        chaos, cluster = Chaos(rig), ServeCluster(rig)
        for attempt in (
            lambda: chaos.head.kill(),
            lambda: chaos.replica().freeze("3s"),
            lambda: chaos.app().update(),
            lambda: chaos.custom(lambda: called.append("inject"), lambda: None, lambda: called.append("ask")).inject(),
            lambda: cluster.update("sleepy_pid#SleepyPid", num_replicas=1),
            lambda: cluster.deploy({"name": "other", "import_path": "other:app"}),
            lambda: cluster.alongside(),
        ):
            with pytest.raises(Withheld):
                attempt()
        assert not called
        assert not rig.injections.open


def test_the_plan_of_an_update_shows_what_it_changes_and_nothing_else() -> None:
    with fake_rig(seen_as=DryRunCluster) as rig:
        plan = plan_of(rig, BUILT_IN.choose("app_update", {"change": "user_config", "to": {"level": 3}}))
    assert plan.steps[0].text == "Cluster.apply_serve_config(config=<dict>)"
    assert all("import_path" not in step.text for step in plan.steps)
    assert any('"level": 3' in step.text for step in plan.steps)


# -- how two Serve configs differ --------------------------------------------------------------------------------------


def test_a_difference_names_what_is_otherwise_by_its_path() -> None:
    before = {"applications": [{"name": "a", "import_path": "a:app", "args": {"token": "x"}}, {"name": "b"}]}
    after = {"applications": [{"name": "a", "import_path": "c:app", "args": {"token": "x"}}, {"name": "c"}]}
    assert difference(before, after) == [  # type: ignore[arg-type]
        'applications.a.import_path: "a:app" -> "c:app"',
        'applications.b: {"name": "b"} -> nothing',
        'applications.c: nothing -> {"name": "c"}',
    ]


def test_texts_that_may_be_secret_are_not_shown() -> None:
    before = {"applications": [{"name": "a", "runtime_env": {"env_vars": {"TOKEN": "old", "LEVEL": 1}}}]}
    env = {"env_vars": {"TOKEN": "new", "LEVEL": 2}}
    after = {"applications": [{"name": "a", "runtime_env": env, "args": {"k": "s"}}]}
    assert difference(before, after) == [  # type: ignore[arg-type]
        'applications.a.runtime_env.env_vars.TOKEN: "..." -> "..."',
        "applications.a.runtime_env.env_vars.LEVEL: 1 -> 2",
        'applications.a.args: nothing -> {"k": "..."}',
    ]


def test_a_list_without_names_differs_as_a_whole() -> None:
    assert difference({"a": [1, 2]}, {"a": [1, 3]}) == ["a: [1, 2] -> [1, 3]"]
    assert difference({"a": [1, 2]}, {"a": [1, 2]}) == []


# -- the last line of defence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_reads_passes_as_far_as_the_other_guard_lets_it(method: str) -> None:
    asked: list[tuple[str, str]] = []
    read_only(lambda *request: asked.append(request))(method, "/api/v1/pods")
    assert asked == [(method, "/api/v1/pods")]


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "POST", "PUT", "CONNECT"])
def test_no_request_that_changes_something_passes(method: str) -> None:
    with pytest.raises(SafetyError, match="this is a dry run"):
        read_only(lambda *_: None)(method, "/api/v1/namespaces/ml/pods/head")


def test_a_question_about_rights_passes() -> None:
    read_only(lambda *_: None)("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")


INTO_THE_HEAD = ("EXEC", "/api/v1/namespaces/ml/pods/head/exec")


@pytest.mark.parametrize("program", sorted(in_pod.LOOKS))
def test_a_program_in_a_pod_that_looks_is_let_through(program: str) -> None:
    asked: list[object] = []
    read_only(lambda *request: asked.append(request))(*INTO_THE_HEAD, in_pod.command(program, "uid", "a"))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "command",
    [
        *(in_pod.command(one, "uid", "a") for one in ("freeze", "kill_actor", "set_flag", "signal_process", "tidy")),
        in_pod.command("stale", "uid", "mark"),
        ("python", "-c", in_pod.command("knock", "uid")[2] + "\nimport os; os.kill(1, 9)"),
        ("sh", "-c", "kill 1"),
        ("python",),
        None,
    ],
    ids=[
        "freeze",
        "kill_actor",
        "set_flag",
        "signal_process",
        "tidy",
        "stale",
        "a longer knock",
        "sh",
        "no",
        "unknown",
    ],
)
def test_no_program_in_a_pod_changes_anything(command: object) -> None:
    with pytest.raises(SafetyError, match="this is a dry run, which changes nothing: EXEC"):
        read_only(lambda *_: None)(*INTO_THE_HEAD, command)


def test_a_program_that_changes_something_does_not_leave_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("kubernetes.stream.stream", lambda *request, **options: sent.append(request))
    kubeconfig = ApiServer("https://127.0.0.1:1").kubeconfig(tmp_path)
    with (
        closing(KubeApi(kubeconfig, namespace="ml", permit=read_only(lambda *_: None))) as api,
        pytest.raises(SafetyError, match="this is a dry run, which changes nothing: EXEC"),
    ):
        api.run("head", "ray", in_pod.command("tidy", "uid"))
    assert sent == []
