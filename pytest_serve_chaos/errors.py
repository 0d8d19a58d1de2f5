"""Everything that this package raises, as one tree.

ServeChaosError
├── SettingsError              a value that the user gave cannot be used
├── MissingDependency          a program or package that is needed is not here
├── SafetyError                refused, because it would touch what is not ours
│   └── Locked                 another run has the cluster
├── ClusterError               the cluster under test cannot be built, reached or repaired
│   ├── ClusterStartError
│   │   └── NotStartedAgain
│   ├── CommandFailed          the supervisor, kubectl or the like refused a command
│   └── ObservationError       a source of observation gave no usable answer
├── WatchEnded                a thread that watches the cluster has ended, so nobody sees what happens to it
├── WaitTimeout                a state was not reached in time
├── FaultError
│   ├── Unsupported            this backend or cluster cannot do that
│   │   └── Withheld           it would change something, and this is a dry run
│   ├── NoSuchTarget           nothing in the cluster matches the target
│   └── NotHealed              what a fault broke is still broken
├── HistoryError               a history file cannot be read
├── RunFailed                  a run that a comparison started has no result
└── Judgement                  not a broken rig: what an experiment says
    ├── ExpectationFailed      the cluster did not do what was demanded
    └── Inconclusive           the experiment showed nothing
        ├── NotLanded          a fault did nothing, or no sign showed that it did something
        └── OwnerChangedIt     the owner of an external cluster changed it meanwhile
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pytest_serve_chaos.printable import printable


class ServeChaosError(Exception):
    """The base of all errors here.

    Args:
        what: What happened.
        checked: What was checked to find that out, one line each.
        fix: How to fix it, one line for each way.
    """

    def __init__(self, what: str, *, checked: Sequence[str] = (), fix: Sequence[str] = ()) -> None:
        self.what = what
        self.checked = tuple(checked)
        self.fix = tuple(fix)
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.checked:
            lines += ["Checked:", *(f"  - {line}" for line in self.checked)]
        if self.fix:
            one = len(self.fix) == 1
            lines += ["To fix this:" if one else "To fix this, either:", *(f"  - {line}" for line in self.fix)]
        return printable("\n".join(lines))  # an answer, or a name, that it quotes may be anything


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant by that one; "" if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)), "")


def in_one_line(error: BaseException) -> str:
    """What an exception says, with its type if it is not a `ServeChaosError`."""
    if isinstance(error, ServeChaosError):
        return error.what
    return ": ".join((type(error).__name__, *str(error).splitlines()[:1]))


class SettingsError(ServeChaosError):
    """A value that the user gave cannot be used; becomes a `pytest.UsageError`.

    Args:
        what: What happened.
        checked: What was checked to find that out, one line each.
        fix: How to fix it, one line for each way.
        setting: The setting with that value, as `path`, where it may be another than the one that is checked.
    """

    def __init__(self, what: str, *, checked: Sequence[str] = (), fix: Sequence[str] = (), setting: str = "") -> None:
        self.setting = setting
        super().__init__(what, checked=checked, fix=fix)


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


class NotStartedAgain(ClusterStartError):
    """The same cluster failed to start for an earlier test, so this run does not try it again."""


class CommandFailed(ClusterError):
    """A command to the supervisor, to Kubernetes or to Ray was refused or failed."""


class ObservationError(ClusterError):
    """A source of observation gave no usable answer."""


class WatchEnded(ServeChaosError):
    """A thread that watches the cluster has ended, so nothing that was seen since then says anything about the app."""


class WaitTimeout(ServeChaosError):
    """A state was not reached before its deadline."""

    def __init__(
        self,
        what: str,
        *,
        timeout: float,
        last_seen: str,
        checked: Sequence[str] = (),
        fix: Sequence[str] = (),
    ) -> None:
        self.timeout = timeout
        self.last_seen = last_seen
        super().__init__(f"waited {timeout:g} s for {what}; last seen: {last_seen}", checked=checked, fix=fix)


class FaultError(ServeChaosError):
    """A fault could not be injected or healed."""


class Unsupported(FaultError):
    """The backend, or this cluster, cannot do what the fault needs."""


class Withheld(Unsupported):
    """It would change something, and a dry run changes nothing."""


class NoSuchTarget(FaultError):
    """Nothing in the cluster matches the target of the fault."""


class NotHealed(FaultError):
    """What a fault broke could not be repaired."""


class HistoryError(ServeChaosError):
    """A history file is missing, unreadable or of another format."""


class ExportFailed(ServeChaosError):
    """A report could not be sent to where it should go."""


class RunFailed(ServeChaosError):
    """A run that a comparison started has no result.

    Args:
        what: What happened.
        checked: What was checked, one line each.
        fix: How to fix it.
        again: Whether the next run may fare better.
    """

    def __init__(self, what: str, *, checked: Sequence[str] = (), fix: Sequence[str] = (), again: bool) -> None:
        self.again = again
        super().__init__(what, checked=checked, fix=fix)


class Judgement(ServeChaosError):
    """What an experiment or an assertion says about the cluster under test."""


class ExpectationFailed(Judgement, AssertionError):
    """The cluster did not do what was demanded of it."""


class Inconclusive(Judgement):
    """The experiment showed nothing about the cluster, so it is neither a pass nor a failure.

    It is not an `AssertionError`: a test that expects the app to fail must not pass if a fault did nothing.
    """


class OwnerChangedIt(Inconclusive):
    """The owner of an external cluster upgraded, edited, replaced or deleted it, or it is unknown whether they did."""


class NotLanded(Inconclusive):
    """A fault was applied and not proved by two independent signs, so whatever follows shows nothing about it."""
