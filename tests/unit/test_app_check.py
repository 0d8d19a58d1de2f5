"""What is checked of an app before there is a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster import app_check
from pytest_serve_chaos.cluster.app_check import check_app
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import SettingsError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an app in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranker.py").write_text(
        "print('hello')\ndef app(args): pass\ndef build(args): raise RuntimeError('called')"
    )
    return tmp_path


def check(app: str, *, in_image: bool = False, env: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """The lines of progress."""
    said: list[str] = []
    check_app(ClusterSpec(app=app, env=env), said.append, in_image=in_image)
    return said


def refused(app: str, *, in_image: bool = False) -> str:
    with pytest.raises(SettingsError) as caught:
        check(app, in_image=in_image)
    return str(caught.value)


@pytest.mark.parametrize("app", ["ranker:app", "ranker:build"], ids=["app", "builder"])
def test_an_app_that_exists_is_fine_and_a_builder_is_not_called(project: Path, app: str) -> None:
    assert check(app) == []


def test_a_module_that_does_not_exist_is_refused(project: Path) -> None:
    text = refused("nosuch:app")
    assert "the app 'nosuch:app' cannot be imported: there is no module 'nosuch'" in text
    assert f"the directory {project}" in text
    assert "put that directory on PYTHONPATH" in text


def test_a_module_that_lacks_the_app_is_refused_with_what_it_has(project: Path) -> None:
    text = refused("ranker:aap")
    assert "the module ranker has no 'aap'" in text
    assert f"imported from {project / 'ranker.py'}" in text
    assert "write ranker:app, which it has" in text


def test_what_a_module_needs_and_is_not_there_is_refused_with_the_line_that_needs_it(project: Path) -> None:
    (project / "ranker.py").write_text("import a_package_that_there_is_not\napp = object()")
    text = refused("ranker:app")
    assert "ModuleNotFoundError: No module named 'a_package_that_there_is_not'" in text
    assert "import a_package_that_there_is_not" in text
    assert "import_app.py" not in text, "the way through this program helps nobody"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("app = (", "SyntaxError"),
        ("app = 1 / 0", "ZeroDivisionError: division by zero"),
        ("app = bind()", "NameError: name 'bind' is not defined"),
        ("import os\napp = os.environ['NO_SUCH_VARIABLE']", "KeyError: 'NO_SUCH_VARIABLE'"),
    ],
)
def test_a_mistake_in_the_module_is_refused(project: Path, source: str, error: str) -> None:
    (project / "ranker.py").write_text(source)
    assert error in refused("ranker:app")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('no cluster')", "RuntimeError: no cluster"),
        ("import os; os._exit(3)", "ended the process with status 3"),
        ("raise SystemExit", "SystemExit"),
    ],
    ids=["raises", "ends", "exits"],
)
def test_what_may_be_otherwise_in_a_cluster_is_left_to_it(project: Path, source: str, why: str) -> None:
    (project / "ranker.py").write_text(source)
    (line,) = check("ranker:app")
    assert "could not be checked before the cluster starts" in line
    assert why in line


def test_an_import_that_takes_long_is_not_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "ranker.py").write_text("import subprocess\nsubprocess.run(['sleep', '600'])\napp = object()")
    monkeypatch.setattr(app_check, "IMPORTED_WITHIN", 0.5)
    begun = clock.now()
    (line,) = check("ranker:app")
    assert "importing it takes more than 0.5 s" in line
    assert clock.now() - begun < 60


@pytest.mark.parametrize(
    ("app", "instead"),
    [
        ("ranker.py:app", "ranker:app"),
        ("./ranker:app", "ranker:app"),
        ("models/ranker.py:app", "models.ranker:app"),
        ("speech-app.py:app", "speech-app:app"),
    ],
)
@pytest.mark.parametrize("in_image", [False, True], ids=["local", "kind"])
def test_the_path_of_a_file_comes_with_the_module_that_was_meant(
    project: Path, app: str, instead: str, *, in_image: bool
) -> None:
    (project / "speech-app.py").write_text("def app(args): pass")
    said = refused(app, in_image=in_image)
    assert "it names a file, and not a module" in said
    assert f"write {instead}, and start pytest" in said


def test_a_module_that_no_import_statement_can_name_has_a_command_that_imports_it(project: Path) -> None:
    (project / "speech-app.py").write_text("import a_package_that_there_is_not")
    assert 'importlib.import_module("speech-app")' in refused("speech-app:app")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("app = 'ranker'", "it is of the type str, and not a bound deployment"),
        ("class app: pass", "it is of the type type, and not a bound deployment"),
        ("def app(): pass", "its builder has 0 parameters, and Serve gives it one"),
        ("def app(args, more): pass", "its builder has 2 parameters, and Serve gives it one"),
    ],
)
@pytest.mark.parametrize("in_image", [False, True], ids=["local", "kind"])
def test_what_serve_could_not_make_an_app_of_is_refused(
    project: Path, source: str, said: str, *, in_image: bool
) -> None:
    (project / "ranker.py").write_text(source)
    assert said in refused("ranker:app", in_image=in_image)


def test_all_apps_of_a_config_file_are_checked(project: Path) -> None:
    (project / "serve.yaml").write_text(
        "applications: [{import_path: 'ranker:app', name: a, route_prefix: /a}, {import_path: 'other.front'}]"
    )
    assert "the app 'other.front' cannot be imported: there is no module 'other'" in refused("serve.yaml")


def test_a_config_without_proxies_is_refused_together_with_all_else(project: Path) -> None:
    apps = (
        "{import_path: 'ranker:app', deployments: [{name: R, num_replicas: 2, autoscaling_config: {min_replicas: 1}}]}"
    )
    (project / "serve.yaml").write_text(f"proxy_location: Disabled\napplications: [{apps}]\n")
    said = refused("serve.yaml")
    assert "2 of its parts cannot be used" in said
    assert "line 1, proxy_location: proxy_location is Disabled" in said
    assert "line 2, applications[0].deployments[R]" in said


def test_an_app_whose_runtime_environment_brings_code_is_not_looked_for_here(project: Path) -> None:
    (project / "serve.yaml").write_text(
        "applications: [{import_path: 'other:app', runtime_env: {working_dir: 'https://example.com/app.zip'}}]"
    )
    assert check("serve.yaml") == []


def test_the_variables_of_the_spec_are_set(project: Path) -> None:
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.py").write_text("def app(args): pass")
    assert check("other:app", env=(("PYTHONPATH", str(elsewhere)),)) == []


def test_an_app_that_may_be_in_the_image_is_no_error_on_kind(project: Path) -> None:
    assert check("nosuch:app", in_image=True) == []
    (project / "needy.py").write_text("import a_package_that_there_is_not\napp = object()")
    assert check("needy:app", in_image=True) == []
    assert "the module ranker has no 'aap'" in refused("ranker:aap", in_image=True)


@pytest.mark.parametrize(
    "image", ["rayproject/ray:2.60.0", "rayproject/ray-llm:2.60.0-py311", "docker.io/rayproject/ray"]
)
def test_an_app_that_is_neither_here_nor_in_rays_own_image_is_refused(project: Path, image: str) -> None:
    for app in ("nosuch:app", "rankr.serve:app"):
        with pytest.raises(SettingsError) as caught:
            check_app(ClusterSpec(app=app), print, in_image=True, image=image)
        assert f"there is no module '{app.partition(':')[0]}' here" in str(caught.value)
        assert str(project) in str(caught.value)
    for app in ("ranker:app", "ray.serve.llm:build_openai_app", "starlette.applications:app"):
        check_app(ClusterSpec(app=app), print, in_image=True, image=image)


@pytest.mark.parametrize(
    "image", ["registry.example.com/ray:2.60.0", "mirror/rayproject/ray:2.60.0", "rayproject/ray2:1"]
)
def test_an_image_of_the_users_own_may_have_any_app(project: Path, image: str) -> None:
    check_app(ClusterSpec(app="nosuch:app"), print, in_image=True, image=image)


def test_an_app_whose_code_is_fetched_is_not_looked_for_in_rays_own_image(project: Path) -> None:
    app = "{import_path: 'nosuch:app', runtime_env: {working_dir: 'https://example.com/app.zip'}}"
    (project / "serve.yaml").write_text(f"applications: [{app}]")
    check_app(ClusterSpec(app="serve.yaml"), print, in_image=True, image="rayproject/ray:2.60.0")


def test_our_own_apps_cost_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_check, "_import", lambda *_: pytest.fail("nothing is imported"))
    assert check("pytest_serve_chaos.apps.sleepy_pid:app") == []
