from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_serve_chaos.backends.registry import BUILT_IN, settings_table
from pytest_serve_chaos.cluster.base import Gcs, Profile
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.kinds import Choice
from pytest_serve_chaos.options import OPTIONS, option
from pytest_serve_chaos.settings import Settings, resolve


@dataclass
class Given:
    """What pytest's config would hold."""

    rootpath: Path = Path("/project")
    inipath: Path | None = Path("/project/pyproject.toml")
    options: Mapping[str, object] = field(default_factory=dict)
    ini: Mapping[str, object] = field(default_factory=dict)

    def getoption(self, name: str, /) -> object:
        return self.options.get(name)

    def getini(self, name: str, /) -> object:
        return self.ini.get(name)


EXTERNAL = {
    "SERVE_CHAOS_BACKEND": "kubernetes",
    "SERVE_CHAOS_CONTEXT": "staging",
    "SERVE_CHAOS_RAYSERVICE": "ml/ranker",
    "SERVE_CHAOS_URL": "https://ranker.example.com/rank",
}


def from_environment(**variables: str) -> Settings:
    return resolve(Given(), {f"SERVE_CHAOS_{name}": value for name, value in variables.items()})


# -- where values come from -------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_environment_and_that_over_the_configuration() -> None:
    options: dict[str, object] = {"serve_chaos_rate": "10"}
    environ = {"SERVE_CHAOS_RATE": "20"}
    ini: dict[str, object] = {"serve_chaos_rate": 30.0}

    assert resolve(Given(options=options, ini=ini), environ).rate == 10
    assert resolve(Given(ini=ini), environ).rate == 20
    assert resolve(Given(ini=ini), {}).rate == 30
    assert resolve(Given(), {}).rate == 50


def test_each_value_knows_where_it_came_from() -> None:
    given = Given(options={"serve_chaos_rate": "10"}, ini={"serve_chaos_workers": 3})

    settings = resolve(given, {"SERVE_CHAOS_GCS": "none"})

    assert settings.source("rate") == "the command line"
    assert settings.source("gcs") == "SERVE_CHAOS_GCS"
    assert settings.source("workers") == "serve_chaos_workers in pyproject.toml"
    assert settings.source("app") == "the default"


def test_zero_and_off_are_values_and_not_nothing() -> None:
    settings = resolve(Given(ini={"serve_chaos_persistent_rate": 0.0, "serve_chaos_seed": 0}), {})

    assert settings.persistent_rate == 0
    assert settings.seed == 0


def test_a_variable_that_is_empty_counts_as_not_there() -> None:
    assert resolve(Given(ini={"serve_chaos_rate": 30.0}), {"SERVE_CHAOS_RATE": ""}).rate == 30


def test_an_empty_value_on_the_command_line_is_refused() -> None:
    with pytest.raises(SettingsError, match="Invalid --serve-chaos-rate '' from the command line"):
        resolve(Given(options={"serve_chaos_rate": ""}), {"SERVE_CHAOS_RATE": "30"})


def test_paths_of_the_configuration_start_at_the_root_directory_and_others_at_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert resolve(Given(ini={"serve_chaos_report_dir": "out"}), {}).report_dir == Path("/project/out")
    assert from_environment(REPORT_DIR="out").report_dir == tmp_path / "out"
    assert resolve(Given(), {}).report_dir == Path("/project/.serve-chaos")


def test_a_seed_that_nobody_gave_differs_from_run_to_run() -> None:
    assert len({resolve(Given(), {}).seed for _ in range(10)}) > 1


# -- what is valid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("backend", "docker", "one of local, kind, kubernetes"),
        ("profile", "slow", "one of fast, guide"),
        ("gcs", "etcd", "one of redis, rocksdb, none"),
        ("workers", "0", "a whole number, 1 or more"),
        ("workers", "two", "a whole number, 1 or more"),
        ("rate", "abc", "a number of requests per second, more than 0 and at most 400"),
        ("rate", "0", "more than 0"),
        ("rate", "401", "at most 400"),
        ("rate", "nan", "a number of requests per second"),
        ("persistent_rate", "-1", "0 or more"),
        ("request_timeout", "soon", "a duration of more than 0"),
        ("request_timeout", "0s", "a duration of more than 0"),
        ("method", "FETCH", "one of GET, HEAD, POST"),
        ("seed", "-1", "a whole number, 0 or more"),
        ("app", "ranker", "module:app, or an existing Serve config file"),
        ("app", "missing.yaml", "module:app, or an existing Serve config file"),
        ("redis_server", "/nowhere/redis-server", "the path of a program"),
        ("headers", "no colon", "a header as 'Name: value'"),
    ],
)
def test_an_invalid_value_is_refused_with_what_is_valid(name: str, value: str, valid: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        from_environment(**{name.upper(): value})

    message = str(refusal.value)
    assert valid in message
    assert message.startswith(f"Invalid {option(name).flag} ")
    assert f"from SERVE_CHAOS_{name.upper()}:" in message


def test_a_value_of_the_wrong_type_in_the_configuration_is_refused_as_the_others_are() -> None:
    class Refusing(Given):
        def getini(self, name: str, /) -> object:
            if name == "serve_chaos_workers":
                raise pytest.UsageError("expects an int, got str: 'three'")
            return None

    with pytest.raises(
        SettingsError, match=r"serve_chaos_workers in pyproject\.toml: it must be a whole number"
    ) as refusal:
        resolve(Refusing(), {})
    assert "expects an int" in str(refusal.value)


def test_what_may_hold_a_password_is_not_in_messages_and_not_printed() -> None:
    with pytest.raises(SettingsError) as refusal:
        from_environment(HEADERS="Authorization Bearer s3cret")

    assert "s3cret" not in str(refusal.value)
    assert "s3cret" not in repr(from_environment(HEADERS="Authorization: Bearer s3cret", BODY="s3cret"))


def test_headers_are_repeated_on_the_command_line_and_lines_elsewhere() -> None:
    expected = (("Accept", "text/plain"), ("X-Model", "a:b"))
    lines = ["Accept: text/plain", "X-Model: a:b"]

    assert resolve(Given(options={"serve_chaos_headers": lines}), {}).headers == expected
    assert from_environment(HEADERS="\n".join(lines)).headers == expected
    assert resolve(Given(ini={"serve_chaos_headers": lines}), {}).headers == expected


def test_the_fields_of_a_path_may_have_spaces() -> None:
    assert from_environment(PATH="/v2/users/${n % 30}/x").path == "/v2/users/${n % 30}/x"
    for wrong in ("/v2/a b", "/v2/${n % 30", "/v2#top"):
        with pytest.raises(SettingsError, match="without spaces"):
            from_environment(PATH=wrong)


def test_a_config_file_is_found_and_its_path_made_absolute(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text("applications: []\n")

    settings = resolve(Given(rootpath=tmp_path, ini={"serve_chaos_app": "serve.yaml"}), {})

    assert settings.app == str(tmp_path / "serve.yaml")


def test_leaks_may_be_watched_for_no_time() -> None:
    assert option("watch_for").kind.parse("0", Path()) == 0.0


def test_durations_become_seconds() -> None:
    settings = from_environment(REQUEST_TIMEOUT="1500ms", SEND_LAG_LIMIT="2")

    assert (settings.request_timeout, settings.send_lag_limit) == (1.5, 2.0)


@given(st.floats(min_value=0.001, max_value=400))
def test_every_rate_up_to_400_is_taken_as_it_is(rate: float) -> None:
    assert from_environment(RATE=repr(rate)).rate == rate


# Of few letters, but all that mean something somewhere: all of Unicode takes seconds to load.
@given(st.text(st.sampled_from("aZ019 .,:;/=~-_#%'\"\\{[é\0\n"), max_size=20))
@example("~no-such-user")
@example("/" + 300 * "x")
def test_any_text_is_either_a_valid_value_or_refused_as_a_setting(text: str) -> None:
    for row in OPTIONS:
        if "local" in BUILT_IN.users(row):
            with suppress(SettingsError):
                from_environment(**{row.name.upper(): text})


# -- backends ----------------------------------------------------------------------------------------------------------


def test_the_kubernetes_backend_needs_to_be_pointed_at_something() -> None:
    for missing in ("CONTEXT", "RAYSERVICE", "URL"):
        environ = {name: value for name, value in EXTERNAL.items() if name != f"SERVE_CHAOS_{missing}"}
        with pytest.raises(SettingsError, match=f"needs --serve-chaos-{missing.lower()}"):
            resolve(Given(), environ)
    settings = resolve(Given(), EXTERNAL)
    assert (settings.context, settings.rayservice) == ("staging", "ml/ranker")


def test_all_settings_that_are_missing_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        resolve(Given(), {"SERVE_CHAOS_BACKEND": "kubernetes", "SERVE_CHAOS_URL": EXTERNAL["SERVE_CHAOS_URL"]})
    assert refused.value.fix == ("give --serve-chaos-context=NAME --serve-chaos-rayservice=NAMESPACE/NAME",)
    assert "SERVE_CHAOS_CONTEXT, SERVE_CHAOS_RAYSERVICE" in str(refused.value)


def test_only_nodes_can_be_allowed_on_an_external_cluster() -> None:
    assert resolve(Given(), {**EXTERNAL, "SERVE_CHAOS_ALLOW": "node"}).allow == ("node",)
    with pytest.raises(SettingsError, match="Invalid --serve-chaos-allow 'everything'"):
        resolve(Given(), {**EXTERNAL, "SERVE_CHAOS_ALLOW": "everything"})


def test_what_the_backend_does_not_use_is_not_even_checked_in_the_environment() -> None:
    assert from_environment(RAYSERVICE="not valid", RAY_IMAGE="not valid").rayservice is None


def test_what_the_backend_does_not_use_is_an_error_on_the_command_line() -> None:
    # Else `--serve-chaos-context=staging` without a backend would test a local cluster and look like staging.
    with pytest.raises(SettingsError, match="--serve-chaos-context was given, and the local backend does not use it"):
        resolve(Given(options={"serve_chaos_context": "staging"}), {})


def test_the_kind_cluster_is_made_of_the_same_things_with_and_without_settings() -> None:
    settings, made_of = Settings(), KindSettings()

    for name in (
        "node_image",
        "ray_version",
        "ray_image",
        "redis_image",
        "operator_image",
        "kuberay_manifests",
        "keep",
    ):
        assert getattr(settings, name) == getattr(made_of, name), name


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ({}, "rayproject/ray:2.60.0"),
        ({"serve_chaos_ray_version": "2.56.0"}, "rayproject/ray:2.56.0"),
        ({"serve_chaos_ray_image": "ranker:mine"}, "ranker:mine"),
        ({"serve_chaos_ray_image": "ranker:mine", "serve_chaos_ray_version": "2.56.0"}, "ranker:mine"),
        (
            {"serve_chaos_ray_image": "rayproject/ray:2.60.0", "serve_chaos_ray_version": "2.60.0"},
            "rayproject/ray:2.60.0",
        ),
    ],
)
def test_the_image_is_the_one_that_was_given_or_rays_own_of_that_version(given: dict[str, str], image: str) -> None:
    assert on_kind(**given).image_of_ray == image


def test_a_version_of_ray_is_a_version() -> None:
    with pytest.raises(SettingsError, match=r"'newest' from the command line: it must be a version of Ray, as 2.60.0"):
        on_kind(serve_chaos_ray_version="newest")


OTHERS = "https://kuberay.example/v1.7.0.yaml"


def on_kind(**options: str) -> Settings:
    return resolve(Given(options={"serve_chaos_backend": "kind", **options}), {})


def test_the_operator_is_the_one_that_goes_with_its_manifests() -> None:
    default = Settings().operator_image

    assert on_kind().operator == default
    assert on_kind(serve_chaos_kuberay_manifests=OTHERS).operator is None, "these name it"
    assert on_kind(serve_chaos_operator_image="mine:1").operator == "mine:1"
    assert on_kind(serve_chaos_kuberay_manifests=OTHERS, serve_chaos_operator_image="mine:1").operator == "mine:1"
    both = on_kind(serve_chaos_kuberay_manifests=OTHERS, serve_chaos_operator_image=default)
    assert both.operator == default, "what was given counts, also where it is the default"
    assert Settings(kuberay_manifests=OTHERS).operator is None
    assert Settings(kuberay_manifests=OTHERS, operator_image="mine:1").operator == "mine:1"


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_and_the_settings_have_the_same_names_in_the_same_order() -> None:
    others = ("others", "sources", "first_server", "lease")
    assert [row.name for row in OPTIONS] == [f.name for f in fields(Settings) if f.name not in others]


def test_settings_made_by_hand_have_the_defaults_of_the_table() -> None:
    assert Settings(seed=1) == resolve(Given(rootpath=Path(), ini={"serve_chaos_seed": 1}), {})


def test_the_choices_are_those_of_the_cluster() -> None:
    assert choices("gcs") == get_args(Gcs)
    assert choices("profile") == get_args(Profile)


def choices(name: str) -> tuple[str, ...]:
    kind = option(name).kind
    assert isinstance(kind, Choice)
    return kind.choices


def test_the_markdown_table_has_a_row_for_each_setting() -> None:
    _, rule, *rows = settings_table(BUILT_IN).splitlines()

    assert [re.split("[ =]", row.split("`")[1])[0] for row in rows] == [row.flag for row in OPTIONS]
    # A bar inside a cell would be read as the end of the cell.
    assert {row.replace("\\|", "").count("|") for row in rows} == {rule.count("|")}


# -- inside of pytest --------------------------------------------------------------------------------------------------

PLUGIN = """
import pytest
from pytest_serve_chaos import names, settings

def pytest_addoption(parser):
    names.add_options(parser)

@pytest.fixture
def settings_of_the_run(request):
    return settings.resolve(request.config)
"""

TEST = """
def test_settings(settings_of_the_run):
    assert settings_of_the_run.workers == 3
    assert settings_of_the_run.rate == 12.5
    assert settings_of_the_run.request_timeout == 0.5
    assert settings_of_the_run.headers == (("Accept", "text/plain"),)
"""
NATIVE = """
[tool.pytest]
serve_chaos_workers = 3
serve_chaos_rate = 12.5
serve_chaos_request_timeout = "500ms"
serve_chaos_headers = ["Accept: text/plain"]
"""
CLASSIC = """
[pytest]
serve_chaos_workers = 3
serve_chaos_rate = 12.5
serve_chaos_request_timeout = 500ms
serve_chaos_headers =
    Accept: text/plain
"""
ARGUMENTS = (
    "--serve-chaos-workers=3",
    "--serve-chaos-rate=12.5",
    "--serve-chaos-request-timeout=500ms",
    "--serve-chaos-headers=Accept: text/plain",
)


@pytest.mark.parametrize(
    ("file", "text", "arguments"),
    [
        pytest.param("pyproject.toml", NATIVE, (), id="native-table"),
        pytest.param(
            "pyproject.toml", NATIVE.replace("[tool.pytest]", "[tool.pytest.ini_options]"), (), id="ini-table"
        ),
        pytest.param("pytest.ini", CLASSIC, (), id="ini-file"),
        pytest.param("pytest.ini", "[pytest]\n", ARGUMENTS, id="command-line"),
    ],
)
def test_pytest_reads_the_settings_from(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, file: str, text: str, arguments: tuple[str, ...]
) -> None:
    run_alone(pytester, monkeypatch)
    pytester.path.joinpath(file).write_text(text)
    pytester.makepyfile(TEST)

    pytester.runpytest_inprocess("-p", "settings_plugin", "--strict-config", *arguments).assert_outcomes(passed=1)


def run_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes only the options known: no installed plugin, no variables of the machine's."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for row in OPTIONS:
        monkeypatch.delenv(row.env, raising=False)
    pytester.makepyfile(settings_plugin=PLUGIN)
    monkeypatch.syspath_prepend(pytester.path)
