"""Which files of this machine an app needs in a pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.workload import our_workload
from pytest_serve_chaos.cluster.local_code import code_of, code_of_config, search_path
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json


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
