"""What cannot be used is refused before anything starts."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

import pytest

from pytest_serve_chaos.backends import registry
from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.cluster import app_check
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import MissingDependency
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.testing import FakeCluster
from tests.plugin.conftest import Ran, RunChaos

TEST = "def test_it(serve_cluster): pass"


def refused(ran: Ran, *lines: str) -> None:
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR, ran.text
    ran.result.stderr.fnmatch_lines(list(lines))
    assert ran.backend.clusters == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--serve-chaos-backend=docker", "*--serve-chaos-backend 'docker'*must be one of local, kind, kubernetes"),
        ("--serve-chaos-rate=fast", "*--serve-chaos-rate 'fast'*must be a number of requests per second*"),
        ("--serve-chaos-gcs=etcd", "*--serve-chaos-gcs 'etcd'*must be one of redis, rocksdb, none"),
        ("--serve-chaos-context=staging", "*--serve-chaos-context was given, and the local backend does not use it"),
        ("--serve-chaos-operator-namespace=kuberay", "*-operator-namespace was given, and the local backend does not*"),
    ],
)
def test_a_wrong_value_says_which_are_right(run_chaos: RunChaos, option: str, message: str) -> None:
    refused(run_chaos(TEST, option), message)


def test_settings_may_stand_in_the_configuration(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nserve_chaos_workers = 0")

    refused(run_chaos(TEST), "*0* from serve_chaos_workers in tox.ini: it must be a whole number, 1 or more")


@pytest.mark.parametrize(
    ("marker", "fixture", "message"),
    [
        ("head_failure(hwo='kill')", "experiment", "*head_failure has no keyword 'hwo'*"),
        ("head_failure(how='delete')", "experiment", "*how='delete'*must be one of kill, stop, freeze*"),
        ("serve_cluster(gcs='etcd')", "serve_cluster", "*gcs='etcd'*must be one of redis, rocksdb, none*"),
        ("slow", "experiment", "*the test uses the fixture `experiment`, and no marker says what it breaks*"),
        ("head_failur", "experiment", "*- write @pytest.mark.head_failure*"),
        ("worker_failure(how='kill', for_='9s')", "experiment", "*for_ * goes with hold=True where how is 'kill'*"),
        ("raylet_failure(how='kill', for_='9s')", "experiment", "*- or write how='freeze'"),
    ],
)
def test_a_wrong_marker_is_refused_before_anything_starts(
    run_chaos: RunChaos, marker: str, fixture: str, message: str
) -> None:
    ran = run_chaos(f"import pytest\n\n@pytest.mark.{marker}\ndef test_it({fixture}): pass", "-W", "ignore")

    refused(ran, message)


def test_a_variable_that_no_setting_has_is_named(run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_CHAOS_REQUEST_TIMOUT", "15s")
    monkeypatch.setenv("SERVE_CHAOS_FLAGS", "/tmp/flags")  # of the pods of an external cluster
    ran = run_chaos(TEST)

    ran.outcomes(passed=1)
    (line,) = [line for line in ran.result.outlines if "no setting" in line]
    assert line == (
        "serve-chaos: warning: SERVE_CHAOS_REQUEST_TIMOUT has no effect, because no setting has that name."
        " To fix this: write SERVE_CHAOS_REQUEST_TIMEOUT"
    )


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("head_failur", {"head_failur": "head_failure"}),
        (
            "not (replica_failure or node-failure) and serve_cluster(app='head_failur')",
            {"node-failure": "node_failure"},
        ),
        ("worker_failure(how='kill') or gcs_fail", {"gcs_fail": "gcs_failure"}),
        ("nightly", {}),
    ],
)
def test_a_misspelt_marker_after_m_is_named(run_chaos: RunChaos, expression: str, named: dict[str, str]) -> None:
    ran = run_chaos(TEST, "-m", expression)

    assert [line for line in ran.result.outlines if "no marker" in line] == [
        f"serve-chaos: warning: {name} after -m has no effect, because no marker has that name."
        f" To fix this: write {meant}"
        for name, meant in named.items()
    ]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ClusterSpec]:
    """The specs of clusters that our own backend was asked for; it gives fakes, of up to ten workers."""
    specs: list[ClusterSpec] = []

    def check(spec: ClusterSpec, _: Settings) -> None:
        if spec.workers > 10:
            raise MissingDependency(f"no room for {spec.workers} workers")

    def start(spec: ClusterSpec, *_: object) -> FakeCluster:
        specs.append(spec)
        return FakeCluster(spec)

    faked = Backends(replace(backend, start=start, check=check) for backend in registry.BUILT_IN)
    monkeypatch.setattr(registry, "BUILT_IN", faked)
    return specs


def test_an_app_that_does_not_exist_is_refused_before_a_cluster_starts(
    pytester: pytest.Pytester, started: list[ClusterSpec]
) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-app=nosuch:app")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*--serve-chaos-app from the command line: the app 'nosuch:app' cannot be imported: *no module 'nosuch'",
            "*directory *",
            "*write module:app as for `serve run`*",
        ]
    )
    assert started == []


def test_an_app_of_a_marker_that_does_not_exist_is_refused_too(
    pytester: pytest.Pytester, started: list[ClusterSpec]
) -> None:
    pytester.makepyfile(ranker="def app(args): pass")
    pytester.makepyfile(
        """
        import pytest

        def test_right(serve_cluster): pass

        @pytest.mark.serve_cluster(app="ranker:nosuch")
        def test_wrong(serve_cluster): pass
        """
    )
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-app=ranker:app")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*::test_wrong: the app 'ranker:nosuch' does not exist: the module ranker has no *"])
    assert started == []
    assert pytester.runpytest_inprocess("--serve-chaos", "--collect-only").ret == pytest.ExitCode.OK


def test_too_many_replicas_for_the_workers_are_refused_unless_the_test_wants_fewer(
    pytester: pytest.Pytester, started: list[ClusterSpec]
) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-workers=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*deployment SleepyPid: 6 replicas are wanted, 3 at most on a node, and 1 node can*"])
    assert started == []

    few = "serve_cluster(workers=1, app_args={'options': {'num_replicas': 2}})"
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.{few}\ndef test_few(serve_cluster): pass\n")
    pytester.runpytest_inprocess("--serve-chaos").assert_outcomes(passed=1)
    assert len(started) == 1


def test_a_cluster_that_this_machine_cannot_have_is_refused_before_the_first_test(
    pytester: pytest.Pytester, started: list[ClusterSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-workers=99")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no room for 99 workers"])

    pytester.makepyfile("import pytest\n\n@pytest.mark.serve_cluster(workers=99)\ndef test_many(serve_cluster): pass")
    result = pytester.runpytest_inprocess("--serve-chaos")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_many: no room for 99 workers"])
    assert started == []


def test_a_path_that_no_app_has_is_the_fault_of_the_option_that_names_it(
    pytester: pytest.Pytester, started: list[ClusterSpec]
) -> None:
    pytester.makepyfile(TEST)
    apps = [f"  - {{name: {n}, route_prefix: /{n}, import_path: 'pytest_serve_chaos.apps.composed:app'}}" for n in "ab"]
    pytester.path.joinpath("two.yaml").write_text("\n".join(["applications:", *apps]))
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-app=two.yaml", "--serve-chaos-path=/c")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--serve-chaos-path from the command line: the path /c is below the route of no app"])
    assert started == []


def test_an_app_that_exists_gets_its_cluster(pytester: pytest.Pytester, started: list[ClusterSpec]) -> None:
    pytester.makepyfile(ranker="def app(args): pass")
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-app=ranker:app")

    result.assert_outcomes(passed=1)
    assert [spec.app for spec in started] == ["ranker:app"]


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "replica_failure(deployment='Rankr')",
            "*the Serve config has no such deployment*- write deployment='Ranker'*",
        ),
        ("app_update(app='rankers')", "*the Serve config has no such app*- write app='ranker'*"),
    ],
)
def test_a_deployment_or_an_app_that_does_not_exist_is_refused_before_a_cluster_starts(
    pytester: pytest.Pytester, started: list[ClusterSpec], monkeypatch: pytest.MonkeyPatch, marker: str, message: str
) -> None:
    known: dict[str, dict[str, str]] = {"ranker": {"Ranker": "", "Front": ""}}
    monkeypatch.setattr(app_check, "_deployments", lambda config, code: known)
    pytester.makepyfile(ranker="def app(args): pass")
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.{marker}
        def test_it(experiment): pass
        """
    )
    result = pytester.runpytest_inprocess("--serve-chaos", "--serve-chaos-app=ranker:app")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert fnmatch.fnmatch(result.stderr.str(), message)
    assert started == []


def test_an_experiment_has_one_fault(run_chaos: RunChaos) -> None:
    two = "import pytest\n\n@pytest.mark.head_failure\n@pytest.mark.worker_failure\ndef test_it({}): pass"

    refused(
        run_chaos(two.format("experiment")), "*worker_failure and head_failure, and an experiment injects one fault*"
    )
    run_chaos(two.format("chaos")).outcomes(passed=1)


def test_what_is_wrong_and_deselected_is_no_matter(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure(nonsense=True)
        def test_wrong(experiment): pass

        def test_right(serve_cluster): pass
        """,
        "-k",
        "right",
    )

    ran.outcomes(passed=1, deselected=1)


def test_an_expectation_that_there_is_not_is_an_error(run_chaos: RunChaos) -> None:
    ran = run_chaos(
        """
        import pytest

        @pytest.mark.head_failure
        def test_it(experiment):
            experiment.run(latency="1s")
        """
    )

    ran.outcomes(errors=1)
    ran.result.stdout.fnmatch_lines(["*there is no expectation 'latency'*", "*the expectations are availability, *"])


@pytest.mark.parametrize("arguments", [("-p", "xdist", "-n", "2"), ("-p", "xdist", "--dist=load", "--tx=2*popen")])
def test_xdist_is_refused(run_chaos: RunChaos, arguments: tuple[str, ...]) -> None:
    refused(
        run_chaos(TEST, *arguments),
        "*--serve-chaos does not run under pytest-xdist: chaos tests share one cluster*",
        "*pytest --serve-chaos -n 0*",
    )


def test_xdist_that_distributes_nothing_is_no_matter(run_chaos: RunChaos) -> None:
    run_chaos(TEST, "-p", "xdist", "-n", "0").outcomes(passed=1)
