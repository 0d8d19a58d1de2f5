"""What the supervisor has reported: answers to commands, and the states of its units."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import cast

from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.model import Identity, Json


@dataclass(frozen=True, slots=True)
class UnitState:
    """What the supervisor last reported about Redis or a node.

    Attributes:
        session: The id of its session, 0 while it is down.
        at: Since when (monotonic seconds).
    """

    name: str
    state: str
    session: int
    identity: Identity | None
    at: float


@dataclass(frozen=True, slots=True)
class _Session:
    """A session of Redis or a node, with its first process where that was seen."""

    name: str
    leader: Identity | None


class Reported:
    """All that is known from it; one thread writes it, others read.

    Attributes:
        slot: The block of ports that it has taken; None: it has said nothing yet.
        refusal: Why it did not start; None: it has not refused.
    """

    def __init__(self) -> None:
        self.slot: int | None = None
        self.refusal: str | None = None
        self._lock = threading.Lock()
        self._replies: dict[int, dict[str, Json]] = {}
        self._units: dict[str, UnitState] = {}
        self._sessions: dict[int, _Session] = {}
        self._failed_starts: list[tuple[float, str]] = []

    def reply(self, number: int) -> dict[str, Json] | None:
        """The answer to the command of that number, once; None: it has not come."""
        with self._lock:
            return self._replies.pop(number, None)

    def units(self) -> dict[str, UnitState]:
        """The last reported state of each unit."""
        with self._lock:
            return dict(self._units)

    def sessions(self) -> dict[int, str]:
        """Session id -> name, of every session that may have processes.

        A session is forgotten when nothing of it is left, and left out when its id has become another one's.
        """
        with self._lock:
            known = dict(self._sessions)
        return {session: of.name for session, of in known.items() if not processes.is_another(session, of.leader)}

    def failed_starts(self, since: float) -> tuple[str, ...]:
        """Each node whose `ray start` has given up since then, in words."""
        with self._lock:
            return tuple(text for at, text in self._failed_starts if at >= since)

    def take(self, record: dict[str, Json]) -> None:
        """Takes over what one line says."""
        with self._lock:
            if "reply" in record:
                self._replies[cast(int, record["reply"])] = record
            elif record.get("event") == "ready":
                self.slot = cast(int, record["slot"])
            elif record["event"] == "refused":
                self.refusal = str(record["text"])
            elif record["event"] == "gave_up":
                text = f"`ray start` gave {record['name']} up: {record['text']}"
                self._failed_starts.append((cast(float, record["at"]), text))
            elif record["event"] == "unit":
                self._take_unit(record)

    def _take_unit(self, record: dict[str, Json]) -> None:
        name, session, identity = str(record["name"]), cast(int, record["session"]), record["identity"]
        at = cast(float, record["at"])
        parsed = Identity.parse(str(identity)) if identity else None
        self._units[name] = UnitState(name, str(record["state"]), session, parsed, at)
        self._take_session(name, session, parsed)

    def _take_session(self, name: str, session: int, leader: Identity | None) -> None:
        known = self._sessions.get(session)
        if known is not None and known.name == name:
            leader = known.leader or leader  # the first process may be gone, and others not
        self._sessions = {id_: of for id_, of in self._sessions.items() if of.name != name}
        if session:
            self._sessions[session] = _Session(name, leader)
