"""A fault of a test itself: what breaks, what heals, and what shows it are functions of the test."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet, seconds
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.errors import SettingsError, WaitTimeout, in_one_line
from pytest_serve_chaos.events import Note
from pytest_serve_chaos.faults.defaults import while_down, with_profile
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice, FaultSpec, keyword
from pytest_serve_chaos.kinds import Duration
from pytest_serve_chaos.model import Component, Evidence, Expectations

_VERB = "inject"
_STAYS = 0.2
"""Seconds after which the evidence is asked for again: what is gone by then was not broken."""


@dataclass(frozen=True)
class Functions:
    """What a test says of its fault.

    Attributes:
        inject: Breaks something.
        heal: Repairs it. It is called once for each time that `inject` was, whatever became of that.
        evidence: Whether it is broken now: a text that says what shows it, or True; None, False or "" if it is not.
    """

    inject: Callable[[], object]
    heal: Callable[[], object]
    evidence: Callable[[], object]

    def ask(self) -> str:
        """What shows that it is broken now; "" where nothing does.

        Raises:
            SettingsError: The function returns something else.
        """
        said = self.evidence()
        if said is True:
            return "the evidence of the test says that it is broken"
        if said is None or said is False:
            return ""
        if not isinstance(said, str):
            raise SettingsError(
                f"evidence() returned {said!r}", fix=["return a text, True, or None or False where it is not broken"]
            )
        return said


@dataclass(frozen=True, slots=True)
class About:
    """What a test says of its fault for people and reports.

    Attributes:
        name: Of the fault, in reports.
        text: What it does, for people; the name if there is none.
        victims: The components that it hits, where the test names them.
        undo_command: What repairs it if the run ends by force: `serve-chaos undo` prints it.
    """

    name: str
    text: str = ""
    victims: tuple[Component, ...] = ()
    undo_command: tuple[str, ...] = field(default=(), repr=False)


@dataclass
class CustomBroken:
    """One injection of a test's own fault. It implements `fault.Fault`.

    Attributes:
        functions: What breaks it, heals it, and shows that it is broken.
        about: What the test says of it for people.
        lasts: Seconds after which it is healed; None: when all was judged.
        sign_within: Seconds in which there must be evidence.
    """

    rig: Rig
    functions: Functions
    about: About
    lasts: float | None
    sign_within: float
    sick: tuple[Component, ...] = ()
    _forget: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """Its name."""
        return self.about.name

    @property
    def text(self) -> str:
        """What it does, for people."""
        return self.about.text or self.about.name

    @property
    def victims(self) -> tuple[Component, ...]:
        """The components that it hits, where the test names them."""
        return self.about.victims

    @property
    def options(self) -> Mapping[str, object]:
        """It has no marker that could say more."""
        return {"how": _VERB}

    @property
    def serves(self) -> bool:
        """Proxies and replicas do."""
        return any(victim.role in ("proxy", "replica") for victim in self.victims)

    @property
    def hold(self) -> bool:
        """Whether it stays broken for a given time, over which traffic is judged."""
        return self.lasts is not None

    def strike(self) -> Strike:
        """Breaks it, unless its evidence was there before, and waits for the evidence."""
        before = self.functions.ask()
        if before:  # it would be there without the fault too, so it could show nothing
            self.rig.log.add(Note(f"the evidence was there before the fault, which was not injected: {before}"))
            return Strike(clock.now(), ())
        undo = shlex.join(self.about.undo_command)
        self._forget = self.rig.run.record(f"{self.kind} of the test {self.rig.current.test}: {self.text}", undo)
        asked = clock.now()
        self.functions.inject()
        sign = self._await()
        return Strike(asked, () if sign is None else (sign,))

    def sign(self, struck: float) -> Evidence | None:
        """The same evidence again, a moment later."""
        now = clock.now()
        said = self._said() if now - struck >= _STAYS else ""
        return Evidence(now, "cluster", f"still so {now - struck:.1f} s later: {said}") if said else None

    def heal(self) -> None:
        """Repairs what was broken; an error in it is that of healing, and the next call tries again."""
        if self._forget is None:
            return
        self.functions.heal()
        forget, self._forget = self._forget, None  # should the entry stay, what was healed is not healed twice
        forget()

    def _await(self) -> Evidence | None:
        def broken() -> Evidence | NotYet:
            said = self._said()
            return Evidence(clock.now(), "victim", said) if said else NotYet("no evidence")

        try:
            return clock.wait_until("the evidence of the fault", broken, timeout=self.sign_within, interval=0.1)
        except WaitTimeout:
            return None

    def _said(self) -> str:
        """What shows it; an error in the function shows nothing, and is noted."""
        try:
            return self.functions.ask()
        except SettingsError:
            raise
        except Exception as error:
            text = f"evidence() raised {in_one_line(error)}"
            if text not in [note.text for note in self.rig.log.of(Note)]:
                self.rig.log.add(Note(text))
            return ""


@dataclass(frozen=True)
class CustomKeywords:
    """What a marker of it would say, if it had one."""

    for_: float | None = keyword(Duration(), None)


class CustomFault:
    """A fault of a test's own: ``chaos.custom(...)``. Nothing is broken until it is used.

    As a context manager it injects on entering, and heals on leaving; ``experiment.run(fault=...)`` runs a whole
    experiment with it.

    Args:
        rig: The cluster under test, and what is recorded about it.
        functions: What the test says of it.
        about: What the test says of it for people.
        for_: Seconds after which it is healed; None: when the injection is closed, or all was judged.
        landed_within: Seconds in which there must be evidence.
        expectations: What is demanded by default.

    Raises:
        SettingsError: The name is that of a fault with a marker, or no name.
    """

    def __init__(
        self,
        rig: Rig,
        functions: Functions,
        about: About,
        *,
        for_: float | str | None,
        landed_within: float | str,
        expectations: Expectations | None,
    ) -> None:
        if about.name in rig.run.faults:
            raise SettingsError(
                f"there is a fault with the name {about.name} already", fix=["give your own another name"]
            )
        self._rig = rig
        self._functions = functions
        self._about = about
        self._lasts = None if for_ is None else seconds(for_, name="for_")
        if self._lasts == 0:
            raise SettingsError("for_=0 breaks nothing", fix=["give the seconds for which it stays broken: for_='90s'"])
        self._within = seconds(landed_within, name="landed_within")
        self._open: list[Injection] = []
        self.spec: FaultSpec[CustomKeywords] = FaultSpec(
            name=about.name,
            breaks=about.text or about.name,
            verbs=(_VERB,),
            keywords=CustomKeywords,
            inject=lambda _rig, _how, _given, must_land: self.inject(must_land=must_land),
            expectations=expectations or Expectations(),
            adapt=self._adapt,
        )

    @property
    def choice(self) -> FaultChoice:
        """The fault as an experiment wants it."""
        return self.spec.choose({} if self._lasts is None else {"for_": self._lasts})

    def inject(self, *, must_land: bool = True) -> Injection:
        """Injects it once.

        Raises:
            NotLanded: Its evidence was there before, or is not there afterwards, and it must land (`must_land`).
            Unsupported: The cluster is external: nobody knows what the fault would do to it.
        """
        fault = CustomBroken(self._rig, self._functions, self._about, self._lasts, self._within)
        return Injection(self._rig, fault, hold_for=self._lasts, must_land=must_land)

    def __enter__(self) -> Injection:
        self._open.append(self.inject())
        return self._open[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.pop().close()

    def _adapt(self, expected: Expectations, cluster: ClusterSpec, how: str, given: CustomKeywords) -> Expectations:
        found = with_profile(expected, cluster)
        return found if given.for_ is None else while_down(found, given.for_)
