"""What a backend is. Other plugins import this module in every run of pytest, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pytest_serve_chaos.options import Option

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec, Progress
    from pytest_serve_chaos.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a backend needs.

    Attributes:
        what: The thing.
        found: What was found of it, or what is wrong.
        ok: Whether it is here.
        fix: How to get it, if it is not here.
        needed: Whether nothing can be tested without it.
    """

    what: str
    found: str
    ok: bool = True
    fix: str = ""
    needed: bool = True

    @property
    def line(self) -> str:
        """All of it in one line."""
        fix = f". To fix this: {self.fix}" if self.fix and not self.ok else ""
        found = self.found.rstrip(".") if fix else self.found
        return f"  {'ok' if self.ok else 'missing':<8} {self.what:<20} {found}{fix}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """An entry of the undo journal, whose run ended before it could undo the change itself.

    Attributes:
        arguments: What the run wrote into the entry.
        directory: That of the journal, which is this user's alone; files that the undoing needs can be created there.
        progress: Prints a line for people.
        allowed: The kubeconfig contexts that the user has named for it now. An entry says what to undo, and never what
            is allowed.
    """

    arguments: Mapping[str, str]
    directory: Path
    progress: Progress
    allowed: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """How a cluster that the user names is repaired without the undo journal, by what the cluster itself shows.

    Attributes:
        options: The settings that name it, all of them needed; `serve-chaos undo` takes them.
        run: Takes the settings and a function that prints a line for people; returns what could not be repaired, in
            words. Raises `Locked` where a run uses the cluster.
    """

    options: tuple[str, ...]
    run: Callable[[Settings, Progress], Sequence[str]]


Start: TypeAlias = "Callable[[ClusterSpec, Settings, Path, Progress], Cluster]"
Undo: TypeAlias = Callable[[Leftover], None]
End: TypeAlias = "Callable[[Settings, Path, Progress], None]"
Sweep: TypeAlias = "Callable[[Progress], Iterable[str]]"
Deployments: TypeAlias = "Mapping[str, Collection[str]]"
"""The deployments of each app of a Serve config, by name."""
Check: TypeAlias = "Callable[[ClusterSpec, Settings], None]"
CheckApp: TypeAlias = "Callable[[ClusterSpec, Settings, Progress], Deployments | None]"


def _needs_nothing(_: Settings) -> Iterable[Finding]:
    return ()


def _as_given(settings: Settings) -> Settings:
    return settings


def _found_at_start(*_: object) -> None:
    """The start finds out."""


def _nothing_shared(_: Settings, __: Path, ___: Progress) -> None:
    """Each cluster ends all that it has."""


def _leaves_nothing(_: Progress) -> Iterable[str]:
    """What it leaves is in the journal."""
    return ()


def _not_locked(_: Settings) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A place where clusters come from. Its functions import what they need when they are called.

    Attributes:
        name: What `--serve-chaos-backend` takes.
        description: Where its clusters come from, in a few words.
        start: Starts a cluster, or connects to one: takes the cluster that the test wants, the settings, the directory
            of the run, for logs, and a function that prints a line for people. Raises `Unsupported` where it cannot
            give such a cluster (the test is skipped), and another `ServeChaosError` where the start fails.
        options: The settings that it uses in addition to those of all backends. On the command line the others are
            refused.
        doctor: Looks for what the backend needs, without changing anything. Settings that are required may be missing.
        adapt: Changes the settings to what a cluster that exists already is; tests get that cluster.
        check: Looks, before the first test and without changing anything, whether this machine can have a cluster that
            tests want. Raises a `ServeChaosError` that says what is missing. By default the start finds out.
        check_app: Looks, before a cluster is started, whether the app of one that tests want exists. Raises
            `SettingsError` where it does not. Returns the apps with the names of their deployments, if it knows all of
            them. By default the start finds out.
        lock: Names a cluster that outlives the run, so that no other run uses it at the same time; None: no lock.
        hold: Keeps other runs off such a cluster in a way of its own, in place of `lock`.
        end: Ends what the clusters of a run share, such as machines: called once, when the last of them is closed.
        undo: Undoes what a run that ended by force has left, by the verb of its entry in the journal.
        repair: Does the same to a cluster that outlives the run, and that the user names; None: all is in the journal.
        sweep: Removes what such a run has left on this machine and nobody holds any more: takes a function that prints
            a line for people, and returns what could not be removed, in words.
        external: Whether its clusters are somebody else's, so that a dry run takes no lock on them.
    """

    name: str
    description: str
    start: Start
    options: tuple[Option, ...] = ()
    doctor: Callable[[Settings], Iterable[Finding]] = _needs_nothing
    adapt: Callable[[Settings], Settings] = _as_given
    check: Check = _found_at_start
    check_app: CheckApp = _found_at_start
    lock: Callable[[Settings], str | None] = _not_locked
    hold: Callable[[Settings], AbstractContextManager[None]] | None = None
    end: End = _nothing_shared
    undo: Mapping[str, Undo] = field(default_factory=dict)
    repair: Repair | None = None
    sweep: Sweep = _leaves_nothing
    external: bool = False

    def locked(self, settings: Settings) -> AbstractContextManager[None]:
        """Keeps other runs off a cluster that outlives this one. Entering raises `Locked` where another run has it."""
        if settings.dry_run and self.external:
            return nullcontext()
        if self.hold is not None:
            return self.hold(settings)
        name = self.lock(settings)
        if name is None:
            return nullcontext()
        from pytest_serve_chaos.locks import cluster_lock

        return cluster_lock(name)
