"""The checks that a test brings: what a history keeps of them, and how they are made again from it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeAlias

from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import CheckDone
from pytest_serve_chaos.model import Checked, CheckSpec, Json

MakesCheck: TypeAlias = Callable[..., object]
"""A class of checks."""


def accepted(checks: object) -> tuple[Check, ...]:
    """These checks, if each is one, and no two have the same name.

    Raises:
        SettingsError: They are not in a list or the like, one is not a check, or two have the same name.
    """
    if not isinstance(checks, Iterable):
        raise SettingsError(f"checks: {checks!r} is not a list", fix=["put the check into brackets: checks=[...]"])
    found: list[Check] = []
    for check in checks:
        if isinstance(check, type) or not isinstance(check, Check):
            raise SettingsError(
                f"checks: {check!r} is not a check",
                checked=["its members: a check has name, on_requests, needs and judge"],
                fix=["give an object, not its class: checks=[P999(limit=0.5)]"],
            )
        if check.name in [other.name for other in found]:
            raise SettingsError(
                f"checks: two are called {check.name!r}",
                fix=["give each a name of its own: reports tell them apart by it"],
            )
        found.append(check)
    return tuple(found)


def together(always: Sequence[Check], checks: object) -> tuple[Check, ...]:
    """The checks of all tests and those of one test, which take the place of others of the same name.

    Raises:
        SettingsError: See `accepted`.
    """
    own = accepted(checks)
    names = {check.name for check in own}
    return (*(check for check in always if check.name not in names), *own)


def spec_of(check: Check) -> CheckSpec:
    """What a history keeps of a check."""
    return CheckSpec(check.name, _code(type(check)), _arguments(check))


def load_class(path: str) -> MakesCheck:
    """The class of checks that a user names as ``module:Class``.

    Raises:
        SettingsError: There is none.
    """
    module, colon, name = path.partition(":")
    fix = ["write the module and the class, and run where the module can be imported: my_checks:P999"]
    if not colon:
        raise SettingsError(f"{path!r} does not name a check", fix=fix)
    try:
        found: object = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        raise SettingsError(f"the check {path} cannot be loaded: {type(error).__name__}: {error}", fix=fix) from error
    if not isinstance(found, type):
        raise SettingsError(f"{path} is not a class", fix=fix)
    missing = [member for member in ("needs", "judge") if not callable(getattr(found, member, None))]
    if missing:
        raise SettingsError(
            f"{path} is not a class of checks",
            checked=[f"its members: it has no {' and no '.join(missing)}"],
            fix=["name a class with name, on_requests, needs and judge: see docs/add-a-check.md"],
        )
    return found


def from_history(record: Record, given: Sequence[Check], known: Sequence[MakesCheck]) -> tuple[Check, ...]:
    """The checks by which an experiment is judged: those given, and those of the test that are not among them."""
    names = {check.name for check in given}
    others = (spec for spec in record.demanded.checks if spec.name not in names)
    found = {event.found.check: event.found for event in record.of(CheckDone)}
    return (*given, *(_again(spec, found, known) for spec in others))


def was_judged_then(checks: Iterable[Check]) -> Iterator[str]:
    """A sentence for each check that was not asked again."""
    for check in checks:
        if isinstance(check, JudgedThen) and check.found is not None:
            yield (
                f"the check {check.name} ({check.code}) is not judged again{check.why_not}: "
                "what it found when the experiment ran counts"
            )


@dataclass(frozen=True, slots=True)
class JudgedThen:
    """A check that cannot be asked now; what it found when the experiment ran counts.

    Attributes:
        name: Its name.
        code: The class that it was of.
        found: None: the experiment ended before it was asked.
        why_not: Why it cannot be asked, as a clause.
    """

    name: str
    code: str
    found: Checked | None
    why_not: str = ""

    @property
    def on_requests(self) -> bool:
        """Unknown, so it makes no experiment passed that is only measured without it."""
        return self.found is not None and self.found.on_requests

    def needs(self, seen: Observation) -> Iterator[str]:
        """That it was asked once."""
        if self.found is None:
            yield f"the check {self.name} ({self.code}) was not judged{self.why_not}"

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """What it found."""
        if self.found is not None:
            yield from map(Missed, self.found.certain if seen.at_best else self.found.missed)
            yield from map(Unknown, self.found.unknown)


def _again(spec: CheckSpec, found: Mapping[str, Checked], known: Sequence[MakesCheck]) -> Check:
    """The check of that description, made again if its class is known."""
    name = spec.code.rpartition(":")[2]
    why_not = ""
    for make in known:
        if getattr(make, "__qualname__", "") != name:
            continue
        if spec.arguments is None:
            why_not = ", because its history does not say how to create it"
            continue
        try:
            return accepted([make(**spec.arguments)])[0]
        except Exception as error:  # whatever the user's class raises
            why_not = f", because it cannot be created: {type(error).__name__}: {error}"
    return JudgedThen(spec.name, spec.code, found.get(spec.name), why_not)


def _code(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _arguments(check: object) -> dict[str, Json] | None:
    """The arguments that create the check again; None if it is not a dataclass, or JSON cannot hold a value."""
    if not is_dataclass(check):
        return None
    try:
        return {field.name: _plain(getattr(check, field.name)) for field in fields(check) if field.init}
    except TypeError:
        return None


def _plain(value: object) -> Json:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"JSON has no {type(value).__name__}")
