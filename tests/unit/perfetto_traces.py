"""Reads Perfetto traces as Perfetto does: with protobuf, by the published field numbers, and a stack of slices."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

# Message -> field -> number and type; "*" repeats, a capital letter begins the name of a message.
# From https://github.com/google/perfetto/tree/main/protos/perfetto/trace.
SCHEMA: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Trace": {"packet": (1, "TracePacket*")},
    "TracePacket": {
        "clock_snapshot": (6, "ClockSnapshot"),
        "timestamp": (8, "uint64"),
        "trusted_packet_sequence_id": (10, "uint32"),
        "track_event": (11, "TrackEvent"),
        "interned_data": (12, "InternedData"),
        "sequence_flags": (13, "uint32"),
        "track_descriptor": (60, "TrackDescriptor"),
    },
    "ClockSnapshot": {"clocks": (1, "Clock*")},
    "Clock": {"clock_id": (1, "uint32"), "timestamp": (2, "uint64")},
    "TrackDescriptor": {
        "uuid": (1, "uint64"),
        "name": (2, "string"),
        "parent_uuid": (5, "uint64"),
        "counter": (8, "CounterDescriptor"),
        "child_ordering": (11, "int32"),
        "sibling_order_rank": (12, "int32"),
        "description": (14, "string"),
    },
    "CounterDescriptor": {"unit_name": (6, "string")},
    "TrackEvent": {
        "category_iids": (3, "uint64*"),
        "debug_annotations": (4, "DebugAnnotation*"),
        "type": (9, "int32"),
        "name_iid": (10, "uint64"),
        "track_uuid": (11, "uint64"),
        "double_counter_value": (44, "double"),
        "flow_ids": (47, "fixed64*"),
        "terminating_flow_ids": (48, "fixed64*"),
    },
    "DebugAnnotation": {
        "name_iid": (1, "uint64"),
        "bool_value": (2, "bool"),
        "int_value": (4, "int64"),
        "double_value": (5, "double"),
        "string_value_iid": (17, "uint64"),
    },
    "InternedData": {
        "event_categories": (1, "Interned*"),
        "event_names": (2, "Interned*"),
        "debug_annotation_names": (3, "Interned*"),
        "debug_annotation_string_values": (29, "InternedBytes*"),
    },
    "Interned": {"iid": (1, "uint64"), "name": (2, "string")},
    "InternedBytes": {"iid": (1, "uint64"), "name": (2, "bytes")},
}

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
REALTIME, BOOTTIME = 1, 6


@dataclass(frozen=True)
class Slice:
    """A slice or, with the same begin and end, an instant. Times are nanoseconds since 1970.

    Its place is that among all events: of two that begin at one moment, it says which came first.
    """

    track: str
    name: str
    begin: int
    end: int
    category: str
    arguments: Mapping[str, object]
    depth: int
    place: int
    flows: tuple[int, ...] = ()
    last_flows: tuple[int, ...] = ()


@dataclass
class Trace:
    """What Perfetto shows: tracks by their paths, what is on them, and the points of counters."""

    tracks: dict[str, str] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    counters: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    began: list[int] = field(default_factory=list)

    def under(self, path: str) -> list[Slice]:
        """Those of the track and of the tracks below it."""
        return [one for one in self.slices if one.track == path or one.track.startswith(path + "/")]

    def of(self, category: str) -> list[Slice]:
        return [one for one in self.slices if one.category == category]

    def arrows(self) -> list[list[Slice]]:
        """The slices that each arrow leads to, in the order of time; it goes no further than where it ends."""
        numbers = {number for one in self.slices for number in (*one.flows, *one.last_flows)}
        found = []
        for number in sorted(numbers):
            steps = [one for one in self.slices if number in (*one.flows, *one.last_flows)]
            assert all(number not in one.last_flows for one in sorted(steps, key=_when)[:-1])
            found.append(sorted(steps, key=_when))
        return found


def read(compressed: bytes) -> Trace:
    """Reads a trace. What Perfetto would drop, or show otherwise than it was meant, is an AssertionError."""
    found = _types()["Trace"].FromString(gzip.decompress(compressed))
    assert not list(unknown_fields(found))
    trace = Trace()
    tracks: dict[int, Any] = {}
    events: list[tuple[int, Any, dict[str, Any]]] = []
    names: dict[int, dict[tuple[str, int], str]] = {}
    for packet in found.packet:
        own = names.setdefault(packet.trusted_packet_sequence_id, {})
        if packet.sequence_flags & 1:
            own.clear()
        for kind in SCHEMA["InternedData"]:
            for one in getattr(packet.interned_data, kind):
                text = one.name.decode() if isinstance(one.name, bytes) else one.name
                assert own.setdefault((kind, one.iid), text) == text
        if packet.HasField("clock_snapshot"):
            clocks = {one.clock_id: one.timestamp for one in packet.clock_snapshot.clocks}
            assert clocks[BOOTTIME] == clocks[REALTIME] == packet.timestamp
            trace.began.append(packet.timestamp)
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks, "a track is described once"
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            assert packet.track_event.track_uuid in tracks, "an event must not come before its track"
            events.append((packet.timestamp, packet.track_event, _texts(packet.track_event, own)))
    trace.tracks = {_path(one, tracks): one.description for one in tracks.values()}
    assert len(trace.tracks) == len(tracks), "two tracks of one place and name would be shown as one"
    _put_on_tracks(trace, tracks, sorted(events, key=lambda event: event[0]))  # stable, as Perfetto's sorter is
    return trace


def _when(one: Slice) -> tuple[int, int]:
    return one.begin, one.place


def _path(track: Any, tracks: Mapping[int, Any]) -> str:
    own = str(track.name)
    return f"{_path(tracks[track.parent_uuid], tracks)}/{own}" if track.parent_uuid else own


def _texts(event: Any, names: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    if event.type not in (BEGIN, INSTANT):
        return {}
    arguments: dict[str, object] = {}
    for one in event.debug_annotations:
        key = names["debug_annotation_names", one.name_iid]
        if one.HasField("string_value_iid"):
            arguments[key] = names["debug_annotation_string_values", one.string_value_iid]
        else:
            (value,) = (v for f, v in one.ListFields() if f.name != "name_iid")
            arguments[key] = value
    (category,) = event.category_iids
    return {
        "name": names["event_names", event.name_iid],
        "category": names["event_categories", category],
        "arguments": arguments,
    }


def _put_on_tracks(trace: Trace, tracks: Mapping[int, Any], events: Sequence[tuple[int, Any, dict[str, Any]]]) -> None:
    open_on: dict[int, list[tuple[int, int, Any, dict[str, Any]]]] = {}
    for place, (at, event, texts) in enumerate(events):
        stack = open_on.setdefault(event.track_uuid, [])
        path = _path(tracks[event.track_uuid], tracks)
        if event.type == COUNTER:
            assert tracks[event.track_uuid].HasField("counter")
            trace.counters.setdefault(path, []).append((at, event.double_counter_value))
        elif event.type == BEGIN:
            stack.append((place, at, event, texts))
        else:
            first, begun, about, said = (place, at, event, texts) if event.type == INSTANT else stack.pop()
            flows = (tuple(about.flow_ids), tuple(about.terminating_flow_ids))
            trace.slices.append(
                Slice(path, said["name"], begun, at, said["category"], said["arguments"], len(stack), first, *flows)
            )
    assert not any(open_on.values()), "a slice without an end lasts as long as the trace"


@cache
def _types() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="trace.proto", package="p", syntax="proto2")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for key, (number, kind) in fields.items():
            label = "LABEL_REPEATED" if kind.endswith("*") else "LABEL_OPTIONAL"
            word = kind.rstrip("*")
            is_message = word[0].isupper()
            message.field.add(
                name=key,
                number=number,
                label=descriptor_pb2.FieldDescriptorProto.Label.Value(label),
                type=descriptor_pb2.FieldDescriptorProto.Type.Value(
                    "TYPE_MESSAGE" if is_message else f"TYPE_{word.upper()}"
                ),
                type_name=f".p.{word}" if is_message else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"p.{name}")) for name in SCHEMA}


def unknown_fields(message: Any) -> Iterator[int]:
    """The numbers of fields, of the message and all in it, that are not in the schema."""
    yield from (one.field_number for one in UnknownFieldSet(message))
    for described, value in message.ListFields():
        if described.message_type is not None:
            for one in value if described.is_repeated else [value]:
                yield from unknown_fields(one)
