"""What ``ray timeline`` writes: Chrome's trace events as JSON, with the times of day of Ray's workers.

The command names a node by its address and a worker by its id. The file that Ray's dashboard offers has numbers for
both, and events of their own that name them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pytest_serve_chaos.errors import HistoryError

Data: TypeAlias = Mapping[str, object]

_LARGEST = 2**53
"""Microseconds since 1970 that no event reaches; a number beyond is not one of `ray timeline`."""


@dataclass(frozen=True, slots=True)
class RayTask:
    """Something that a worker of Ray did.

    Attributes:
        name: What it is called: of a task or of a method of an actor.
        category: What it is, in Ray's words: ``task:execute``.
        node: The node, as Ray names it.
        worker: The worker, as Ray names it.
        begin: When it began, in nanoseconds since 1970.
        end: When it ended, likewise.
        arguments: What else Ray says of it.
    """

    name: str
    category: str
    node: str
    worker: str
    begin: int
    end: int
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayTimeline:
    """What Ray recorded.

    Attributes:
        name: Of the file.
        tasks: All that has a beginning and an end.
    """

    name: str
    tasks: tuple[RayTask, ...]


_GIVE = "give the JSON file that `ray timeline` has written"


def read_ray_timeline(path: Path) -> RayTimeline:
    """Reads a file of ``ray timeline``.

    Raises:
        HistoryError: It cannot be read, or is another file.
    """
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HistoryError(f"the timeline of Ray {path} cannot be read: {error.strerror}", fix=[_GIVE]) from error
    except (ValueError, RecursionError) as error:
        raise _not_one(path, "it is not JSON") from error
    events = found.get("traceEvents") if isinstance(found, dict) else found
    if not isinstance(events, list) or not all(isinstance(one, dict) for one in events):
        raise _not_one(path, "it is not a list of events")
    names = dict(_names(events))
    tasks: list[RayTask] = []
    for number, event in enumerate(events, start=1):
        if event.get("ph") == "X":
            try:
                tasks.append(_task(event, names))
            except ValueError as error:
                raise _not_one(path, f"event {number}: {error}") from error
    return RayTimeline(path.name, tuple(tasks))


def _not_one(path: Path, why: str) -> HistoryError:
    return HistoryError(f"{path} is not a timeline of Ray: {why}", fix=[_GIVE])


def _names(events: list[Data]) -> Iterator[tuple[tuple[object, object], str]]:
    """Node, or node and worker -> what it is called."""
    for event in events:
        arguments = event.get("args")
        name = arguments.get("name") if isinstance(arguments, Mapping) else None
        if event.get("ph") == "M" and isinstance(name, str):
            if event.get("name") == "process_name":
                yield (str(event.get("pid")), None), name
            elif event.get("name") == "thread_name":
                yield (str(event.get("pid")), str(event.get("tid"))), name


def _task(event: Data, names: Mapping[tuple[object, object], str]) -> RayTask:
    begin, lasted = _microseconds(event, "ts"), _microseconds(event, "dur")
    node, worker = str(event.get("pid")), str(event.get("tid"))
    arguments = event.get("args")
    known = arguments if isinstance(arguments, Mapping) else {}
    return RayTask(
        name=str(event.get("name", "")),
        category=str(event.get("cat", "")),
        node=names.get((node, None), f"Node {node}"),
        worker=names.get((node, worker), f"worker {worker}" if worker.isdigit() else worker),
        begin=_nanoseconds(begin),
        end=_nanoseconds(begin + max(0.0, lasted)),
        arguments={str(key): _text(value) for key, value in known.items()},
    )


def _microseconds(event: Data, name: str) -> float:
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name!r} must be a number, not {repr(value)[:60]}")
    if abs(value) > _LARGEST or (name == "ts" and value < 0):
        raise ValueError(f"{name!r} is not a time: {value}")
    return value


def _nanoseconds(microseconds: float) -> int:
    """The same; a thousand times as many would not be exact in floating point."""
    whole = math.floor(microseconds)
    return whole * 1000 + round((microseconds - whole) * 1000)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
