"""What the plugin prints about a file that is not YAML, or not text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster import yaml_text
from pytest_serve_chaos.cluster.app_check import check_app
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes.install.file_patch import read_patches
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import read_own_file
from pytest_serve_chaos.errors import SettingsError

MANY = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8)
)


def problem(text: str) -> str:
    try:
        safe_yaml.read_documents(text)
    except yaml.YAMLError as error:
        return yaml_text.problem(error)
    return ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n\tb: 2\n", "found character '\\t' that cannot start any token in line 2"),
        ("a: {{ .Values.b }}\n", "found unhashable key in line 1"),
        ("a: 1\nb: !Ref c\n", "could not determine a constructor for the tag '!Ref' in line 2"),
        ("a: *b\n", "found undefined alias 'b' in line 1"),
        ("a: b\x07\n", "special characters are not allowed: #x0007"),
        ("a: &a\n  b: *a\n", "found an alias that leads back to itself in line 2"),
        (MANY, "found aliases of aliases that stand for too many values in line 5"),
    ],
)
def test_what_is_wrong_is_one_line_without_the_text_itself(text: str, said: str) -> None:
    assert problem(text) == said


def test_ordinary_anchors_are_fine() -> None:
    text = "a: &a {b: 1}\nc: [*a, *a]\nd: {<<: *a, e: 2}\n"
    assert safe_yaml.read_document(text) == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "d": {"b": 1, "e": 2}}


DEEP = "[" * 100_000
ALIASED_TEXT = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 100)}]\n"
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 30)}]}}\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DEEP, "found values that are nested more than 100 deep in line 1"),
        ("- " * 200 + "a", "found values that are nested more than 100 deep in line 1"),
        (ALIASED_TEXT, "found aliases of aliases that stand for too many values in line 2"),
        (MERGED, "found aliases of aliases that stand for too many values in line 4"),
        ("a: 2026-13-01\n", "found a value that is not what it is written as (ValueError)"),
        ("a: !!timestamp secret\n", "found a value that is not what it is written as (AttributeError)"),
        ("a: !!int secret\n", "found a value that is not what it is written as (ValueError)"),
    ],
    ids=["brackets", "dashes", "text", "merged", "date", "timestamp", "number"],
)
def test_hostile_text_is_refused_in_one_line_and_without_its_values(text: str, said: str) -> None:
    assert problem(text) == said


def test_a_large_text_without_aliases_is_not_refused() -> None:
    safe_yaml.check_size(f"a: {'x' * 3_000_000}\n", yaml.CSafeLoader)


def test_keys_that_are_there_twice_are_found_and_merged_ones_are_not() -> None:
    text = "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd:\n  replicas: 2\n  other: 1\n  replicas: 3\n---\nd: 1\nd: 1\n"
    assert yaml_text.repeated_keys(text) == [
        "replicas is there twice, in lines 4 and 6: the last one counts",
        "d is there twice, in lines 8 and 9: the last one counts",
    ]


READERS: dict[str, Callable[[Path], object]] = {
    "config": lambda path: check_app(ClusterSpec(app=str(path)), print),
    "patch": read_patches,
    "rayservice": read_own_file,
}


def refusal(kind: str, path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        READERS[kind](path)
    return caught.value


@pytest.mark.parametrize("kind", ["config", "patch", "rayservice"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: b # café".encode("latin-1"), "'utf-8' codec can't decode byte 0xe9"),
        ("a: b".encode("utf-16"), "'utf-8' codec can't decode byte 0xff"),
        (b"a: {{ b }}\n", "is not YAML: found unhashable key in line 1"),
        (b"a: &a {b: *a}\n", "is not YAML: found an alias that leads back to itself in line 1"),
        (DEEP.encode(), "is not YAML: found values that are nested more than 100 deep in line 1"),
        (MANY.encode(), "is not YAML: found aliases of aliases that stand for too many values in line 5"),
    ],
    ids=["latin-1", "utf-16", "template", "recursive", "deep", "aliases"],
)
def test_every_file_of_the_user_is_refused_in_words(kind: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_bytes(content)
    error = refusal(kind, tmp_path / "given.yaml")
    assert said in error.what
    assert "\n" not in error.what, "the message of the reader has several lines, with the text itself"
    assert error.fix


@pytest.mark.parametrize("kind", ["config", "rayservice"])
def test_a_template_comes_with_how_to_render_it(kind: str, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text("{{- if .Values.gpu }}\na: b\n{{- end }}\n")
    assert "render the file first" in refusal(kind, tmp_path / "given.yaml").fix[0]


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "given.yaml").mkdir()
    assert "cannot be read: Is a directory" in refusal("config", tmp_path / "given.yaml").what


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: ray.io/v1\nkind: RayService\n", "--serve-chaos-rayservice-file"),
        ("import_path: a:b\nruntime_env: {}\n", "write it as an item of applications"),
        ("a: b\n", "serve build"),
    ],
    ids=["rayservice", "one-app", "other"],
)
def test_what_is_no_config_is_recognised(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text(text)
    assert said in refusal("config", tmp_path / "given.yaml").fix[0]
