"""The records of a history as plain JSON data, and back, with clear errors.

A field that a newer version added is left out. One that is missing, or has a value of another type, is an error. What a
field may have follows from its annotation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TypeAlias, TypeVar

from pytest_serve_chaos.events import (
    EVENTS,
    CheckDone,
    ClusterReady,
    ComponentCame,
    ComponentGone,
    ConfigurationSeen,
    Demanded,
    Event,
    FaultAsked,
    FaultLanded,
    LogsExcerpted,
    LogsKept,
    Moment,
    OtherEvent,
    Phase,
    PhaseBegan,
    Predicted,
    ProxyStale,
    TopologySeen,
    Warned,
    Word,
)
from pytest_serve_chaos.model import (
    Checked,
    CheckSpec,
    ClusterDescription,
    Component,
    ConfigWarning,
    Expectations,
    Identity,
    Json,
    LogLine,
    PartDemands,
    PartName,
    Request,
    Topology,
)
from pytest_serve_chaos.predicted import PredictedStep, Prediction

T = TypeVar("T")
W = TypeVar("W", bound=Word)

Data: TypeAlias = Mapping[str, object]
"""A JSON object as it was read."""

# -- types of fields ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Type:
    """What the value of a field is in JSON.

    Attributes:
        words: What it must be, in words.
        fits: Whether a value is that.
        read: The value of the field, where that differs from the one in JSON; never called with null.
        always: Classes all of whose values fit: a quick look, for what is read in the hundreds of thousands.
    """

    words: str
    fits: Callable[[object], bool]
    read: Callable[[object], object] | None = None
    always: frozenset[type] = frozenset()


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a record: its name, its key in JSON, and whether a record without it is an error."""

    name: str
    key: str
    required: bool
    type: _Type


class _Reader:
    """Reads the fields of one dataclass.

    Args:
        record: The class.
        what: Its records in words, for errors: "a request".
        leave_out: Fields that are not in a history.
        keys: Keys that differ from the names of the fields.
        optional: Whether no field has to be there.
        absent: Fields that are left out where they are None.
    """

    def __init__(
        self,
        record: type,
        what: str,
        *,
        leave_out: Iterable[str] = (),
        keys: Mapping[str, str] | None = None,
        optional: bool = False,
        absent: Collection[str] = (),
    ) -> None:
        self.what = what
        self._absent = frozenset(absent)
        self.fields: tuple[_Field, ...] = tuple(
            _Field(
                one.name,
                (keys or {}).get(one.name, one.name),
                not optional and one.default is MISSING and one.default_factory is MISSING,
                _type_of(str(one.type).removesuffix(" | None") if one.name in self._absent else str(one.type)),
            )
            for one in fields(record)
            if one.name not in leave_out
        )
        self._flat = [(f.key, f.name, f.type.always, f.type.fits, f.type.read, f) for f in self.fields]

    def read(self, data: Data) -> dict[str, object]:
        """The known fields of a record.

        Raises:
            ValueError: A field is missing or has a value of another type.
        """
        found: dict[str, object] = {}
        missing = ""
        for key, name, always, fits, read, one in self._flat:
            value = data.get(key, MISSING)
            if value is MISSING:
                missing = missing or (key if one.required else "")
                continue
            if type(value) not in always and not fits(value):
                raise _wrong(self.what, key, value, one.type.words)
            found[name] = value if read is None or value is None else read(value)
        if missing:
            raise ValueError(f"{self.what} has no {missing!r}")
        return found

    def write(self, record: object) -> dict[str, Json]:
        """The fields as plain JSON data."""
        values = ((one, getattr(record, one.name)) for one in self.fields)
        return {one.key: _plain(value) for one, value in values if value is not None or one.name not in self._absent}


def _plain(value: object) -> Json:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Identity):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    reader = _NESTED.get(type(value))
    if reader is None:
        raise TypeError(f"{value!r} has no place in a history")
    return reader.write(value)


def _wrong(what: str, name: str, value: object, words: str) -> ValueError:
    return ValueError(f"{name!r} of {what} must be {words}, not {repr(value)[:60]}")


def _build(make: Callable[..., T], found: Mapping[str, object]) -> T:
    """The record of fields that were checked."""
    return make(**found)


_TOO_MUCH = 1e12
"""What no figure reaches; seconds would be thousands of years."""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _TOO_MUCH


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _list_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(fits(one) for one in value)


def _each(read: Callable[[Data], object]) -> Callable[[object], object]:
    return lambda value: tuple(read(one) for one in _listed(value) if isinstance(one, dict))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_object_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(text) for text in value.values())


def _is_object_of_ints(value: object) -> bool:
    return isinstance(value, dict) and all(_is_int(number) for number in value.values())


def _identity(value: object) -> Identity:
    return Identity.parse(str(value))


_INTS = frozenset({int})
_TEXTS = frozenset({str})

_TYPES: Mapping[str, _Type] = {
    "int": _Type("a whole number", _is_int, always=_INTS),
    "float": _Type("a number", _is_number),
    "bool": _Type("true or false", lambda value: isinstance(value, bool)),
    "str": _Type("text", _is_text, always=_TEXTS),
    "Role": _Type("text", _is_text),  # that of a newer version is accepted
    "Literal['victim', 'cluster']": _Type("victim or cluster", lambda value: value in ("victim", "cluster")),
    "Literal['passed', 'failed', 'inconclusive']": _Type(
        "passed, failed or inconclusive", lambda value: value in ("passed", "failed", "inconclusive")
    ),
    "Literal['app', 'name']": _Type("app or name", lambda value: value in ("app", "name")),
    "Figure": _Type("outage or redundancy", lambda value: value in ("outage", "redundancy")),
    "Identity": _Type("text", _is_text, _identity),
    "PartName": _Type("an object", _is_object, lambda value: _part(value)),
    "tuple[str, ...]": _Type("a list of texts", _list_of(_is_text), lambda value: tuple(_listed(value))),
    "tuple[int, ...]": _Type("a list of whole numbers", _list_of(_is_int), lambda value: tuple(_listed(value))),
    "tuple[float, ...]": _Type("a list of numbers", _list_of(_is_number), lambda value: tuple(_listed(value))),
    "tuple[Identity, ...]": _Type("a list of texts", _list_of(_is_text), lambda v: tuple(map(_identity, _listed(v)))),
    "Mapping[str, Json]": _Type("an object", _is_object),
    "Mapping[str, str]": _Type("an object of texts", _is_object_of_texts),
    "Mapping[str, int]": _Type("an object of whole numbers", _is_object_of_ints),
    "tuple[Component, ...]": _Type("a list of objects", _list_of(_is_object), _each(lambda data: _component(data))),
    "tuple[LogLine, ...]": _Type("a list of objects", _list_of(_is_object), _each(lambda data: _log_line(data))),
    "tuple[CheckSpec, ...]": _Type("a list of objects", _list_of(_is_object), _each(lambda data: _spec(data))),
    "tuple[PartDemands, ...]": _Type(
        "a list of objects", _list_of(_is_object), _each(lambda data: _part_demands(data))
    ),
    "tuple[PredictedStep, ...]": _Type("a list of objects", _list_of(_is_object), _each(lambda data: _step(data))),
    "tuple[ConfigWarning, ...]": _Type("a list of objects", _list_of(_is_object), _each(lambda data: _warning(data))),
}
"""Annotation -> what the value is in JSON."""


def _type_of(annotation: str) -> _Type:
    if annotation.endswith(" | None"):
        inner = _type_of(annotation.removesuffix(" | None"))
        always = inner.always | {type(None)}
        return _Type(f"{inner.words} or null", lambda value: value is None or inner.fits(value), inner.read, always)
    found = _TYPES.get(annotation.replace('"', "'"))
    if found is None:
        raise TypeError(f"a history has no word for the type {annotation}")
    return found


# -- records -----------------------------------------------------------------------------------------------------------

WARNING_KEYS: Mapping[str, str] = {"fix": "mend"}
"""The keys of a warning's fields in histories and reports, where they differ from the names of the fields."""

_REQUEST = _Reader(Request, "a request")
_COMPONENT = _Reader(Component, "a component")
_TOPOLOGY = _Reader(Topology, "a topology", leave_out=("at", "down"))
_EXPECTATIONS = _Reader(Expectations, "the expectations", optional=True)
_DESCRIPTION = _Reader(ClusterDescription, "the run", optional=True)
_WARNING = _Reader(ConfigWarning, "a warning", leave_out=("losses",), keys=WARNING_KEYS, optional=True)
_CHECKED = _Reader(Checked, "a check", optional=True)
_SPEC = _Reader(CheckSpec, "a check", optional=True)
_PART = _Reader(PartName, "a part")
_OF_A_PART = _Reader(PartDemands, "the demands of a part")
_LOG_LINE = _Reader(LogLine, "a log line")
_STEP = _Reader(PredictedStep, "a step of a prediction", absent=["decided"])
_PREDICTION = _Reader(Prediction, "a prediction")
_NESTED = {
    PredictedStep: _STEP,
    Component: _COMPONENT,
    ConfigWarning: _WARNING,
    CheckSpec: _SPEC,
    PartName: _PART,
    PartDemands: _OF_A_PART,
    LogLine: _LOG_LINE,
}

_ALWAYS_OF_A_REQUEST = tuple(one.name for one in _REQUEST.fields if one.name not in ("app", "name", "request_id"))

_REPEATED = ("stream", "error", "replica", "node", "parent", "path", "source", "app", "name")
"""Fields of a request whose values are the same again and again."""

_NO_WARNING = {"code": "", "text": "", "outage": "", "fix": ""}


def request_to_json(request: Request) -> dict[str, Json]:
    """A request as plain data."""
    # None of its values needs a change, and there are hundreds of thousands of them.
    data = {name: getattr(request, name) for name in _ALWAYS_OF_A_REQUEST}
    if request.app:
        data["app"] = request.app
    if request.name:
        data["name"] = request.name
    if request.request_id:
        data["request_id"] = request.request_id
    return data


def request_from_json(data: Data) -> Request:
    """The request that `request_to_json` wrote.

    Raises:
        ValueError: A field is missing or has a value of another type.
    """
    found = _REQUEST.read(data)
    for name in _REPEATED:
        value = found.get(name)
        if type(value) is str:
            found[name] = sys.intern(value)  # each answer of a replica names it again
    return _build(Request, found)


def _component(data: Data) -> Component:
    return _build(Component, _COMPONENT.read(data))


def _warning(data: Data) -> ConfigWarning:
    return _build(ConfigWarning, _NO_WARNING | _WARNING.read(data))


def _spec(data: Data) -> CheckSpec:
    return _build(CheckSpec, {"name": "", "code": ""} | _SPEC.read(data))


def _part(value: object) -> PartName:
    return _build(PartName, _PART.read(value if isinstance(value, dict) else {}))


def _part_demands(data: Data) -> PartDemands:
    return _build(PartDemands, _OF_A_PART.read(data))


def _log_line(data: Data) -> LogLine:
    return _build(LogLine, _LOG_LINE.read(data))


def _step(data: Data) -> PredictedStep:
    return _build(PredictedStep, _STEP.read(data))


# -- events ------------------------------------------------------------------------------------------------------------

_BY_NAME: Mapping[str, type[Event]] = {one.name: one for one in EVENTS}
"""What a kind of event is called in a history -> its class."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An event as it stands in a history."""

    at: float
    kind: str
    text: str
    experiment: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)


_LINE = _Reader(_Line, "an event")

_WHAT: Mapping[type[Event], str] = {
    ClusterReady: "the run",
    ConfigurationSeen: "the configuration",
    Demanded: "the expectations",
    FaultAsked: "a fault",
    FaultLanded: "a fault",
    LogsKept: "the logs",
    LogsExcerpted: "the log lines",
}
"""What errors call what belongs to an event, where that is not simply an event."""

_FLAT = ("description", "warning", "expectations", "unknown", "topology", "component", "found", "prediction")
"""Fields whose own fields stand in the data themselves, or that are not there at all."""

_IN_THE_TEXT = ("phase", "moment")
"""Fields that are in the text of a line, and not in its data."""

_ABSENT = ("injection", "rate", "seed", "seconds", "start_seconds", "timeout")
"""Fields that are not in the data where they are None."""

_OWN: Mapping[type[Event], _Reader] = {
    kind: _Reader(
        kind,
        _WHAT.get(kind, "an event"),
        leave_out=("text", "at", "experiment", *_FLAT, *_IN_THE_TEXT),
        absent=_ABSENT,
    )
    for kind in EVENTS
}
"""Of each kind of event, the fields that are in its data."""

_OF_A_CHANGE = ("role", "node", "identity", "pid", "actor_id", "deployment")
"""What is written of a component that came or went; the machine too, where it may be on one."""


def event_to_json(event: Event) -> dict[str, Json]:
    """An event as plain data.

    Raises:
        TypeError: What belongs to it cannot be in JSON.
    """
    data = _data_of(event)
    return {"at": event.at, "kind": event.kind, "text": event.text, "experiment": event.experiment, "data": data}


def _data_of(event: Event) -> dict[str, Json]:
    match event:
        case OtherEvent():
            return dict(event.data)
        case ClusterReady():
            description = {} if event.description is None else _DESCRIPTION.write(event.description)
            return {**description, **_OWN[ClusterReady].write(event)}
        case Warned():
            return _WARNING.write(event.warning)
        case Demanded():
            return {**_OWN[Demanded].write(event), **_EXPECTATIONS.write(event.expectations)}
        case TopologySeen():
            return _TOPOLOGY.write(event.topology)
        case ComponentGone() | ComponentCame():
            found = _COMPONENT.write(event.component)
            kept = _OF_A_CHANGE if found["role"] not in ("head", "worker", "redis") else (*_OF_A_CHANGE, "machine")
            return {key: found[key] for key in kept}
        case CheckDone():
            return _CHECKED.write(event.found)
        case Predicted():
            return {**_PREDICTION.write(event.prediction), **_OWN[Predicted].write(event)}
    return _OWN[type(event)].write(event)


def event_from_json(data: Data) -> Event:
    """The event that `event_to_json` wrote.

    Raises:
        ValueError: A field is missing or has a value of another type.
    """
    line = _build(_Line, _LINE.read(data))
    kind = _BY_NAME.get(line.kind)
    header: dict[str, object] = {"text": line.text, "at": line.at, "experiment": line.experiment}
    if kind is None:
        return OtherEvent(line.text, at=line.at, experiment=line.experiment, called=line.kind, data=line.data)
    special = _SPECIAL.get(kind)
    found = special(line) if special is not None else _OWN[kind].read(line.data)
    return _build(kind, header | found)


def _cluster_ready(line: _Line) -> dict[str, object]:
    found = _DESCRIPTION.read(line.data)
    needed = {
        one.name for one in fields(ClusterDescription) if one.default is MISSING and one.default_factory is MISSING
    }
    description = _build(ClusterDescription, found) if needed <= found.keys() else None
    return {"description": description, **_OWN[ClusterReady].read(line.data)}


def _demanded(line: _Line) -> dict[str, object]:
    """What is demanded; of what a newer version added, the names of the demands."""
    own = _OWN[Demanded]
    known = {one.key for one in (*own.fields, *_EXPECTATIONS.fields)}
    unknown = tuple(name for name, value in line.data.items() if name not in known and _demands(value))
    expectations = _build(Expectations, _EXPECTATIONS.read(line.data))
    return {"expectations": expectations, "unknown": unknown, **own.read(line.data)}


def _demands(value: object) -> bool:
    """Whether an expectation with that value demands something. A number does, zero as well."""
    return value is not None and value is not False and value not in ("", [])


def _topology_seen(line: _Line) -> dict[str, object]:
    topology = _build(Topology, {"at": line.at, **_TOPOLOGY.read(line.data)})
    return {"topology": topology, "moment": _word(Moment, line.text)}


def _predicted(line: _Line) -> dict[str, object]:
    prediction = _build(Prediction, _PREDICTION.read(line.data))
    return {"prediction": prediction, **_OWN[Predicted].read(line.data)}


def _word(words: type[W], text: str) -> W | None:
    """The word of a closed list that a text is; None if it is not on the list."""
    return words(text) if text in list(words) else None


_SPECIAL: Mapping[type[Event], Callable[[_Line], dict[str, object]]] = {
    ClusterReady: _cluster_ready,
    Warned: lambda line: {"warning": _warning(line.data)},
    PhaseBegan: lambda line: {"phase": _word(Phase, line.text)},
    Demanded: _demanded,
    TopologySeen: _topology_seen,
    Predicted: _predicted,
    ComponentGone: lambda line: {"component": _component(line.data)},
    ComponentCame: lambda line: {"component": _component(line.data)},
    ProxyStale: lambda line: _OWN[ProxyStale].read({"proxy": line.text, **line.data}),
    LogsKept: lambda line: _OWN[LogsKept].read({"directory": None, **line.data}),
    CheckDone: lambda line: {"found": _build(Checked, {"check": "", **_CHECKED.read(line.data)})},
}
"""How the fields of an event are read where they are not all in its data."""
