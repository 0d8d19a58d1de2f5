"""What replicas of a local cluster have started themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.model import Identity


class ProcessChildren:
    """Looks below processes of this machine. Has the capability `SeesChildren`."""

    def children(self, parent: Identity) -> tuple[ChildProcess, ...] | None:
        """All processes below that one, whichever session they are in; None where it is gone."""
        if not processes.alive(parent):
            return None
        found = processes.below(int(parent.parts[1]))
        return tuple(ChildProcess(p.identity, p.pid, p.parent, p.name, p.command, p.age) for p in found)

    def states(self, identities: Sequence[Identity]) -> Mapping[Identity, str]:
        """``running`` or ``frozen``, for those of the processes that are there."""
        seen = {identity: processes.read(int(identity.parts[1])) for identity in identities}
        there = {identity: one for identity, one in seen.items() if one is not None and one.identity == identity}
        return {identity: "frozen" if one.state in "Tt" else "running" for identity, one in there.items()}
