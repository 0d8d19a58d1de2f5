"""The fault `app_update`: a running app is updated in place, by a change of the Serve config.

A good update is not a failure, but it replaces what serves. A bad one brings a version that does not work, and is taken
back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.app_updates import (
    OTHER_OPTIONS,
    Bad,
    Change,
    Planned,
    Wanted,
    makes_a_version,
    plan,
)
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import CARRIES_CODE, SHOWS_CONTROLLER_LOG
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import ServeStatus
from pytest_serve_chaos.errors import (
    CommandFailed,
    NotHealed,
    ObservationError,
    SettingsError,
    Unsupported,
    WaitTimeout,
    in_one_line,
)
from pytest_serve_chaos.events import Note, Remark, Rescaled
from pytest_serve_chaos.faults.admission import admit
from pytest_serve_chaos.faults.defaults import with_profile
from pytest_serve_chaos.faults.fault import Strike
from pytest_serve_chaos.faults.health_check import DEPLOYMENT
from pytest_serve_chaos.faults.injection import Injection
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.faults.spec import FaultSpec, Need, keyword
from pytest_serve_chaos.faults.updated_replicas import UpdatedReplicas, is_complete, planned_shape, shape_of_new_code
from pytest_serve_chaos.kinds import AppName, Choice, Duration, Kind
from pytest_serve_chaos.model import Component, Evidence, Expectations, Identity, Json
from pytest_serve_chaos.observe.shape import Shape
from pytest_serve_chaos.prediction import serve_rules

NAME = "app_update"

_VERB = "show the controller's log, without which it is unknown whether replicas are reconfigured"

BAD_FOR = 20.0
"""Seconds for which a bad version stays, unless the test says otherwise."""

_BEGINS_WITHIN = 60.0
"""Seconds in which something happens to the replicas: Serve imports the app first, and on Kubernetes KubeRay hands the
config over."""

_TAKEN_BACK_WITHIN = 150.0
_OTHERS = ("head", "gcs", "controller", "proxy", "replica@others")


@dataclass
class AppUpdated:
    """An app gets another config, and has the one of before again when it is healed.

    Attributes:
        planned: The update.
        before: The Serve config of before.
        shape: The shape of before.
        known: Serve's ids of the replicas of before.
        targets: How many replicas of each deployment Serve wanted before.
        rolls_back: Whether it takes the cluster to end it: Serve has to bring the old version back.
    """

    rig: Rig
    planned: Planned
    victims: tuple[Component, ...]
    given: Mapping[str, object]
    before: Mapping[str, Json] = field(repr=False)
    shape: Shape
    known: frozenset[str]
    targets: Mapping[str, int] = field(default_factory=dict)
    kind: str = NAME
    serves: bool = True
    rolls_back: ClassVar[bool] = True
    sign_within: ClassVar[float] = _BEGINS_WITHIN
    _changed: bool = field(default=False, init=False)
    _taken_back: bool = field(default=False, init=False)
    _new: frozenset[Identity] = field(default=frozenset(), init=False)

    @property
    def options(self) -> Mapping[str, object]:
        """What the marker said."""
        return {"how": "update", **self.given}

    @property
    def text(self) -> str:
        """A description of the fault, for people."""
        return self.planned.text

    @property
    def sick(self) -> tuple[Component, ...]:
        """The replicas of the old version, all of which a good update replaces."""
        good = self.planned.wanted.replaces and self.planned.wanted.bad is None
        return self.victims if good and not self._taken_back else ()

    @property
    def spares_victims(self) -> bool:
        """Whether the old replicas live on: all of them, or those that a bad version does not replace."""
        return not self.planned.wanted.replaces or self.planned.wanted.bad is not None

    @property
    def _replicas(self) -> UpdatedReplicas:
        return UpdatedReplicas(self.planned, self.victims, self.known, self.targets)

    def strike(self) -> Strike:
        """Submits the changed config, and waits until something happens to a replica."""
        asked = clock.now()
        self._changed = True
        self.rig.cluster.apply_serve_config(self.planned.config)
        self.rig.health.expect(planned_shape(self.shape, self.planned))
        _write_numbers(self.rig, self.planned.old.replicas, self.planned.new.replicas, at=asked)
        within = self.rig.sign_within(_BEGINS_WITHIN)
        try:
            sign = clock.wait_until(
                "a replica to be updated", lambda: self._of_replicas(asked), timeout=within, interval=0.1
            )
        except WaitTimeout as error:
            status = self._status()
            said = "; ".join([] if status is None else self.planned.new.lacks(status))
            self.rig.log.add(Note(f"{error.what}{said and f'. Serve says: {said}'}"))
            return Strike(asked, ())
        # It is graceful, so no request counts as in flight on what goes.
        return Strike(asked, (sign,))

    def sign(self, struck: float) -> Evidence | None:
        """Serve says that it runs the new config, and for new code that there is a replica of it."""
        del struck
        status = self._status()
        if status is None or self.planned.new.accepted(status):
            return None
        if not self.planned.wanted.replaces:
            return Evidence(clock.now(), "cluster", f"Serve's REST says so: {self.planned.text}")
        new = self._replicas.listed_since(status)
        if not new:
            return None
        return Evidence(
            clock.now(),
            "cluster",
            f"Serve lists a new replica, {new[0].deployment}#{new[0].replica_id} ({new[0].state})",
        )

    def unfinished(self) -> list[str]:
        """What of the update, or of taking it back, is not complete."""
        planned = self.planned
        if planned.wanted.bad is not None and not self._taken_back:
            return ["the update is not taken back"]
        status = self.rig.watcher.report.serve
        if status is None:
            return ["Serve's REST does not answer"]
        if self._taken_back:
            return planned.old.lacks(status)
        self._expect(status)
        return planned.new.lacks(status)

    def heal(self) -> None:
        """Submits the config of before, and waits until Serve runs it.

        Raises:
            NotHealed: It does not.
        """
        if not self._changed:
            return
        if not self._taken_back:
            self._look_at_what_is_left()
            if self.planned.wanted.replaces:
                self._new = frozenset(c.identity for c in self._replicas.came(self.rig.watcher.sample()))
        _write_numbers(self.rig, self.rig.health.shape.replicas, self.shape.replicas)
        self.rig.health.expect(self.shape)
        self._taken_back = True
        try:
            self._wait_until_taken_back()
        except WaitTimeout as error:
            raise NotHealed(f"the update was not taken back: {error.what}") from error
        self._changed = False

    def _wait_until_taken_back(self) -> None:
        deadline = clock.now() + _TAKEN_BACK_WITHIN
        submit = partial(_submit, self.rig, self.before)
        clock.wait_until("the old Serve config to be taken", submit, timeout=_TAKEN_BACK_WITHIN, interval=1.0)
        submitted = clock.now()

        def back() -> bool | NotYet:
            report = self.rig.watcher.report
            if report.at < submitted:
                return NotYet("Serve has said nothing since")
            there = [
                c
                for c in self.rig.watcher.sample().components
                if c.identity in self._new and not is_complete(report.serve, c.deployment or "")
            ]
            left = [f"{c.name} (PID {c.pid}) of the new version is there" for c in there]
            lacking = [*left, *self.unfinished()]
            return NotYet("; ".join(lacking)) if lacking else True

        left = max(1.0, deadline - clock.now())
        clock.wait_until("the app to run as before the update", back, timeout=left, interval=0.2)

    # -- what is seen of it -------------------------------------------------------------------------------------

    def _of_replicas(self, asked: float) -> Evidence | NotYet:
        """The sign from the replicas' side."""
        if not self.planned.wanted.replaces and self.planned.wanted.change != "num_replicas":
            return self._reconfigured(asked)
        return self._replicas.sign(self.rig.watcher.sample()) or NotYet("no replica came or went")

    def _reconfigured(self, asked: float) -> Evidence | NotYet:
        """A replica that is reconfigured shows nothing itself; the controller logs that it called it."""
        logs = self.rig.capability(SHOWS_CONTROLLER_LOG, _VERB)
        names = "|".join(re.escape(name.partition("#")[2]) for name in self.planned.deployments)
        lines = logs.controller_log(pattern=rf"Updating \d+ replicas of .*({names})", since=asked)
        if not lines:
            return NotYet("the controller has reconfigured no replica")
        return Evidence(clock.now(), "victim", f"the controller reconfigures them: {lines[0][-160:]}")

    def _look_at_what_is_left(self) -> None:
        """Writes down how far a bad update got."""
        if self.planned.wanted.bad is None:
            return
        now, status = self.rig.watcher.sample(), self._status()
        left = sum(now.find(c.identity) is not None for c in self.victims)
        app = self.planned.new.app
        said = "did not answer" if status is None else f"said that the app is {status.apps.get(app, 'not there')}"
        replicas = f"{left} of {len(self.victims)} old replicas were left"
        self.rig.log.add(Remark(f"when the update was taken back, {replicas}, and Serve {said}"))

    def _expect(self, status: ServeStatus) -> None:
        """Takes over how many replicas the new version has, once Serve knows it."""
        shape = self.rig.health.shape
        changed = shape_of_new_code(shape, self.planned, status)
        if changed != shape:
            self.rig.health.expect(changed)
            _write_numbers(self.rig, shape.replicas, changed.replicas)

    def _status(self) -> ServeStatus | None:
        try:
            return self.rig.cluster.dashboard.serve()
        except ObservationError:
            return None


def _submit(rig: Rig, config: Mapping[str, Json]) -> bool | NotYet:
    try:
        rig.cluster.apply_serve_config(config)
    except CommandFailed as error:  # there may be no head at the moment
        return NotYet(in_one_line(error))
    return True


def _write_numbers(rig: Rig, before: Mapping[str, int], now: Mapping[str, int], *, at: float | None = None) -> None:
    """Writes which numbers of replicas an update changes; those that Serve scales are seen by the watcher."""
    at = clock.now() if at is None else at
    for name, n in now.items():
        if name not in rig.health.shape.autoscaled and before.get(name, n) != n:
            text = f"{name}: {before[name]} were wanted, and now {n}"
            rig.log.add(Rescaled(text, at=at, what=name, before=before[name], now=n))


# -- the target -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AppTarget:
    """An app: ``chaos.app(name)``."""

    rig: Rig
    name: str | None = None

    def update(
        self,
        change: Change = "code",
        *,
        bad: Bad | None = None,
        deployment: str | None = None,
        to: Json = None,
        for_: float | str | None = None,
        must_land: bool = True,
    ) -> Injection:
        """Updates it in place; returns as soon as the update is seen to begin. Healing brings the old config back.

        Args:
            change: ``code``: all replicas are replaced by those of a new version; ``user_config``; ``options`` of a
                deployment; ``num_replicas``.
            bad: What is wrong with the new version: ``constructor`` (it raises), ``health_check`` (it fails a few
                seconds after the start) or ``answers`` (errors).
            deployment: The deployment; None: the one that answers requests.
            to: The new value: an import path or fields of the app for ``code``, the `user_config`, options by name, or
                a number. None: one that the plugin chooses.
            for_: How long a bad version stays; None: until it is healed.
            must_land: Whether it is an error if nothing shows that the update began.

        Raises:
            NotLanded: Nothing shows that it began.
            SettingsError: The test has to say more.
            Unsupported: The cluster is external, or this app cannot be updated so.
        """
        said = {"change": change, "bad": bad, "app": self.name, "deployment": deployment, "to": to, "for_": for_}
        given = {name: value for name, value in said.items() if value is not None}
        choice = FAULT.choose(given)
        for need in FAULT.needs:
            if need.applies(choice.how, choice.keywords):
                self.rig.require(need.capabilities, need.action)
        keywords = choice.keywords
        assert isinstance(keywords, AppUpdateKeywords)
        return _update(self.rig, keywords, given, hold_for=keywords.for_, must_land=must_land)


def _update(
    rig: Rig, keywords: AppUpdateKeywords, given: Mapping[str, object], *, hold_for: float | None, must_land: bool
) -> Injection:
    options = {"how": "update", **given}
    admit(rig, NAME, options)  # before Serve is asked
    before = rig.cluster.serve_config
    status = rig.cluster.dashboard.serve()
    planned = plan(before, status, keywords.wanted, next(rig.run.updates))
    _check_code(rig, keywords.to if keywords.change == "code" else None)
    victims = tuple(c for c in rig.watcher.sample().of("replica") if c.deployment in planned.deployments)
    known = frozenset(row.replica_id for row in status.replicas)
    fault = AppUpdated(rig, planned, victims, given, before, rig.health.shape, known, status.targets)
    return Injection(rig, fault, hold_for=hold_for, must_land=must_land)


def _check_code(rig: Rig, to: Json) -> None:
    """A version of the user's own must be importable where the cluster runs it.

    Raises:
        Unsupported: Its code is here, and not there.
    """
    path = to.get("import_path") if isinstance(to, dict) else to
    carries = rig.cluster.capability(CARRIES_CODE)
    if not isinstance(path, str) or carries is None:
        return
    reason = carries.why_not(path)
    if reason:
        raise Unsupported(
            f"the cluster cannot import {path}: {reason}",
            fix=["have the app that the cluster starts with import that module", "or put it into the image"],
        )


# -- the fault --------------------------------------------------------------------------------------------------------


class _Value(Kind):
    """A value of JSON."""

    def __init__(self) -> None:
        super().__init__("what the change takes: an import path, a user_config, options by name, a number of replicas")

    def take(self, value: object, base: Path) -> object:
        """The value itself."""
        if value is not None and not isinstance(value, str | int | float | bool | list | dict):
            raise ValueError(value)
        return value


@dataclass(frozen=True)
class AppUpdateKeywords:
    """What its marker can say."""

    change: Change = keyword(Choice("code", "user_config", "options", "num_replicas"), "code")
    bad: Bad | None = keyword(Choice("constructor", "health_check", "answers"), None)
    app: str | None = keyword(AppName(), None)
    deployment: str | None = keyword(DEPLOYMENT, None)
    to: Json = keyword(_Value(), None, secret=True)
    for_: float | None = keyword(Duration(), None)

    def __post_init__(self) -> None:
        if self.bad is not None and (self.change != "code" or self.to is not None):
            raise SettingsError(
                f"bad={self.bad!r} makes a new version of the code by itself",
                fix=["leave `to` out, and give change='code' or no `change`"],
            )
        if self.for_ is not None and self.bad is None:
            raise SettingsError("for_ says how long a bad version stays", fix=["say bad=... as well, or no for_"])
        if self.to is not None:
            self._check_value(self.to)

    def _check_value(self, to: Json) -> None:
        shown = _shown(to)
        if self.change == "num_replicas" and (not isinstance(to, int) or isinstance(to, bool) or to < 1):
            raise SettingsError(f"num_replicas cannot become {shown}", fix=["give a whole number, 1 or more: to=4"])
        if self.change == "options" and (not isinstance(to, dict) or not to):
            raise SettingsError(f"{shown} are not options of a deployment", fix=["to={'max_ongoing_requests': 20}"])
        if self.change == "options" and isinstance(to, dict) and (wrong := sorted(OTHER_OPTIONS & to.keys())):
            raise SettingsError(f"{wrong[0]} is not changed as an option", fix=["see change='...', or leave it out"])
        if self.change == "code" and not (
            (isinstance(to, dict) and makes_a_version(to)) or (isinstance(to, str) and re.search("[:.]", to))
        ):
            raise SettingsError(
                f"{shown} does not name a new version",
                checked=["import_path, args and runtime_env, of which at least one makes another version"]
                if isinstance(to, dict)
                else [],
                fix=["to='module:app', or to={'import_path': ..., ...}"],
            )

    @property
    def wanted(self) -> Wanted:
        """The update."""
        return Wanted(self.change, self.bad, self.app, self.deployment, self.to)


def _shown(to: Json) -> str:
    """A new value for people: of a mapping the names, for a value may be secret."""
    return f"{{{', '.join(map(repr, to))}}}" if isinstance(to, dict) else repr(to)


def _inject(rig: Rig, how: str, given: AppUpdateKeywords, must_land: bool) -> Injection:
    said = {name: value for name, value in vars(given).items() if value is not None}
    stays = (given.for_ or BAD_FOR) if given.bad is not None else None
    return _update(rig, given, said, hold_for=stays, must_land=must_land)


def _touch(how: str, given: AppUpdateKeywords) -> Touch:
    return Touch(refused="the plugin does not change the Serve config of an external RayService, so it updates no app")


def _adapted(expected: Expectations, cluster: ClusterSpec, how: str, given: AppUpdateKeywords) -> Expectations:
    """What is expected of that update.

    Serve does not look at answers, so nothing protects an app from a version whose answers are errors: what is expected
    then is that all is well again once it is taken back.
    """
    stays = given.for_ or BAD_FOR
    if given.bad is None:
        if given.wanted.replaces:
            return with_profile(expected, cluster)
        kept = _OTHERS if given.change == "num_replicas" else (*_OTHERS, "replica@victims")
        return with_profile(replace(expected, replaced=(), kept=kept), cluster)
    back = stays + (300.0 if cluster.profile == "guide" else _TAKEN_BACK_WITHIN + 10.0)
    bad = replace(expected, replaced=(), window=stays + 10.0, traffic_back=stays + 30.0, redundancy_back=back)
    if given.bad == "answers":
        return replace(
            bad, availability=None, lost_beyond_in_flight=None, longest_outage=stays + 60.0, traffic_back=stays + 60.0
        )
    # A replica that becomes unhealthy is ended at once, with the requests that it has.
    lost = 0 if given.bad == "constructor" else None
    return replace(bad, surviving=0.8, lost_beyond_in_flight=lost)


FAULT = FaultSpec(
    name=NAME,
    breaks="a running app, by an update in place of its code, user_config, options or num_replicas",
    verbs=("update",),
    keywords=AppUpdateKeywords,
    inject=_inject,
    expectations=Expectations(lost_beyond_in_flight=0, replaced=("replica@victims",), kept=_OTHERS),
    adapt=_adapted,
    needs=tuple(Need((SHOWS_CONTROLLER_LOG,), _VERB, only={"change": change}) for change in ("user_config", "options")),
    external=_touch,
    loses=("replica",),
    target="chaos.app(name)",
    effect="nothing, if the new version is good: Serve updates the app in place",
    dry_run=True,
    predict=serve_rules.app_update,
)
