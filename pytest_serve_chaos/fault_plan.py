"""What a fault would do to the cluster that is there: its victims, its changes, and what allows or undoes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.dry_run import WITHHOLDS_CHANGES, Step, WithholdsChanges
from pytest_serve_chaos.errors import Unsupported, Withheld
from pytest_serve_chaos.faults.admission import admit
from pytest_serve_chaos.faults.fault import Fault
from pytest_serve_chaos.faults.injection import NotInjected
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultChoice
from pytest_serve_chaos.model import Component

_UNDECLARED = (
    "the fault does not say that all of it goes through capabilities of the cluster (FaultSpec.dry_run), so the dry run"
    " does not call it"
)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What one fault of one test would do.

    Attributes:
        fault: The fault, as its marker says it: ``worker_failure(how='kill')``.
        text: What it does, in words.
        victims: The components that it hits.
        steps: The requests and signals that it would make, in order.
        rights: What a user must be allowed for it.
        refused: Why it would not be injected, and the test be skipped; "" if it would be.
        external: Whether the cluster is somebody else's.
        heals: When it would be healed, in words.
        unknown: Why its requests and signals are not known; "" if they are.
    """

    fault: str
    text: str = ""
    victims: tuple[Component, ...] = ()
    steps: tuple[Step, ...] = ()
    rights: tuple[str, ...] = ()
    refused: str = ""
    external: bool = False
    heals: str = ""
    unknown: str = ""

    @property
    def lines(self) -> list[str]:
        """All of it, for people."""
        return [f"  {name:<8} {text}" for name, text in self._rows()]

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "fault", f"{self.fault}{': ' if self.text else ''}{self.text}"
        yield from _under("victim", (_named(component) for component in self.victims))
        if not self.refused:
            yield from _under("change", [step.text for step in self.steps] or [f"not shown: {self.unknown}"])
        yield "rights", ", ".join(self.rights) or ("unknown" if self.external else _OWN_RIGHTS)
        yield "allowed", f"no: {self.refused}" if self.refused else "yes"
        if self.steps:
            undo = list(dict.fromkeys(step.undo for step in self.steps if step.undo))
            yield from _under("undo", undo or [_NOTHING_TO_UNDO if self.external else _OWN_UNDO])
            yield "healed", self.heals


_OWN_RIGHTS = "none of yours: the cluster is the run's own"
_OWN_UNDO = "no entry: the cluster is the run's own, and goes with it"
_NOTHING_TO_UNDO = "no entry: what was broken is replaced by Ray, Serve or KubeRay"


def plan_of(rig: Rig, choice: FaultChoice) -> FaultPlan:
    """What a fault would do now. Its victim is the one that the seed chooses among what is alive.

    Args:
        rig: The cluster of a dry run, and what is around it.
        choice: The fault, as a marker has it.

    Raises:
        FaultError: It could not be injected, for another reason than that the cluster does not allow it.
        Withheld: The cluster is not that of a dry run.
    """
    withholds = rig.capability(WITHHOLDS_CHANGES, "be looked at without being changed")
    marker = _marker(choice)
    touch, external = choice.touch(), rig.cluster.capability(IS_EXTERNAL) is not None
    rights = withholds.rights(touch)
    try:
        admit(rig, choice.kind, choice.options)
        if not choice.spec.dry_run:
            return FaultPlan(marker, choice.spec.breaks, rights=rights, external=external, unknown=_UNDECLARED)
        return _injected(rig, choice, withholds, FaultPlan(marker, rights=rights, external=external))
    except Unsupported as error:
        return FaultPlan(marker, rights=rights, refused=error.what, external=external)


def _injected(rig: Rig, choice: FaultChoice, withholds: WithholdsChanges, plan: FaultPlan) -> FaultPlan:
    """The plan with what the fault itself has to say, which believes that it is injected."""
    try:
        choice.inject(rig)
    except NotInjected as held:
        fault, hold_for = held.fault, held.hold_for
    except Withheld as error:
        return replace(plan, unknown=f"it is withheld before it is injected: {error.what}")
    else:
        return replace(plan, unknown="it makes no injection")
    changes = withholds.changes_of(fault.strike)
    return replace(
        plan,
        text=fault.text,
        victims=tuple(fault.victims),
        steps=tuple(step for change in changes for step in withholds.steps(change)),
        heals=_heals(fault, hold_for),
        unknown="" if changes else "it changes nothing by a capability of the cluster",
    )


def _heals(fault: Fault, hold_for: float | None) -> str:
    if hold_for is not None:
        return f"{hold_for:g} s after the fault"
    held = getattr(fault, "hold", False)
    return "when nothing more comes or goes" if held else "when the experiment is over, where anything is left to heal"


def _marker(choice: FaultChoice) -> str:
    return f"{choice.kind}({', '.join(f'{name}={_shown(value)}' for name, value in choice.options.items())})"


def _shown(value: object) -> str:
    """A value of a marker; of a mapping the names, for its values may be secret."""
    return f"{{{', '.join(map(repr, value))}}}" if isinstance(value, Mapping) else repr(value)


def _named(component: Component) -> str:
    pid = "" if component.pid is None else f"PID {component.pid}, "
    return f"{component.name} ({pid}{component.identity})"


def _under(name: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """One row for each text, of which the first has the name."""
    for number, text in enumerate(texts):
        yield ("" if number else name), text
