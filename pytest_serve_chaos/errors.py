"""Everything that this package raises, as one tree.

ServeChaosError
├── SettingsError              a value that the user gave cannot be used
├── MissingDependency          a program or package that is needed is not here
├── SafetyError                refused, because it would touch what is not ours
│   └── Locked                 another run has the cluster
├── ClusterError               the cluster under test cannot be built, reached or mended
│   ├── ClusterStartError
│   ├── CommandFailed          the supervisor, kubectl or the like refused a command
│   └── ObservationError       a source of observation gave no usable answer
├── WaitTimeout                a state was not reached in time
├── FaultError
│   ├── Unsupported            this backend or cluster cannot do that
│   ├── NoSuchTarget           nothing in the cluster matches the target
│   └── NotHealed              what a fault broke is still broken
├── HistoryError               a history file cannot be read
└── Judgement                  not a broken rig: what an experiment says
    ├── ExpectationFailed      the cluster did not do what was demanded
    └── Inconclusive           nothing was shown, so nothing can be said
"""

from __future__ import annotations

from collections.abc import Sequence


class ServeChaosError(Exception):
    """The base of all errors here.

    Args:
        what: What happened.
        looked_at: What was looked at to find that out, a line each.
        mend: How to mend it, a line for each way.
    """

    def __init__(self, what: str, *, looked_at: Sequence[str] = (), mend: Sequence[str] = ()) -> None:
        self.what = what
        self.looked_at = tuple(looked_at)
        self.mend = tuple(mend)
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.looked_at:
            lines += ["Looked at:", *(f"  - {line}" for line in self.looked_at)]
        if self.mend:
            lines += ["To mend it:", *(f"  - {line}" for line in self.mend)]
        return "\n".join(lines)


class SettingsError(ServeChaosError):
    """A value that the user gave cannot be used; becomes a `pytest.UsageError`."""


class MissingDependency(ServeChaosError):
    """A program or package that is needed is not installed."""


class SafetyError(ServeChaosError):
    """An action was refused because it could touch something that is not ours."""


class Locked(SafetyError):
    """Another run is using the same cluster."""


class ClusterError(ServeChaosError):
    """The cluster under test could not be built, reached or brought back to its first shape."""


class ClusterStartError(ClusterError):
    """The cluster did not come up."""


class CommandFailed(ClusterError):
    """A command to the supervisor, to Kubernetes or to Ray was refused or failed."""


class ObservationError(ClusterError):
    """A source of observation gave no usable answer."""


class WaitTimeout(ServeChaosError):
    """A state was not reached before its deadline."""

    def __init__(
        self,
        what: str,
        *,
        timeout: float,
        last_seen: str,
        looked_at: Sequence[str] = (),
        mend: Sequence[str] = (),
    ) -> None:
        self.timeout = timeout
        self.last_seen = last_seen
        super().__init__(f"waited {timeout:g} s for {what}; last seen: {last_seen}", looked_at=looked_at, mend=mend)


class FaultError(ServeChaosError):
    """A fault could not be injected or healed."""


class Unsupported(FaultError):
    """The backend, or this cluster, cannot do what the fault needs."""


class NoSuchTarget(FaultError):
    """Nothing in the cluster matches the target of the fault."""


class NotHealed(FaultError):
    """What a fault broke could not be mended."""


class HistoryError(ServeChaosError):
    """A history file is missing, unreadable or of another format."""


class Judgement(ServeChaosError, AssertionError):
    """What an experiment or an assertion says about the cluster under test."""


class ExpectationFailed(Judgement):
    """The cluster did not do what was demanded of it."""


class Inconclusive(Judgement):
    """The experiment showed nothing about the cluster, so it is neither a pass nor a failure."""
