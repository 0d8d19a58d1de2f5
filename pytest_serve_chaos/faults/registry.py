"""All faults by name: those of this package, and those that plugins add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.spec import FaultChoice, FaultSpec


@dataclass(frozen=True)
class FaultRegistry:
    """The faults that a run knows, in the order in which tables have them."""

    specs: tuple[FaultSpec[object], ...]

    def __post_init__(self) -> None:
        names = [spec.name for spec in self.specs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(
                f"there are two faults with the name {twice[0]}",
                checked=[f"{spec.name}: {spec.breaks}" for spec in self.specs if spec.name == twice[0]],
                fix=["rename one of them, or leave out the plugin that adds it: pytest -p no:NAME"],
            )

    def __iter__(self) -> Iterator[FaultSpec[object]]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __contains__(self, name: object) -> bool:
        return any(spec.name == name for spec in self.specs)

    def __getitem__(self, name: str) -> FaultSpec[object]:
        for spec in self.specs:
            if spec.name == name:
                return spec
        raise SettingsError(
            f"there is no fault {name!r}", fix=[f"the faults are {', '.join(spec.name for spec in self.specs)}"]
        )

    def choose(self, name: str, given: Mapping[str, object] | None = None) -> FaultChoice:
        """A fault as a test wants it; what is not given keeps its default.

        Raises:
            SettingsError: There is no such fault, or it does not take these keywords.
        """
        return self[name].choose(given or {})

    def with_those_of_plugins(self, added: Iterable[object]) -> FaultRegistry:
        """These faults, and those that the hook `pytest_serve_chaos_faults` gave.

        Raises:
            SettingsError: Something is not a `FaultSpec`, or two faults have one name.
        """
        more: list[FaultSpec[object]] = []
        for one in added:
            if not isinstance(one, FaultSpec):
                raise SettingsError(
                    f"pytest_serve_chaos_faults gave {one!r}, which is not a FaultSpec",
                    fix=["return a list of pytest_serve_chaos.FaultSpec"],
                )
            more.append(one)
        return FaultRegistry((*self.specs, *more))
