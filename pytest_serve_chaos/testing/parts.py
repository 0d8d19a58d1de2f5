"""What lives in a fake cluster at present: a part for each slot that is filled."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_serve_chaos.model import Component, Identity, Role
from pytest_serve_chaos.testing.plan import Slot


@dataclass(slots=True)
class Part:
    """What fills a slot now.

    Attributes:
        slot: Its place.
        pid: Unlike that of every part before it.
        actor_id: Of a controller, proxy or replica.
        replica_id: The id of a replica.
        frozen: Whether its process is stopped.
        stale_routes: The routes of a proxy that receives no updates any more; None: it receives them.
        child: The PID of the process that a replica has started; 0: there is none.
        child_frozen: Whether that is stopped.
        child_died: When it died last, monotonic seconds.
        version: The version of the code of a replica.
        bad: What is wrong with that version; "" if nothing.
    """

    slot: Slot
    pid: int
    actor_id: str | None
    replica_id: str
    frozen: bool = False
    stale_routes: frozenset[str] | None = None
    version: str = ""
    bad: str = ""
    child: int = 0
    child_frozen: bool = False
    child_died: float = 0.0

    @property
    def child_identity(self) -> Identity:
        """Unlike that of every child before it."""
        return Identity("process", ("fake", str(self.child), str(10 * self.child)))

    @property
    def identity(self) -> Identity:
        """Unlike that of every part before it."""
        return Identity("process", ("fake", str(self.pid), str(10 * self.pid)))

    @property
    def component(self) -> Component:
        """As the process table would show it: without actor ids."""
        state = "frozen" if self.frozen else "running"
        slot = self.slot
        return Component(slot.role, slot.node, self.identity, self.pid, deployment=slot.deployment or None, state=state)

    @property
    def name(self) -> str:
        """``app#Deployment#id``, as answers name their replica."""
        return f"{self.slot.deployment}#{self.replica_id}"


class Parts(dict[Slot, Part]):
    """The parts that live, each in its slot."""

    def of(self, *roles: Role) -> list[Part]:
        """The parts of these roles."""
        return [part for part in self.values() if part.slot.role in roles]

    def by_identity(self, identity: Identity) -> Part | None:
        """The part with that identity, if it is alive."""
        return next((part for part in self.values() if part.identity == identity), None)

    def with_child(self, identity: Identity) -> Part | None:
        """The replica that has that child."""
        return next((part for part in self.of("replica") if part.child and part.child_identity == identity), None)

    @property
    def gcs_answers(self) -> bool:
        """Whether the state API can be asked."""
        return any(not part.frozen for part in self.of("gcs"))

    @property
    def controller_works(self) -> bool:
        """Whether Serve's REST can be asked, and dead actors are replaced."""
        return self.gcs_answers and any(not part.frozen for part in self.of("controller"))
