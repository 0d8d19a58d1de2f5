"""The fault `child_failure`: a process that a replica has started, such as an inference engine, is killed or frozen."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.capabilities import SEES_CHILDREN, SIGNALS_PROCESSES
from pytest_serve_chaos.cluster.child_process import ChildProcess
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.errors import NoSuchTarget, ObservationError, SettingsError, WaitTimeout
from pytest_serve_chaos.events import ChildrenSeen, Remark
from pytest_serve_chaos.faults import signs
from pytest_serve_chaos.faults.actors import ON, choose_component, deployment_of
from pytest_serve_chaos.faults.admission import admit
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, unless_frozen, with_profile
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.health_check import DEPLOYMENT
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, freeze_for, keyword
from pytest_serve_chaos.kinds import Kind
from pytest_serve_chaos.model import Component, Evidence, Expectations
from pytest_serve_chaos.prediction import serve_rules

NAME = "child_failure"
PROCESS = Kind("a regular expression that is found in the process' name or command line, as llama-server", "PATTERN")

_WITHIN = 10.0


@dataclass
class _ChildrenBroken:
    """What both verbs have in common.

    Attributes:
        parent: The replica.
        children: The processes below it that are hit.
        pattern: What they were chosen by; None: all.
        there: All processes below it, as they were seen last.
    """

    rig: Rig
    parent: Component
    children: tuple[ChildProcess, ...]
    pattern: str | None
    there: tuple[ChildProcess, ...] = ()
    kind: str = NAME
    serves: bool = True
    sick: tuple[Component, ...] = ()

    @property
    def victims(self) -> tuple[Component, ...]:
        """The replica: it is who answers."""
        return (self.parent,)

    def afterwards(self) -> Iterable[str]:
        """What has become of the replica, and of what it had started."""
        parent = f"the {self.parent.name} (PID {self.parent.pid})"
        try:
            now = self._look()
        except ObservationError as error:
            return (f"it is unknown what has become of {parent}: {error.what}",)
        if now is None:
            return (f"{parent}, whose process was hit, is gone too",)
        hit = {child.identity for child in self.children}
        same = [child for child in now if child.identity in hit]
        new = [child for child in matching(now, self.pattern) if child.identity not in hit]
        if same:
            return (f"{parent} is still there, with {named(same)}, which was hit",)
        return (
            f"{parent} is still there, {f'with a new {named(new)}' if new else 'without the process that was hit'}",
        )

    def _look(self) -> tuple[ChildProcess, ...] | None:
        """All processes below the replica now, for the history too where they are others than before; None: it is gone.

        Raises:
            ObservationError: Nobody can look.
        """
        now = below(self.rig, self.parent)
        if now is not None and {child.identity for child in now} != {child.identity for child in self.there}:
            self._write(now, clock.now())
        return now

    def _write(self, there: tuple[ChildProcess, ...], at: float) -> None:
        """Writes which processes are below the replica at that moment."""
        self.there = there
        self.rig.log.add(
            ChildrenSeen(
                f"{len(there)} below the {self.parent.name}",
                at=at,
                parent=self.parent.identity,
                processes=tuple(child.identity for child in there),
                titles=tuple(child.title for child in there),
                ages=tuple(round(child.age, 3) for child in there),
                struck=tuple(child.identity for child in self.children),
            )
        )

    def _signal(self, number: int, *, lasts: float | None = None) -> bool:
        """Sends a signal to each of them; whether one at least was there. `lasts` is that of `signal_process`."""
        cluster = self.rig.capability(SIGNALS_PROCESSES, "send signals to processes")
        sent = False
        for child in self.children:
            with contextlib.suppress(NoSuchTarget):  # one may go with another
                cluster.signal_process(child.identity, number, lasts=lasts)
                sent = True
        return sent

    def _await(self, what: str, state: str) -> Evidence | None:
        """Waits until all of them are in a state: ``gone``, ``frozen``."""
        cluster = self.rig.capability(SEES_CHILDREN, "look below a replica")

        def there() -> Evidence | NotYet:
            states = cluster.states([child.identity for child in self.children])
            now = [states.get(child.identity, "gone") for child in self.children]
            if any(one != state for one in now):
                return NotYet(f"they are {', '.join(now)}")
            identities = ", ".join(str(child.identity) for child in self.children)
            return Evidence(clock.now(), "victim", f"{named(self.children)} {what} ({identities})")

        try:
            return clock.wait_until(
                named(self.children), clock.patient(there), timeout=self.rig.sign_within(_WITHIN), interval=0.02
            )
        except WaitTimeout:
            return None


@dataclass
class ChildKilled(_ChildrenBroken):
    """Processes below a replica get SIGKILL. What the replica makes of that is the app's business."""

    sign_within: float = _WITHIN

    @property
    def options(self) -> Mapping[str, object]:
        """What is killed, and under a replica of which deployment."""
        return {"how": "kill", **_name(self.pattern), **deployment_of(self.parent)}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"SIGKILL to {named(self.children)} under the {self.parent.name} (PID {self.parent.pid})"

    def strike(self) -> Strike:
        """Kills them, and waits until they are gone; without a sign where they had gone before."""
        asked = clock.now()
        self._write(self.there, asked)
        gone = self._await("is gone", "gone") if self._signal(signal.SIGKILL) else None
        if gone is not None:
            self._write(tuple(child for child in self.there if child not in self.children), gone.at)
        return Strike(asked, (gone,) if gone else ())

    def sign(self, struck: float) -> Evidence | None:
        """Their parent has none of them any more, or is gone itself."""
        try:
            now = self._look()
        except ObservationError:
            return None
        hit = {child.identity for child in self.children}
        if now is not None and any(child.identity in hit for child in now):
            return None
        state = "is gone, too" if now is None else "is still there, without that process"
        return Evidence(clock.now(), "cluster", f"its parent, the {self.parent.name} (PID {self.parent.pid}), {state}")

    def heal(self) -> None:
        """The app, or Serve, replaces what was killed, or not."""


@dataclass
class ChildFrozen(_ChildrenBroken):
    """Processes below a replica are stopped for a while."""

    lasts: float = FREEZE_FOR
    heals_at_once: ClassVar[bool] = True

    @property
    def options(self) -> Mapping[str, object]:
        """What is stopped for how long, and under a replica of which deployment."""
        return {"how": "freeze", "for_": self.lasts, **_name(self.pattern), **deployment_of(self.parent)}

    @property
    def sign_within(self) -> float:
        """Seconds for the cluster's sign: 15, but never longer than they stand still, when there is none any more."""
        return min(15.0, self.lasts)

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return f"SIGSTOP to {named(self.children)} under the {self.parent.name} (PID {self.parent.pid})"

    def strike(self) -> Strike:
        """Stops them, and waits until they stand still."""
        asked = clock.now()
        self._write(self.there, asked)
        sent = self._signal(signal.SIGSTOP, lasts=self.lasts)
        stopped = self._await("is stopped (state T)", "frozen") if sent else None
        return Strike(asked, (stopped,) if stopped else ())

    def sign(self, struck: float) -> Evidence | None:
        """The replica gives no good answer any more: a process that nobody misses is not a failure of the app."""
        return signs.nobody_answers(self.rig, self.victims, struck)

    def heal(self) -> None:
        """Resumes those that are still there."""
        self._signal(signal.SIGCONT)


@dataclass(frozen=True)
class ChildTarget:
    """What a replica has started: ``chaos.replica("Engine").child("llama-server")``.

    Args:
        rig: The cluster under test, and what is recorded about it.
        parent: The replica.
        pattern: A regular expression that is found in the name or the command line of each process that is hit; None:
            every process below the replica.
    """

    rig: Rig
    parent: Component
    pattern: str | None

    def kill(self, *, must_land: bool = True, allow_total_loss: bool = False) -> Injection:
        """SIGKILL to each of them.

        Raises:
            NoSuchTarget: There is no such process below the replica.
            NotLanded: Nothing shows that they died, and they must (`must_land`).
        """
        with self.rig.current.allowing_total_loss(allow_total_loss):
            children, there = self._children({"how": "kill"})
            fault = ChildKilled(self.rig, self.parent, children, self.pattern, there)
            injection = Injection(self.rig, fault, must_land=must_land)
        self._tell_if_nameless(children)
        return injection

    def freeze(
        self, for_: float | str = FREEZE_FOR, *, must_land: bool = True, allow_total_loss: bool = False
    ) -> Injection:
        """SIGSTOP to each of them for so many seconds. It has landed when the replica gives no good answer any more.

        Raises:
            NoSuchTarget: There is no such process below the replica.
            NotLanded: Nothing shows that they stand still, and they must (`must_land`).
        """
        lasts = seconds(for_, name="for_")
        with self.rig.current.allowing_total_loss(allow_total_loss):
            children, there = self._children({"how": "freeze", "for_": lasts})
            fault = ChildFrozen(self.rig, self.parent, children, self.pattern, there, lasts=lasts)
            injection = Injection(self.rig, fault, hold_for=lasts, must_land=must_land)
        self._tell_if_nameless(children)
        return injection

    def _tell_if_nameless(self, children: Sequence[ChildProcess]) -> None:
        """Says what was hit where nothing but its being alone there says that it is what the test means."""
        if not in_words(children, self.pattern):
            self.rig.log.add(
                Remark(
                    f"no process below the {self.parent.name} has {self.pattern!r} in its name or command line; the"
                    f" only one there was hit, a script without a name: {children[0].line}"
                )
            )

    def _children(self, options: Mapping[str, object]) -> tuple[tuple[ChildProcess, ...], tuple[ChildProcess, ...]]:
        """The processes that are hit, and all that are below the replica."""
        # On an external cluster a program runs in the pod for it: not before that is known to be allowed.
        admit(self.rig, NAME, {**options, **_name(self.pattern), **deployment_of(self.parent)}, (self.parent,))
        there = below(self.rig, self.parent)
        found = matching(there or (), self.pattern)
        if found:
            return found, there or ()
        parent = f"the {self.parent.name} (PID {self.parent.pid})"
        what = "process" if self.pattern is None else f"process {self.pattern!r}"
        raise NoSuchTarget(
            f"there is no {what} below {parent}",
            checked=[child.line for child in there or ()]
            or [f"{parent} has {'gone' if there is None else 'no children'}"],
            fix=["name one of these by what its name or command line contains", "or leave the name out: all of them"]
            if there
            else (),
        )


def below(rig: Rig, parent: Component) -> tuple[ChildProcess, ...] | None:
    """All processes below a replica; None where it is gone.

    Raises:
        ObservationError: Nobody can look.
    """
    return rig.capability(SEES_CHILDREN, "look below a replica").children(parent.identity)


def matching(children: Iterable[ChildProcess], pattern: str | None) -> tuple[ChildProcess, ...]:
    """Those of the processes in whose name or command line the expression is found.

    A script that an interpreter got as a text (``python -c``, `multiprocessing`) has no name that anybody could know.
    If it is the only process there, apart from what Python starts for itself, it is the one that is meant.

    Raises:
        SettingsError: It is not an expression.
    """
    try:
        wanted = re.compile(pattern or "")
    except re.error as error:
        raise SettingsError(
            f"{pattern!r} is not a regular expression: {error}", fix=["escape it: re.escape(name)"]
        ) from error
    there = tuple(children)
    found = tuple(child for child in there if wanted.search(child.name) or wanted.search(child.command))
    others = tuple(child for child in there if not child.of_python)
    return found or (others if len(others) == 1 and others[0].nameless else ())


def in_words(children: Iterable[ChildProcess], pattern: str | None) -> bool:
    """Whether the expression is found in what one of the processes is called."""
    return any(re.search(pattern or "", text) for child in children for text in (child.name, child.command))


def named(children: Iterable[ChildProcess]) -> str:
    """The processes in words: ``llama-server (PID 4711)``."""
    return ", ".join(f"{child.title} (PID {child.pid})" for child in children)


def _name(pattern: str | None) -> Mapping[str, str]:
    return {} if pattern is None else {"name": pattern}


# -- the fault ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChildKeywords:
    """What its marker can say."""

    name: str | None = keyword(PROCESS, None)
    deployment: str | None = keyword(DEPLOYMENT, None)
    on: str | None = keyword(ON, None)
    for_: float = freeze_for()


def _inject(rig: Rig, how: str, given: ChildKeywords, must_land: bool) -> Injection:
    replica = choose_component(rig, "replica", on=given.on, deployment=given.deployment)
    child = ChildTarget(rig, replica, given.name)
    if how == "freeze":
        return child.freeze(given.for_, must_land=must_land)
    return child.kill(must_land=must_land)


def _touch(how: str, given: ChildKeywords) -> Touch:
    return Touch(actions=("run in pods",), deployment=given.deployment or "")


FAULT = FaultSpec(
    name=NAME,
    breaks="a process that a replica has started",
    verbs=("kill", "freeze"),
    keywords=ChildKeywords,
    inject=_inject,
    expectations=Expectations(kept=("head", "gcs", "controller", "proxy", "replica@others")),
    adapt=unless_frozen(with_profile),
    needs=(
        Need((SEES_CHILDREN,), "look below a replica"),
        Need((SIGNALS_PROCESSES,), "send signals to processes"),
    ),
    external=_touch,
    loses=("replica",),
    target="chaos.replica(deployment).child(name)",
    effect="a process below a replica: an inference engine",
    dry_run=True,
    predict=serve_rules.child,
)
