"""In what the two sides of a comparison differ: settings of this plugin, and environment variables of the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos.comparing.child_run import Side
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.kinds import Flag
from pytest_serve_chaos.masking import with_masked_secrets
from pytest_serve_chaos.options import OPTIONS, Option, option

BACKEND = option("backend")
ON_LOCAL = f"{BACKEND.flag}=local"
"""What makes a run take the Ray of its environment, whatever the configuration says."""

_ENV = option("env")

_OURS = ("report_dir", "seed", "dry_run")
"""Settings that the command itself gives each run, or that would leave nothing to compare."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting, or a variable, with its value on each side.

    Attributes:
        key: Its name.
        values: The old value and the new one.
        row: The setting; None where it is an environment variable of the cluster.
    """

    key: str
    values: tuple[str, str] = field(repr=False)
    row: Option | None = None

    @property
    def same(self) -> bool:
        """Whether both sides have the same value."""
        return self.values[0] == self.values[1]

    @property
    def secret(self) -> bool:
        """Whether its values are shown nowhere."""
        if self.row is not None:
            return self.row.secret
        return any(with_masked_secrets(text) != text for text in self._variables)

    def variable(self, side: int) -> str:
        """``KEY=VALUE`` of that side."""
        return self._variables[side]

    @property
    def _variables(self) -> tuple[str, str]:
        return f"{self.key}={self.values[0]}", f"{self.key}={self.values[1]}"


def differences_of(texts: Sequence[str], arguments: Sequence[str] = ()) -> list[Difference]:
    """What ``--set`` says; a key that was given once has the same value on both sides.

    Args:
        texts: ``KEY=VALUE``, each key once or twice.
        arguments: Those of pytest on both sides.

    Raises:
        SettingsError: One of them cannot be used.
    """
    given: dict[tuple[str, Option | None], list[str]] = {}
    for text in texts:
        key, row, value = _read(text)
        given.setdefault((key, row), []).append(value)
    found = []
    for (key, row), values in given.items():
        if len(values) > 2:
            raise SettingsError(f"--set {key} was given {len(values)} times", fix=["give the old and the new value"])
        found.append(Difference(key, (values[0], values[-1]), row))
    variables = any(one.row is None for one in found)
    if variables and any(word.startswith(f"{_ENV.flag}=") for word in arguments) and _are_secret(found):
        raise SettingsError(
            f"{_ENV.flag} after -- would take the place of the variables that --set gives",
            fix=["give all of them with --set: one that is given once has the same value on both sides"],
        )
    return found


def _read(text: str) -> tuple[str, Option | None, str]:
    """The key, its setting, and the value.

    Raises:
        SettingsError: There is no such setting, or the value cannot be used.
    """
    key, equals, value = text.partition("=")
    name = key.removeprefix("serve_chaos_").replace("-", "_")
    if not equals or not name.isidentifier():
        shown = key if equals else text
        raise SettingsError(f"--set {shown!r} is not KEY=VALUE", fix=["write --set workers=2 --set workers=3"])
    row = next((row for row in OPTIONS if row.name == name), None)
    if row == _ENV:
        _require_valid(_ENV, value)
        key, _, value = value.partition("=")
        return key, None, value
    if row is None:
        if not any(letter.isupper() for letter in key):
            raise SettingsError(
                f"there is no setting {key!r}",
                checked=[f"the settings: {', '.join(row.name for row in OPTIONS)}"],
                fix=[f"if it is an environment variable of the cluster, write --set env={key}=VALUE"],
            )
        _require_valid(_ENV, text)
        return key, None, value
    if name in _OURS:
        raise SettingsError(f"--set {key}: each run of a comparison has its own", fix=["leave it out; see --help"])
    _require_valid(row, value)
    return name, row, value


def _require_valid(row: Option, value: str) -> None:
    """Refuses at once what pytest would refuse once it is that side's turn."""
    try:
        for text in row.kind.split(value) if row.kind.repeated else (value,):
            row.kind.parse(text, Path.cwd())
    except ValueError:
        shown = "" if row.secret else f"={value}"
        raise SettingsError(f"--set {row.name}{shown} cannot be used: it must be {row.kind.must}") from None


def _are_secret(differences: Sequence[Difference]) -> bool:
    return any(one.secret for one in differences if one.row is None)


def side_of(place: int, python: Path, ray: str, differences: Sequence[Difference]) -> Side:
    """The old side (0) or the new one (1), which is called after what differs.

    Args:
        place: 0 or 1.
        python: The interpreter of its environment.
        ray: Its Ray, as people call it; "": it is that of the environment in which the command runs.
        differences: What is set.
    """
    arguments = [ON_LOCAL] if ray else []
    environment, names = {}, [f"Ray {ray}"] if ray else []
    for one in differences:
        value = one.values[place]
        if one.row is not None and (one.row.secret or isinstance(one.row.kind, Flag)):
            environment[one.row.env] = value
        elif one.row is not None:
            arguments.append(f"{one.row.flag}={value}")
        if not one.same:
            names.append(f"{('old', 'new')[place]} {one.key}" if one.secret else f"{one.key}={value}")
    variables = list(_variables(differences, place))
    if _are_secret(differences):  # pytest takes all variables from one place
        environment[_ENV.env] = "\n".join(variables)
    else:
        arguments += [f"{_ENV.flag}={variable}" for variable in variables]
    return Side(", ".join(names), python, tuple(arguments), environment)


def _variables(differences: Sequence[Difference], place: int) -> Iterator[str]:
    return (one.variable(place) for one in differences if one.row is None)
