"""A fault as this package and plugins describe it: `FaultSpec` says all there is to know about one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from pytest_serve_chaos.analysis.configuration import Configuration
from pytest_serve_chaos.cluster.capabilities import AnyCapability
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.storage import no_redis
from pytest_serve_chaos.cluster.total_loss import ALLOW_TOTAL_LOSS, CAN_BE_THE_LAST
from pytest_serve_chaos.errors import SettingsError, nearest
from pytest_serve_chaos.faults.admission import admit, require_its_owner_left_it_alone
from pytest_serve_chaos.faults.defaults import FREEZE_FOR, with_profile
from pytest_serve_chaos.kinds import AppName, Bool, Choice, DeploymentName, Duration, Kind, NodeName
from pytest_serve_chaos.model import ConfigWarning, Loss

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import ClusterSpec, Gcs
    from pytest_serve_chaos.faults.injection import Injection
    from pytest_serve_chaos.faults.rig import Rig
    from pytest_serve_chaos.model import Expectations, Topology
    from pytest_serve_chaos.predicted import Prediction
    from pytest_serve_chaos.prediction.situation import Situation

T = TypeVar("T")
K_co = TypeVar("K_co", covariant=True)
"""The dataclass of a fault's keywords. Only `FaultSpec.choose` makes one, so a fault never gets another fault's."""

_KIND, _VERBS, _WITH = "kind", "verbs", "with"


# -- keywords ---------------------------------------------------------------------------------------------------------


def keyword(
    kind: Kind,
    default: T,
    *,
    verbs: Collection[str] = (),
    only_with: Mapping[str, str] | None = None,
    secret: bool = False,
) -> T:
    """A field of a fault's keywords, for the right-hand side in its dataclass.

    Args:
        kind: What a valid value is.
        default: The value of a marker that does not say it.
        verbs: The verbs that it goes with; none: all of them.
        only_with: Verb -> the keyword that must be True where this one is given with that verb.
        secret: Whether no repr shows the value.
    """
    metadata = {_KIND: kind, _VERBS: tuple(verbs), _WITH: MappingProxyType(dict(only_with or {}))}
    return field(default=default, metadata=metadata, repr=not secret)


def freeze_for() -> float:
    """The keyword `for_` of faults with the verb ``freeze``."""
    return keyword(Duration(), FREEZE_FOR, verbs=["freeze"])


def hold() -> bool:
    """The keyword `hold` of faults whose victim can be kept down."""
    return keyword(Bool(), default=False, verbs=["kill", "stop"])


def away_for() -> float | None:
    """The keyword `for_` of faults whose victim can be frozen, or kept down with `hold`, for that long."""
    return keyword(Duration(), None, verbs=["kill", "stop", "freeze"], only_with={"kill": "hold", "stop": "hold"})


@dataclass(frozen=True, slots=True)
class Keyword:
    """One keyword of a marker.

    Attributes:
        name: ``for_``.
        kind: What a valid value is.
        verbs: The verbs that it goes with.
        default: The value of a marker that does not say it.
        only_with: Verb -> the keyword that must be True where this one is given with that verb.
    """

    name: str
    kind: Kind
    verbs: tuple[str, ...]
    default: object
    only_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoKeywords:
    """For a fault whose marker says nothing but `how`."""


# -- needs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """A capability of the cluster without which a fault cannot be injected.

    Attributes:
        capabilities: Keys, as in `cluster.capabilities`; one of them is enough.
        action: What takes it, after "the backend cannot": ``freeze a node``.
        verbs: The verbs that need it; none: all of them.
        only: Keywords with the values for which it is needed; none: always.
    """

    capabilities: tuple[AnyCapability, ...]
    action: str
    verbs: tuple[str, ...] = ()
    only: Mapping[str, object] = field(default_factory=dict)

    def applies(self, how: str, keywords: object) -> bool:
        """Whether it is needed for that verb with these keywords."""
        wanted = all(getattr(keywords, name) == value for name, value in self.only.items())
        return wanted and (not self.verbs or how in self.verbs)


# -- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FaultSpec(Generic[K_co]):
    """One fault. The marker, its validation, the default expectations and the tables of the docs are made of this.

    Attributes:
        name: Of the fault and of its marker: ``head_failure``.
        breaks: One line of documentation, after "the test breaks": ``the Serve controller``.
        verbs: The values of `how`, the default first.
        keywords: A dataclass with what else the marker can say; each field is a `keyword`.
        inject: Applies it: the rig, the verb, the keywords, and whether a fault that does not land is an error.
        expectations: What a test demands that says nothing else.
        adapt: These, where they depend on the cluster, the verb or the keywords.
        needs: The capabilities of the cluster that it takes.
        external: What it does to an external cluster, by verb and keywords. None: it is refused there.
        loses: What it always takes away, by which the check of the configuration warns and a policy decides.
        warnings: What else it has to say about a configuration.
        not_shown: Why traffic cannot show it: the topology, requests per second, the verb, the keywords.
        target: The same fault by hand: ``chaos.head``.
        effect: What breaks, for the README.
        gcs: Where the GCS must keep its state, so that the fault can exist; empty: anywhere.
        dry_run: Whether all that it changes goes through capabilities of the cluster, and through its Serve config.
            Then a dry run calls `inject` and `Fault.strike`, withholds each change and shows it; else it calls neither.
        predict: What it is expected to cost, from what is known just before it. None: there is no prediction.
    """

    name: str
    breaks: str
    verbs: tuple[str, ...]
    keywords: type[K_co]
    inject: Callable[[Rig, str, K_co, bool], Injection]
    expectations: Expectations
    adapt: Callable[[Expectations, ClusterSpec, str, K_co], Expectations] | None = None
    needs: tuple[Need, ...] = ()
    external: Callable[[str, K_co], Touch] | None = None
    loses: tuple[Loss, ...] = ()
    warnings: Callable[[Configuration], Iterable[ConfigWarning]] | None = None
    not_shown: Callable[[Topology, float, str, K_co], Iterator[str]] | None = None
    target: str = ""
    effect: str = ""
    gcs: tuple[Gcs, ...] = ()
    dry_run: bool = False
    predict: Callable[[Situation], Prediction] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingsError(f"{self.name!r} cannot be the name of a fault", fix=["take a Python identifier"])
        if not self.verbs:
            raise SettingsError(f"the fault {self.name} has no verb", fix=["give one, for example verbs=('kill',)"])
        for one in fields(self.keywords) if is_dataclass(self.keywords) else ():
            if one.name in ("how", ALLOW_TOTAL_LOSS) or _KIND not in one.metadata or one.default is MISSING:
                raise SettingsError(
                    f"{one.name} of {self.keywords.__name__} cannot be a keyword of the fault {self.name}",
                    fix=[
                        "declare it as name: type = keyword(kind, default);"
                        f" `how` and `{ALLOW_TOTAL_LOSS}` are there already"
                    ],
                )
        if not is_dataclass(self.keywords):
            raise SettingsError(
                f"the keywords of the fault {self.name} are not a dataclass",
                checked=[repr(self.keywords)],
                fix=["give a dataclass whose fields are made by `keyword`, or NoKeywords"],
            )

    @property
    def options(self) -> tuple[Keyword, ...]:
        """The keywords of its marker, without `how`."""
        own = tuple(self._option(one) for one in fields(self.keywords))  # type: ignore[arg-type]
        return (*own, Keyword(ALLOW_TOTAL_LOSS, Bool(), self.verbs, default=False)) if self.can_lose_all else own

    @property
    def can_lose_all(self) -> bool:
        """Whether it may take the last replica, worker or node of an external cluster, if a test says that it shall."""
        if self.external is None or not CAN_BE_THE_LAST.intersection(self.loses):
            return False
        usual = self.keywords()
        return any(not self.external(how, usual).refused for how in self.verbs)

    @property
    def marker(self) -> str:
        """Its marker, as `pytest --markers` shows it."""
        names = ", ".join(("how", *(one.name for one in self.options)))
        return f"{self.name}({names}): the test breaks {self.breaks} (how: {', '.join(self.verbs)})."

    def choose(self, given: Mapping[str, object]) -> FaultChoice:
        """The fault as a test wants it.

        Args:
            given: What the marker says; what is left out keeps its default.

        Raises:
            SettingsError: There is no such keyword, a value is not valid, or a keyword does not go with the verb.
        """
        verb = Keyword("how", Choice(*self.verbs), self.verbs, self.verbs[0])
        known = {one.name: one for one in (verb, *self.options)}
        for name in given:
            if name not in known:
                raise SettingsError(
                    f"@pytest.mark.{self.name} has no keyword {name!r}",
                    fix=[f"the keywords of {self.name} are {', '.join(known)}"],
                )
        said: dict[str, object] = {"how": self.verbs[0]}
        said |= {name: self._value(known[name], value) for name, value in given.items()}
        how = str(said["how"])
        for one in known.values():
            if one.name in said and how not in one.verbs:
                raise SettingsError(
                    f"{one.name} in @pytest.mark.{self.name} goes with how={' or '.join(map(repr, one.verbs))} only,"
                    f" and how is {how!r}",
                    fix=[f"leave {one.name} out", *(f"or write how={verb!r}" for verb in one.verbs)],
                )
            needed = one.only_with.get(how)
            if one.name in said and needed is not None and said.get(needed) is not True:
                raise SettingsError(
                    f"{one.name} in @pytest.mark.{self.name} goes with {needed}=True where how is {how!r}",
                    fix=[f"add {needed}=True", f"or leave {one.name} out"],
                )
        of_the_fault = {name: value for name, value in said.items() if name not in ("how", ALLOW_TOTAL_LOSS)}
        keywords = self.keywords(**of_the_fault)
        return FaultChoice(self, how, keywords, MappingProxyType(said))

    def _option(self, one: Field[object]) -> Keyword:
        verbs = tuple(verb for verb in self.verbs if not one.metadata[_VERBS] or verb in one.metadata[_VERBS])
        return Keyword(one.name, one.metadata[_KIND], verbs, one.default, one.metadata[_WITH])

    def _value(self, one: Keyword, value: object) -> object:
        try:
            return one.kind.take(value, Path())
        except ValueError as error:
            raise SettingsError(
                f"Invalid {one.name}={value!r} in @pytest.mark.{self.name}: it must be {one.kind.must}"
            ) from error


@dataclass(frozen=True, slots=True)
class FaultChoice:
    """A fault as a test wants it: with a verb and keywords that are valid.

    Attributes:
        spec: The fault.
        how: The verb.
        keywords: The dataclass that the fault has for them.
        options: What the marker says of them, and `how`; durations are seconds.
    """

    spec: FaultSpec[object]
    how: str
    keywords: object
    options: Mapping[str, object] = field(repr=False)

    @property
    def kind(self) -> str:
        """The marker's name: ``head_failure``."""
        return self.spec.name

    @property
    def held_for(self) -> float:
        """Seconds after which it heals by itself; 0 if nothing says for how long it stays."""
        lasts = self.options.get("for_")
        return lasts if isinstance(lasts, float) else 0.0

    @property
    def allow_total_loss(self) -> bool:
        """Whether nothing need be left of what it takes away."""
        return self.options.get(ALLOW_TOTAL_LOSS) is True

    def check_cluster(self, cluster: ClusterSpec) -> None:
        """Makes sure, before there is such a cluster, that it will have what the fault breaks.

        Raises:
            Unsupported: It will not.
        """
        if self.spec.gcs and cluster.gcs not in self.spec.gcs:
            raise no_redis(cluster.gcs)

    def check_nodes(self, workers: int) -> None:
        """Makes sure, before there is a cluster of so many workers, that it will have the nodes that the marker names.

        Raises:
            SettingsError: It will not.
        """
        for one in self.spec.options:
            value = self.options.get(one.name)
            if isinstance(one.kind, NodeName) and one.kind.out_of_range(value, workers):
                names = ", ".join(f"worker-{number}" for number in range(1, workers + 1)) or "none"
                raise SettingsError(
                    f"{one.name}={value!r} in @pytest.mark.{self.kind}: the cluster will not have such a node",
                    checked=[f"its workers: {names}"],
                    fix=[
                        "name one of these",
                        "or give it more workers: --serve-chaos-workers, or the same of the marker",
                    ],
                )

    def check_names(self, apps: Mapping[str, Collection[str]]) -> None:
        """Makes sure, before there is a cluster with these apps and their deployments, that it will have what is named.

        Raises:
            SettingsError: It will not.
        """
        deployments = [f"{app}#{name}" for app, names in apps.items() for name in names]
        for one in self.spec.options:
            value = self.options.get(one.name)
            if (
                value is not None
                and isinstance(one.kind, (AppName, DeploymentName))
                and one.kind.is_none_of(value, apps)
            ):
                there = list(apps) if isinstance(one.kind, AppName) else deployments
                meant = nearest(str(value), [*there, *(name.rpartition("#")[2] for name in there)])
                raise SettingsError(
                    f"{one.name}={value!r} in @pytest.mark.{self.kind}: the Serve config has no such {one.name}",
                    checked=[f"what it has: {', '.join(there)}"],
                    fix=[f"write {one.name}={meant!r}" if meant else "name one of these"],
                )

    def inject(self, rig: Rig, *, must_land: bool = False) -> Injection:
        """Applies it. Unless it must land, whether it did is for the verdict to say.

        Raises:
            Unsupported: The cluster cannot do it.
            NotLanded: It must land, and did not.
        """
        for need in self.spec.needs:
            if need.applies(self.how, self.keywords):
                rig.require(need.capabilities, need.action)
        # An injection asks again, with its victims; but a fault of a plugin may change something before there is one.
        admit(rig, self.kind, self.options)
        require_its_owner_left_it_alone(rig)
        with rig.current.allowing_total_loss(self.allow_total_loss):
            return self.spec.inject(rig, self.how, self.keywords, must_land)

    def expectations(self, cluster: ClusterSpec) -> Expectations:
        """What is demanded by default on such a cluster."""
        if self.spec.adapt is None:
            return with_profile(self.spec.expectations, cluster)
        return self.spec.adapt(self.spec.expectations, cluster, self.how, self.keywords)

    def touch(self) -> Touch:
        """What it does to an external cluster. A fault that does not say so is refused there."""
        if self.spec.external is None:
            return Touch(refused=f"{self.kind} does not say what it does to an external cluster, so it is refused")
        touch = self.spec.external(self.how, self.keywords)
        return replace(touch, loses=(*self.spec.loses, *touch.loses), allow_total_loss=self.allow_total_loss)

    def not_shown(self, topology: Topology, rate: float) -> Iterator[str]:
        """Why traffic cannot show it at all, each with the way out.

        Args:
            topology: Who is alive.
            rate: Requests per second.
        """
        if self.spec.not_shown is not None:
            yield from self.spec.not_shown(topology, rate, self.how, self.keywords)
