"""Which files of this machine an app needs in a pod."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.workload import our_workload
from pytest_serve_chaos.cluster.local_code import (
    CarriedCode,
    code_of,
    code_of_config,
    search_path,
    without_directories,
)
from pytest_serve_chaos.cluster.serve_config import applications, left_out, serve_config
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.options import option


def project(root: Path, **files: str) -> Path:
    """Files below a directory; in their names two underscores stand for a slash."""
    for name, source in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def travels(root: Path, import_path: str) -> list[str]:
    found = code_of(import_path, [root])
    return [] if found is None else sorted(found.modules)


def test_a_module_travels_alone_from_alongside_other_files(tmp_path: Path) -> None:
    project(tmp_path, ranker="app = 1", other="x = 1", tests__test_ranker="")
    assert travels(tmp_path, "ranker:app") == ["ranker.py"]
    assert travels(tmp_path, "ranker.app") == ["ranker.py"], "as Serve takes it, too"


def test_what_a_module_imports_from_alongside_it_comes_along(tmp_path: Path) -> None:
    project(
        tmp_path,
        ranker="import json\nimport features.text\nfrom helpers import scale\napp = 1",
        helpers="def f():\n    import deep\nscale = 1",
        deep="import ranker",
        features__text="from . import words",
        features__words="",
        features__images="",
        unrelated="",
    )
    expected = ["deep.py", "features/text.py", "features/words.py", "helpers.py", "ranker.py"]
    assert travels(tmp_path, "ranker:app") == expected


def test_a_package_travels_whole(tmp_path: Path) -> None:
    project(
        tmp_path,
        ml__ranker="from ml import models\nimport shared\napp = 1",
        ml__models__small="",
        shared="",
        ml__never_imported="",
    )
    for package in ("ml", "ml/models"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "ml" / "by-name.py").touch()
    (tmp_path / "ml" / "not.a.module.py").touch()
    (tmp_path / "ml" / "weights.bin").touch()
    assert travels(tmp_path, "ml.ranker:app") == [
        "ml/__init__.py",
        "ml/by-name.py",
        "ml/models/__init__.py",
        "ml/models/small.py",
        "ml/never_imported.py",
        "ml/ranker.py",
        "shared.py",
    ]


def test_what_travelled_can_be_imported_from_where_it_comes_out(tmp_path: Path) -> None:
    project(
        tmp_path / "here", a__b__app="from . import near\nfrom ..c import far\nimport top\nprint(near.x + far + top.x)"
    )
    project(tmp_path / "here", a__b__near="x = 1", a__c="far = 10", top="x = 100")
    (tmp_path / "here/a/__init__.py").touch()
    code = code_of("a.b.app:app", [tmp_path / "here"])
    assert code is not None
    for path, source in code.modules.items():
        (tmp_path / "there" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / path).write_text(source)
    ran = subprocess.run(
        [sys.executable, "-m", "a.b.app"], cwd=tmp_path / "there", check=True, capture_output=True, text=True
    )
    assert ran.stdout == "111\n"


@pytest.mark.parametrize(
    "import_path", ["ranker:app", "ray.serve:app", "pytest_serve_chaos.apps.canary:app", ":app", ""]
)
def test_what_is_not_here_does_not_travel(import_path: str, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "k8s_config.yaml").touch()
    project(tmp_path, pytest_serve_chaos__apps__one="")
    assert travels(tmp_path, import_path) == []


def test_the_first_directory_that_has_it_counts_and_is_named(tmp_path: Path) -> None:
    first, second = project(tmp_path / "first", ranker="x = 1"), project(tmp_path / "second", ranker="x = 2")
    found = code_of("ranker:app", [tmp_path, first, second])
    assert found is not None
    assert (found.directory, found.modules) == (first, {"ranker.py": "x = 1"})
    assert str(found) == f"ranker.py of {first}"


def test_a_module_that_is_no_python_travels_and_serve_will_say_so(tmp_path: Path) -> None:
    project(tmp_path, ranker="app = (")
    assert travels(tmp_path, "ranker:app") == ["ranker.py"]


def test_a_module_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ranker.py").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        code_of("ranker:app", [tmp_path])


def test_apps_are_looked_for_here_and_on_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"src::{tmp_path / 'lib'}")
    assert search_path() == (tmp_path, tmp_path / "src", tmp_path / "lib")


def test_each_app_of_a_config_brings_its_code(tmp_path: Path) -> None:
    project(tmp_path, one="", two="")
    apps: list[Json] = [{"import_path": "one:app"}, {"import_path": "two:app"}, {"import_path": "three:app"}]
    assert sorted(code_of_config({"applications": apps}, [tmp_path])) == ["one:app", "two:app"]


def test_an_ordinary_app_of_ones_own_travels_to_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, ranker="import features", features=""))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    work = our_workload(ClusterSpec(app="ranker:app"), "ray:2.60.0", "redis:7.0", {})
    assert {"ranker.py", "features.py", "pytest_serve_chaos/apps/canary.py"} <= set(work.code)
    assert work.told == (f"the code of ranker:app travels to the pods: features.py, ranker.py of {tmp_path}",)

    alone = our_workload(ClusterSpec(), "ray:2.60.0", "redis:7.0", {})
    assert all(path.startswith("pytest_serve_chaos/") for path in alone.code)
    assert alone.told == ()


def test_a_new_version_whose_code_did_not_travel_is_named(tmp_path: Path) -> None:
    for name, source in {
        "shop": "import shared",
        "shared": "",
        "shop2": "import shared",
        "shop3": "import more",
    }.items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "more.py").write_text("")
    carried = CarriedCode({"applications": [{"import_path": "shop:app"}]}, [tmp_path])

    assert carried.why_not("shop:other") == ""
    assert carried.why_not("shared:app") == ""
    assert carried.why_not("shop2:app").startswith(f"shop2.py of {tmp_path} was not brought")
    assert carried.why_not("shop3:app").startswith("more.py")
    assert carried.why_not("elsewhere:app") == "", "the image may have it"
    assert carried.why_not("pytest_serve_chaos.apps.updated:app") == "", "the apps of this package always travel"


@pytest.mark.parametrize(
    ("file", "import_path"),
    [
        ("speech-app", "speech-app:app"),
        ("2fast", "2fast:app"),
        ("ml__speech-app", "ml.speech-app:app"),
        ("my-repo__serve__main", "my-repo.serve.main:app"),
        ("modèle", "modèle:app"),
        ("class", "class:app"),
    ],
)
def test_whatever_import_module_takes_travels_and_can_be_imported_there(
    tmp_path: Path, file: str, import_path: str
) -> None:
    project(tmp_path / "here", **{file: "app = 1"})
    code = code_of(import_path, [tmp_path / "here"])
    assert code is not None
    config_map = render.code_config_map(code.modules, {})
    keys = config_map["data"]
    assert isinstance(keys, dict)
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) for key in keys)
    volume = cast("dict[str, Any]", render.code_volume(code.modules))
    for item in volume["configMap"]["items"]:
        path = tmp_path / "there" / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(keys[item["key"]]))
    module = import_path.partition(":")[0]
    program = f"import importlib; assert importlib.import_module({module!r}).app == 1"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "there", check=True)


def test_policies_and_routers_that_a_config_names_travel_too(tmp_path: Path) -> None:
    project(tmp_path, ranker="app = 1", policies="def busy(ctx): ...", routing__near="class Near: ...")
    deployment: Json = {
        "autoscaling_config": {"policy": {"policy_function": "policies:busy"}},
        "request_router_config": {"request_router_class": "routing.near.Near"},
    }
    config: dict[str, Json] = {"applications": [{"import_path": "ranker:app", "deployments": [deployment]}]}
    found = code_of_config(config, [tmp_path])
    assert list(found) == ["ranker:app", "policies:busy", "routing.near.Near"]
    assert list(found["routing.near.Near"].modules) == ["routing/near.py"]


def test_what_is_imported_by_name_comes_along(tmp_path: Path) -> None:
    source = "import importlib\nhelper = importlib.import_module('speech-helper')\nimportlib.import_module(name())"
    project(tmp_path, app=source, **{"speech-helper": "", "other": ""})
    assert travels(tmp_path, "app:app") == ["app.py", "speech-helper.py"]
    project(tmp_path, pkg__main="from importlib import import_module\nimport_module('.near-by', __package__)")
    project(tmp_path, **{"pkg__near-by": "", "pkg__far": ""})
    assert travels(tmp_path, "pkg.main:app") == ["pkg/main.py", "pkg/near-by.py"]


@pytest.mark.parametrize("app", ["speech-app:app", "ml.speech-app:app", "modèle:app", "ranker:app", "2fast:build"])
def test_such_a_module_can_be_given_as_the_app(app: str, tmp_path: Path) -> None:
    assert option("app").kind.parse(app, tmp_path) == app


@pytest.mark.parametrize("app", ["ranker", "ranker:", ":app", "a/b:app", "ranker:app:x", ".x:app", "ranker:my-app"])
def test_what_serve_could_not_import_is_refused(app: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=app):
        option("app").kind.parse(app, tmp_path)


# -- directories of this machine ---------------------------------------------------------------------------------------

LOCAL: list[tuple[dict[str, Json], dict[str, Json]]] = [
    ({"working_dir": "."}, {}),
    ({"working_dir": "./src", "pip": ["x"]}, {"pip": ["x"]}),
    ({"py_modules": ["./lib"]}, {}),
    ({"working_dir": ".", "env_vars": {"PYTHONPATH": ".", "A": "1"}}, {"env_vars": {"A": "1"}}),
    (
        {"working_dir": ".", "env_vars": {"PYTHONPATH": "lib:/opt/lib"}},
        {"env_vars": {"PYTHONPATH": "${PYTHONPATH}:/opt/lib"}},
    ),
]


@pytest.mark.parametrize(("given", "left"), LOCAL)
def test_a_local_directory_is_left_out_where_the_code_is_here(
    tmp_path: Path, given: dict[str, Json], left: dict[str, Json]
) -> None:
    project(tmp_path, ranker="app = 1")
    app: dict[str, Json] = {"name": "a", "import_path": "ranker:app", "runtime_env": given}
    changed, note = without_directories(app, [tmp_path])
    assert changed == {"name": "a", "import_path": "ranker:app", **({"runtime_env": left} if left else {})}
    assert "of its runtime_env is left out: its code is here" in note


@pytest.mark.parametrize(
    ("import_path", "env"),
    [
        ("elsewhere:app", {"working_dir": "."}),
        ("ranker:app", {"working_dir": "s3://x.zip"}),
        ("ranker:app", {"py_modules": ["./lib", "s3://x.zip"]}),
        ("ranker:app", {}),
    ],
)
def test_all_else_of_a_runtime_environment_stays(tmp_path: Path, import_path: str, env: dict[str, Json]) -> None:
    project(tmp_path, ranker="app = 1")
    app: dict[str, Json] = {"import_path": import_path, "runtime_env": env}
    assert without_directories(app, [tmp_path]) == (app, "")


def test_what_a_config_file_leaves_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, ranker="app = 1"))
    Path("serve.yaml").write_text("applications: [{import_path: 'ranker:app', runtime_env: {working_dir: .}}]")
    spec = ClusterSpec(app="serve.yaml")
    assert left_out(spec) == [
        "serve.yaml: app ranker:app: working_dir . of its runtime_env is left out: its code is here"
    ]
    (app,) = applications(serve_config(spec))
    assert "runtime_env" not in app
    assert left_out(ClusterSpec(app="ranker:app")) == []
