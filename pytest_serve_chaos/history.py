"""The append-only record of a run, requests and events on one clock; everything reported is computed from it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pytest_serve_chaos import clock
from pytest_serve_chaos.errors import HistoryError
from pytest_serve_chaos.model import Component, Event, Identity, Json, Request, Topology

FORMAT = 1
_DISORDER = 1.0  # seconds

KINDS = (
    "run",  # what the run is: backend, cluster, app, profile, seed
    "warning",  # something in the cluster's configuration that will turn a fault into an outage
    "configuration",  # all of these that hold when an experiment is about to break something
    "phase",  # an experiment enters a phase
    "expectations",  # what will be judged
    "topology",  # who is alive: `data` is a whole topology
    "asked",  # a fault was asked for
    "evidence",  # one sign that it landed
    "landed",  # it landed: enough evidence
    "healed",  # what it broke was put back
    "gone",  # a component is no longer there
    "came",  # a component is there that was not
    "redundancy_back",  # the shape is that of the steady state again
    "proxy_deaf",  # a proxy does not hear its controller
    "settled",  # the aftershock was passed
    "unsettled",  # it was not
    "untold",  # Serve does not say whether replicas hold handles
    "not_started",  # nothing was broken, and why
    "problem",  # a leak, a zombie, a second controller
    "verdict",
    "restored",  # the cluster has its first shape again, or is given up
    "logs",  # where the logs of the experiment's test are
    "note",
)


class History:
    """Requests and events of a run, kept in memory and written to a file as JSON lines.

    Threads may add to it at the same time. Times in memory are monotonic seconds; in the file they are seconds since
    the history began, and the first line says when that was.

    Args:
        path: The file; None keeps the history in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.origin = clock.now()
        self._requests: list[Request] = []
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._write({"type": "history", "format": FORMAT, "began": clock.wall_time().isoformat()})

    @property
    def requests(self) -> tuple[Request, ...]:
        """All requests that have ended, in the order in which they did."""
        with self._lock:
            return tuple(self._requests)

    def requests_since(self, at: float) -> tuple[Request, ...]:
        """The requests scheduled at `at` or later that have ended; cheap, however long the history is."""
        with self._lock:
            found = []
            # They stand in the order in which they ended (but for a little), and none ends before it is scheduled.
            for request in reversed(self._requests):
                if request.finished < at - _DISORDER:
                    break
                if request.scheduled >= at:
                    found.append(request)
        return tuple(reversed(found))

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in the order in which they were added."""
        with self._lock:
            return tuple(self._events)

    def add_request(self, request: Request) -> None:
        """Appends a request that has ended."""
        with self._lock:
            self._requests.append(request)
            if self._file is not None:
                self._write({"type": "request", **self._relative(asdict(request), "scheduled", "sent", "finished")})

    def add(
        self,
        kind: str,
        text: str,
        *,
        at: float | None = None,
        experiment: str = "",
        data: Mapping[str, Json] | None = None,
    ) -> Event:
        """Appends an event, now unless `at` says when."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of event; those are {', '.join(KINDS)}")
        event = Event(clock.now() if at is None else at, kind, text, experiment, dict(data or {}))
        with self._lock:
            self._events.append(event)
            self._write({"type": "event", **self._relative(asdict(event), "at")})
            if self._file is not None:
                self._file.flush()
        return event

    def add_topology(self, topology: Topology, text: str, *, experiment: str = "") -> Event:
        """Appends who is alive."""
        return self.add("topology", text, at=topology.at, experiment=experiment, data=topology_to_json(topology))

    def of(self, experiment: str) -> tuple[Event, ...]:
        """The events of one experiment."""
        return tuple(e for e in self.events if e.experiment == experiment)

    def experiments(self) -> tuple[str, ...]:
        """The names of the experiments, in the order in which they began."""
        return tuple(dict.fromkeys(e.experiment for e in self.events if e.experiment))

    def close(self) -> None:
        """Closes the file; the history stays readable."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, record: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")

    def _relative(self, record: dict[str, object], *times: str) -> dict[str, object]:
        for name in times:
            value = record[name]
            if isinstance(value, float):
                record[name] = round(value - self.origin, 6)
        return record

    @classmethod
    def load(cls, path: Path) -> History:
        """Reads a history from its file; its times are then seconds since it began.

        Raises:
            HistoryError: The file is missing, or not a history of this format.
        """
        history = cls()
        history.origin = 0.0
        try:
            with path.open(encoding="utf-8") as file:
                _check_format(file.readline(), path)
                for record in _records(file, path):
                    history._restore(record)
        except OSError as error:
            raise HistoryError(f"the history {path} cannot be read: {error}") from error
        return history

    def _restore(self, record: dict[str, object]) -> None:
        kind = record.pop("type")
        if kind == "request":
            self._requests.append(Request(**record))  # type: ignore[arg-type]
        elif kind == "event":
            self._events.append(Event(**record))  # type: ignore[arg-type]


def _check_format(line: str, path: Path) -> None:
    try:
        header = json.loads(line)
        found = header["format"] if header["type"] == "history" else None
    except (ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT:
        raise HistoryError(
            f"{path} is not a history of format {FORMAT}",
            looked_at=[f"its first line: {line[:120]!r}"],
            mend=["give the file history.jsonl of a run's directory under .serve-chaos/"],
        )


def _records(lines: Iterable[str], path: Path) -> Iterator[dict[str, object]]:
    for number, line in enumerate(lines, start=2):
        try:
            record = json.loads(line)
        except ValueError:
            # The last line of a run that was killed may be cut; any other broken line is an error.
            if line.endswith("\n"):
                raise HistoryError(f"{path}: line {number} is not JSON: {line[:80]!r}") from None
            return
        yield record


def topology_to_json(topology: Topology) -> dict[str, Json]:
    """A topology as plain data."""
    components: list[Json] = []
    for component in topology.components:
        record: dict[str, Json] = {**asdict(component), "identity": str(component.identity)}
        components.append(record)
    return {
        "components": components,
        "sources": list(topology.sources),
        "pending": dict(topology.pending),
    }


def topology_from_json(at: float, data: Mapping[str, Json]) -> Topology:
    """The topology of which `topology_to_json` made `data`."""
    components = []
    for record in data["components"]:  # type: ignore[union-attr]
        fields = dict(record)  # type: ignore[arg-type]
        components.append(Component(**{**fields, "identity": Identity.parse(str(fields["identity"]))}))
    return Topology(
        at,
        tuple(components),
        tuple(str(source) for source in data.get("sources", [])),  # type: ignore[union-attr]
        {str(k): int(v) for k, v in dict(data.get("pending", {})).items()},  # type: ignore[arg-type]
    )
