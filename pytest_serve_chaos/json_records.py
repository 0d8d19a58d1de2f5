"""The records of a history as plain JSON data, and back, with clear errors.

A field that a newer version added is left out. One that is missing, or has a value of another type, is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import cast

from pytest_serve_chaos.model import (
    ClusterDescription,
    Component,
    Event,
    Expectations,
    Identity,
    Json,
    Request,
    Topology,
)


def request_from_json(data: Mapping[str, object]) -> Request:
    """The request that `dataclasses.asdict` wrote.

    Raises:
        ValueError: A field is missing or has a value of another type.
    """
    return Request(**_checked("a request", _REQUEST, data))  # type: ignore[arg-type]


def event_from_json(data: Mapping[str, object]) -> Event:
    """The event that `dataclasses.asdict` wrote, whose own data is checked as far as it is used.

    Raises:
        ValueError: A field is missing or has a value of another type.
    """
    event = Event(**_checked("an event", _EVENT, data))  # type: ignore[arg-type]
    check = _DATA.get(event.kind)
    if check is not None:
        check(event.data)
    return event


def topology_to_json(topology: Topology) -> dict[str, Json]:
    """A topology as plain data."""
    components: list[Json] = []
    for component in topology.components:
        record: dict[str, Json] = {**asdict(component), "identity": str(component.identity)}
        components.append(record)
    return {
        "components": components,
        "sources": list(topology.sources),
        "pending": dict(topology.pending),
    }


def topology_from_json(at: float, data: Mapping[str, Json]) -> Topology:
    """The topology of which `topology_to_json` made `data`.

    Raises:
        ValueError: A field is missing or has a value of another type.
    """
    if "components" not in data:
        raise ValueError("a topology has no 'components'")
    components = []
    for record in _objects("a topology", "components", data["components"]):
        found = _checked("a component", _COMPONENT, record)
        components.append(Component(**{**found, "identity": Identity.parse(str(found["identity"]))}))  # type: ignore[arg-type]
    pending = data.get("pending", {})
    if not isinstance(pending, Mapping) or not all(_is_int(number) for number in pending.values()):
        raise _wrong("a topology", "pending", pending, "an object of whole numbers")
    return Topology(
        at,
        tuple(components),
        tuple(_texts("a topology", "sources", data.get("sources", []))),
        cast("dict[str, int]", dict(pending)),
    )


# -- types of fields ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a record: what its value must be, in words and as a check."""

    name: str
    required: bool
    words: str
    fits: Callable[[object], bool]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _type_of(annotation: str) -> tuple[str, Callable[[object], bool]]:
    """What a field with that annotation may have, in words and as a check."""
    if annotation.endswith(" | None"):
        words, fits = _type_of(annotation.removesuffix(" | None"))
        return f"{words} or null", lambda value: value is None or fits(value)
    if annotation == "int":
        return "a whole number", _is_int
    if annotation == "float":
        return "a number", _is_number
    if annotation == "bool":
        return "true or false", lambda value: isinstance(value, bool)
    if annotation in ("str", "Role", "Identity"):  # an identity is text in a file
        return "text", _is_text
    if annotation == "tuple[str, ...]":
        return "a list of texts", _is_texts
    if annotation == "Mapping[str, Json]":
        return "an object", lambda value: isinstance(value, dict)
    raise TypeError(f"a history has no word for the type {annotation}")


def _fields(record: type, *, optional: bool = False) -> tuple[_Field, ...]:
    found = []
    for field in fields(record):
        required = not optional and field.default is MISSING and field.default_factory is MISSING
        found.append(_Field(field.name, required, *_type_of(str(field.type))))
    return tuple(found)


_REQUEST = _fields(Request)
_EVENT = _fields(Event)
_COMPONENT = _fields(Component)
_EXPECTATIONS = _fields(Expectations, optional=True)
_DESCRIPTION = _fields(ClusterDescription, optional=True)


def _checked(what: str, known: Sequence[_Field], data: Mapping[str, object]) -> dict[str, object]:
    """The known fields of a record."""
    found = {}
    for field in known:
        if field.name in data:
            value = data[field.name]
            if not field.fits(value):
                raise _wrong(what, field.name, value, field.words)
            found[field.name] = value
        elif field.required:
            raise ValueError(f"{what} has no {field.name!r}")
    return found


def _wrong(what: str, name: str, value: object, words: str) -> ValueError:
    return ValueError(f"{name!r} of {what} must be {words}, not {repr(value)[:60]}")


# -- the data of events ------------------------------------------------------------------------------------------------


def _texts(what: str, name: str, value: object) -> list[str]:
    if not _is_texts(value):
        raise _wrong(what, name, value, "a list of texts")
    return cast("list[str]", value)


def _objects(what: str, name: str, value: object) -> list[dict[str, Json]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(what, name, value, "a list of objects")
    return value


def _check_expectations(data: Mapping[str, Json]) -> None:
    _checked("the expectations", _EXPECTATIONS, data)
    _texts("the expectations", "autoscaled", data.get("autoscaled") or [])


def _check_description(data: Mapping[str, Json]) -> None:
    _checked("the run", _DESCRIPTION, data)


def _check_topology(data: Mapping[str, Json]) -> None:
    topology_from_json(0.0, data)


def _check_injection(data: Mapping[str, Json]) -> None:
    number = data.get("injection", 0)
    if not _is_int(number):
        raise _wrong("a fault", "injection", number, "a whole number")


def _check_landed(data: Mapping[str, Json]) -> None:
    _check_injection(data)
    for text in _texts("a fault", "victims", data.get("victims") or []):
        Identity.parse(text)
    served = data.get("served")
    if served is not None and not _is_int(served):
        raise _wrong("a fault", "served", served, "a whole number or null")


def _check_identity(data: Mapping[str, Json]) -> None:
    if "identity" in data:
        identity = data["identity"]
        if not isinstance(identity, str):
            raise _wrong("a component", "identity", identity, "text")
        Identity.parse(identity)


def _check_warning(data: Mapping[str, Json]) -> None:
    _texts("a warning", "faults", data.get("faults") or [])


def _check_configuration(data: Mapping[str, Json]) -> None:
    for warning in _objects("the configuration", "warnings", data.get("warnings") or []):
        _check_warning(warning)


def _check_logs(data: Mapping[str, Json]) -> None:
    if not isinstance(data.get("directory"), str):
        raise _wrong("the logs", "directory", data.get("directory"), "text")


_DATA: Mapping[str, Callable[[Mapping[str, Json]], None]] = {
    "run": _check_description,
    "warning": _check_warning,
    "configuration": _check_configuration,
    "expectations": _check_expectations,
    "topology": _check_topology,
    "asked": _check_injection,
    "landed": _check_landed,
    "gone": _check_identity,
    "came": _check_identity,
    "logs": _check_logs,
}
