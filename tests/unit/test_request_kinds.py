"""What a user says of requests: what is accepted, what is refused, and which messages are made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos import RequestKind
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.request_file import read_requests
from pytest_serve_chaos.traffic.request_kind import Maker


def body_of(kind: RequestKind, number: int = 0, seed: int = 0) -> bytes | None:
    return Maker(kind, seed=seed).message(number).body


# -- one kind ----------------------------------------------------------------------------------------------------------


def test_a_body_that_is_a_mapping_is_sent_as_json() -> None:
    message = Maker(RequestKind(body={"model": "m", "n": [1, None]}), seed=0).message(0)
    assert json.loads(message.body or b"") == {"model": "m", "n": [1, None]}
    assert message.headers == {"content-type": "application/json"}


def test_a_content_type_of_the_users_stays() -> None:
    kind = RequestKind(body=[1], headers={"Content-Type": "application/x-ndjson"})
    assert Maker(kind, seed=0).message(0).headers == {"Content-Type": "application/x-ndjson"}


def test_bytes_are_sent_as_they_are() -> None:
    image = bytes(range(256)) + b"${n} ${what}"
    assert body_of(RequestKind(body=image), 7) == image


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"session": "s-${n}"}', '{"session": "s-12"}'),
        ('{"id": ${n}, "seed": ${ seed }}', '{"id": 12, "seed": 34}'),
        ('{"tenant": "t${n % 5}${n%7}"}', '{"tenant": "t25"}'),
        ("say $${n} and $${anything}", "say ${n} and ${anything}"),
        ('{"price": "$5", "set": {"a": {}}}', '{"price": "$5", "set": {"a": {}}}'),
    ],
)
def test_fields_are_filled_in_without_a_quarrel_with_json(text: str, sent: str) -> None:
    assert body_of(RequestKind(body=text), 12, 34) == sent.encode()


def test_fields_are_filled_into_the_path_and_headers_too() -> None:
    kind = RequestKind(path="/models/${n % 3}?seed=${seed}", headers={"x-session": "s${n}"}, body={"user": "u${n}"})
    message = Maker(kind, seed=9).message(5)
    assert message.path == "/models/2?seed=9"
    assert message.headers["x-session"] == "s5"
    assert message.body == b'{"user": "u5"}'


def test_what_is_always_the_same_is_made_once() -> None:
    maker = Maker(RequestKind(path="/a", body={"k": 3}), seed=0)
    assert maker.message(1) is maker.message(2)


@given(st.text(), st.integers(0, 10**12))
def test_a_text_without_fields_stays_as_it_is(text: str, number: int) -> None:
    if "${" not in text:
        assert body_of(RequestKind(body=text), number) == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    "values",
    [
        {"path": "v1/score"},
        {"path": "/v1/a b"},
        {"path": "/v1#part"},
        {"path": "/v1/${N}"},
        {"method": "GET IT"},
        {"headers": {"x y": "1"}},
        {"headers": {"x": "1\r\nevil: 1"}},
        {"headers": {"x": 1}},
        {"body": 5},
        {"body": "\udc80"},
        {"body": {"a": {1, 2}}},
        {"body": [float("nan")]},
        {"body": "${number}"},
        {"body": "${n % 0}"},
        {"weight": 0},
        {"weight": -1},
        {"weight": float("inf")},
        {"weight": True},
        {"weight": "3"},
        {"status": 99},
        {"status": []},
        {"status": "200"},
        {"status": [200, "404"]},
        {"name": 3},
        {"app": ""},
    ],
    ids=repr,
)
def test_what_cannot_be_sent_is_refused(values: dict[str, Json]) -> None:
    with pytest.raises(SettingsError, match="requests: "):
        RequestKind(**values)  # type: ignore[arg-type]


def test_a_secret_header_is_in_no_error_and_no_repr() -> None:
    with pytest.raises(SettingsError) as refused:
        RequestKind(headers={"authorization": "Bearer t0ken\n"})
    assert "t0ken" not in str(refused.value)
    assert "t0ken" not in repr(RequestKind(headers={"authorization": "t0ken"}, body="t0ken"))


# -- a file of them ----------------------------------------------------------------------------------------------------


def test_json_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\x00")
    file = tmp_path / "requests.jsonl"
    file.write_text(
        '{"name": "chat", "path": "/v1/chat", "body": {"m": 1}, "weight": 3}\n'
        "\n"
        '{"name": "image", "app": "vision", "path": "/classify", "body_file": "cat.jpg", "status": [200, 202]}\n'
        '{"body_base64": "AP8="}\n'
    )
    chat, image, raw = read_requests(file)
    assert chat == RequestKind(name="chat", path="/v1/chat", body={"m": 1}, weight=3)
    assert image.body == b"\xff\xd8\x00"
    assert image.app == "vision"
    assert image.statuses == {200, 202}
    assert raw.body == b"\x00\xff"


def test_yaml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "requests.yaml"
    file.write_text("- name: chat\n  path: /v1/chat\n  headers: {x-tenant: 5}\n  body: {m: 1}\n- path: /health\n")
    chat, health = read_requests(file)
    assert chat == RequestKind(name="chat", path="/v1/chat", headers={"x-tenant": "5"}, body={"m": 1})
    assert health == RequestKind(path="/health")


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("r.jsonl", '{"path": "/a"}\n{"path": "/b"\n', 2, "not JSON"),
        ("r.jsonl", '{"path": "/a"}\n\n["/b"]\n', 3, "not a mapping"),
        ("r.jsonl", '{"paht": "/a"}\n', 1, "no 'paht'"),
        ("r.jsonl", '{"path": "/a"}\n{"path": "b"}\n', 2, "begins with /"),
        ("r.jsonl", '{"body": "a", "body_file": "b"}\n', 1, "body and body_file"),
        ("r.jsonl", '{"body_file": "missing.bin"}\n', 1, "missing.bin cannot be read"),
        ("r.jsonl", '{"body_base64": "?"}\n', 1, "not base64"),
        ("r.jsonl", '{"body": "${m}"}\n', 1, "no '${m}'"),
        ("r.yaml", "- path: /a\n- path: /b\n  weight: none\n", 2, "weight"),
        ("r.yaml", "- path: /a\n- {path: [}\n", 2, "not YAML"),
        ("r.yaml", "requests:\n- path: /a\n", 1, "not a list"),
        ("r.yaml", "- path: /a\n- body: {at: 2026-01-01}\n", 2, "JSON"),
        ("r.yaml", "- path: /a\n\n- headers: {x: true}\n", 3, "header x"),
        ("r.yaml", "- path: /a\n- path: /b\n  weight: 2\n  path: /c\n", 2, "it has 'path' twice"),
        ("r.jsonl", '{"path": "/a"}\n{"path": "/b", "path": "/c"}\n', 2, "it has 'path' twice"),
        ("r.yaml", "- path: /a\n---\n- path: /b\n", 2, "not YAML: found another document"),
        ("r.json", '[{"path": "/a"}]', 1, "not a mapping"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, name: str, text: str, line: int, why: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_requests(file)
    assert f"{file}: line {line}: " in str(refused.value)
    assert why in str(refused.value)


@pytest.mark.parametrize(("name", "text"), [("r.jsonl", "\n"), ("r.yaml", ""), ("r.yaml", "[]")])
def test_a_file_without_requests_is_refused(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError, match="no requests"):
        read_requests(file)


@pytest.mark.parametrize("name", ["r.jsonl", "r.yaml"])
def test_a_byte_order_mark_and_line_ends_of_windows_are_fine(tmp_path: Path, name: str) -> None:
    text = '{"path": "/a"}\n{"path": "/b"}\n' if name == "r.jsonl" else "- path: /a\n- path: /b\n"
    file = tmp_path / name
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [request.path for request in read_requests(file)] == ["/a", "/b"]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_requests(file)
