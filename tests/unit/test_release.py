from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools.check_release import main

METADATA = """\
Metadata-Version: 2.4
Name: pytest-serve-chaos
Version: 0.1.0
Project-URL: Homepage, https://github.com/{owner}/pytest-serve-chaos
Project-URL: Issues, https://github.com/{owner}/pytest-serve-chaos/issues

The README.
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return wheel_of(tmp_path, METADATA.format(owner="chaos"))


def wheel_of(directory: Path, metadata: str) -> Path:
    path = directory / "pytest_serve_chaos-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pytest_serve_chaos-0.1.0.dist-info/METADATA", metadata)
    return path


def test_a_wheel_that_fits_its_tag_and_repository_is_released(wheel: Path) -> None:
    assert main(["v0.1.0", "Chaos/pytest-serve-chaos", str(wheel)]) == 0


def test_another_tag_is_refused(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["v0.2.0", "chaos/pytest-serve-chaos", str(wheel)]) == 1
    assert "'v0.2.0' and the wheel has version 0.1.0" in capsys.readouterr().out


def test_urls_of_another_repository_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = wheel_of(tmp_path, METADATA.format(owner="OWNER"))
    assert main(["v0.1.0", "chaos/pytest-serve-chaos", str(unfinished)]) == 1
    assert capsys.readouterr().out.count("does not lead to https://github.com/chaos/pytest-serve-chaos") == 2


def test_a_wheel_without_urls_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = wheel_of(tmp_path, "Metadata-Version: 2.4\nName: pytest-serve-chaos\nVersion: 0.1.0\n")
    assert main(["v0.1.0", "chaos/pytest-serve-chaos", str(bare)]) == 1
    assert "names no URLs" in capsys.readouterr().out
