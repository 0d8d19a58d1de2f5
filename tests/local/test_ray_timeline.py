"""What Ray's own code writes for `ray timeline`, and for its dashboard, from events as its workers send them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import profiling, state
from ray.core.generated import gcs_pb2

from pytest_serve_chaos.report.ray_timeline import RayTask, read_ray_timeline

BEGAN = 1_796_127_300_250_123_456
"""Nanoseconds since 1970; what Ray writes has microseconds."""

CALL = RayTask(
    "task::Echo.handle_request", "task::Echo.handle_request", "Node 127.73.1.2", "worker:5f0c",
    BEGAN, BEGAN + 5_000_000, {"name": "task::Echo.handle_request", "task_id": "ab12"},
)  # fmt: skip


def same(found: RayTask, wanted: RayTask, *, within: int) -> None:
    assert (found.name, found.category, found.node, found.worker) == (
        wanted.name, wanted.category, wanted.node, wanted.worker,
    )  # fmt: skip
    assert abs(found.begin - wanted.begin) <= within
    assert abs((found.end - found.begin) - (wanted.end - wanted.begin)) <= within
    assert wanted.arguments.items() <= found.arguments.items()


def test_the_file_of_the_command_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protos: Any = gcs_pb2
    sent = protos.TaskEvents()
    sent.profile_events.component_type = "worker"
    sent.profile_events.component_id = bytes.fromhex("5f0c")
    sent.profile_events.node_ip_address = "127.73.1.2"
    sent.profile_events.events.add(
        event_name=CALL.category, start_time=CALL.begin, end_time=CALL.end, extra_data=json.dumps(dict(CALL.arguments))
    )
    accessor = SimpleNamespace(get_task_events=lambda: [sent.SerializeToString()])
    make: Callable[[], Any] = state.GlobalState
    cluster = make()
    monkeypatch.setattr(cluster, "_connect_and_get_accessor", lambda: accessor)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # it waits for events on their way
    cluster.chrome_tracing_dump(filename=str(tmp_path / "timeline.json"))
    (found,) = read_ray_timeline(tmp_path / "timeline.json").tasks
    same(found, CALL, within=250)


def test_the_file_of_the_dashboard_is_read(tmp_path: Path) -> None:
    milliseconds = {"start_time": CALL.begin / 1e6, "end_time": CALL.end / 1e6}
    event = {"event_name": CALL.category, "extra_data": {"name": CALL.name}, **milliseconds}
    worker = {"component_type": "worker", "component_id": "5f0c", "node_ip_address": "127.73.1.2", "events": [event]}
    task = {
        "task_id": "ab12", "job_id": "01", "attempt_number": 0, "func_or_class_name": "Echo", "actor_id": None,
        "profiling_data": worker,
    }  # fmt: skip
    (tmp_path / "timeline.json").write_text(profiling.chrome_tracing_dump([task]))
    (found,) = read_ray_timeline(tmp_path / "timeline.json").tasks
    same(found, CALL, within=1000)
