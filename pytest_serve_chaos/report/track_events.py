"""Perfetto's own trace format: tracks, and the slices, instants and counters on them, as protobuf messages.

It writes the few messages of https://github.com/google/perfetto/tree/main/protos/perfetto/trace that a report needs by
itself: the package ``perfetto`` would bring protobuf, and a program to download, for these field numbers.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_serve_chaos.printable import printable

Value: TypeAlias = "bool | int | float | str"

_VARINT, _FIXED64, _BYTES = 0, 1, 2
"""Wire types of protobuf."""

# Fields of Trace, TracePacket, ClockSnapshot, TrackDescriptor, TrackEvent, DebugAnnotation and InternedData.
_PACKET = 1
_CLOCKS, _TIMESTAMP, _SEQUENCE, _EVENT, _INTERNED, _FLAGS, _TRACK = 6, 8, 10, 11, 12, 13, 60
_CLOCK, _CLOCK_ID, _CLOCK_TIME = 1, 1, 2
_UUID, _TRACK_NAME, _PARENT, _COUNTER, _CHILD_ORDER, _RANK, _DESCRIPTION = 1, 2, 5, 8, 11, 12, 14
_UNIT_NAME = 6
_CATEGORY, _ARGUMENT, _TYPE, _EVENT_NAME, _EVENT_TRACK, _COUNT, _FLOW, _LAST_FLOW = 3, 4, 9, 10, 11, 44, 47, 48
_ARGUMENT_NAME, _BOOL, _INT, _DOUBLE, _TEXT = 1, 2, 4, 5, 17
_CATEGORIES, _NAMES, _ARGUMENT_NAMES, _TEXTS = 1, 2, 3, 29

_BEGIN, _END, _INSTANT, _COUNTED = 1, 2, 3, 4
_REALTIME, _BOOTTIME = 1, 6
_EXPLICIT = 3

_LEVEL = 6
"""Of gzip: 9 takes several times as long, for a few percent."""

_GZIP = 31
"""What zlib calls gzip's format; the file does not say when it was made, so the same trace is the same bytes."""

_CHUNK = 1 << 20
"""Bytes that are compressed at once."""

_CLEARED, _NEEDED = 1, 2
"""Whether a packet begins the numbers of names again, or uses them."""


@dataclass(frozen=True, slots=True)
class Track:
    """A row of the trace.

    Attributes:
        uuid: What its events name.
        encoded: The same, as it is in them.
    """

    uuid: int
    encoded: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class About:
    """What an event is, as it is in its message."""

    fields: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Arrows:
    """The arrows of an event, by their numbers.

    Attributes:
        through: Those that leave it, or pass through it.
        last: Those that end there.
    """

    through: tuple[int, ...] = ()
    last: tuple[int, ...] = ()


NO_ARROWS = Arrows()


class TraceWriter:
    """Collects packets of one trace. All times are nanoseconds since 1970 (Unix time).

    Two traces may be put into one file, one after the other: their tracks have other numbers, and each begins its own
    numbers of names.

    Args:
        of: What the trace is of, such as the moment at which a run began. The numbers of its tracks come from it, so
            that the same trace is the same bytes.
        began: When the trace begins.
    """

    def __init__(self, of: str, began: int) -> None:
        self._of = of
        self._rows = 0
        sequence = _number(of, "sequence") >> 33 or 1
        self._tail = _varint_field(_SEQUENCE, sequence) + _varint_field(_FLAGS, _NEEDED)
        self._texts = _Texts()
        # Both clocks say the same: times of the trace are times of day, also where it is merged with another.
        clocks = b"".join(
            _bytes_field(_CLOCK, _varint_field(_CLOCK_ID, clock) + _varint_field(_CLOCK_TIME, began))
            for clock in (_BOOTTIME, _REALTIME)
        )
        start = _varint_field(_SEQUENCE, sequence) + _varint_field(_FLAGS, _CLEARED)
        self._packets = _Compressed()
        self._packets.add(_packet(_varint_field(_TIMESTAMP, began) + _bytes_field(_CLOCKS, clocks) + start))

    def track(self, name: str, *, under: Track | None = None, description: str = "") -> Track:
        """A new row; those of one parent are shown in the order in which they were made."""
        return self._track(name, under, _bytes_field(_DESCRIPTION, _utf8(description)) if description else b"")

    def counter(self, name: str, unit: str, *, under: Track | None = None) -> Track:
        """A new row of numbers."""
        return self._track(name, under, _bytes_field(_COUNTER, _bytes_field(_UNIT_NAME, _utf8(unit))))

    def about(self, name: str, category: str, arguments: Mapping[str, Value] | None = None) -> About:
        """What an event is, for one event or many.

        Args:
            name: What is written on it.
            category: For queries.
            arguments: What is shown of it when it is selected.
        """
        named = _varint_field(_EVENT_NAME, self._texts.number(_NAMES, name))
        categorized = _varint_field(_CATEGORY, self._texts.number(_CATEGORIES, category))
        shown = (_argument(key, value, self._texts) for key, value in (arguments or {}).items())
        return About(named + categorized + b"".join(shown))

    def begin(self, track: Track, at: int, about: About, arrows: Arrows = NO_ARROWS) -> None:
        """A slice begins, in the slice of that track that has not ended yet, if there is one."""
        self._event(at, _BEGIN_OF_SLICE + track.encoded + about.fields + _arrows(arrows))

    def end(self, track: Track, at: int) -> None:
        """The innermost slice of that track ends."""
        self._event(at, _END_OF_SLICE + track.encoded)

    def slice(self, track: Track, begin: int, end: int, about: About, arrows: Arrows = NO_ARROWS) -> None:
        """Something that lasted. Slices of one track come in the order of time, and do not overlap."""
        self.begin(track, begin, about, arrows)
        self.end(track, end)

    def instant(self, track: Track, at: int, about: About, arrows: Arrows = NO_ARROWS) -> None:
        """Something that happened at one moment."""
        self._event(at, _MOMENT + track.encoded + about.fields + _arrows(arrows))

    def count(self, track: Track, at: int, value: float) -> None:
        """The number of a counter from that moment on."""
        self._event(at, _COUNT_EVENT + track.encoded + _COUNT_TAG + struct.pack("<d", value))

    def arrow(self, name: str) -> int:
        """The number of an arrow, which leads from one event to the next that has it."""
        return _number(self._of, f"arrow {name}")

    def finish(self) -> bytes:
        """The trace, compressed with gzip. Nothing can be added afterwards."""
        return self._packets.finish()

    def _track(self, name: str, under: Track | None, kind: bytes) -> Track:
        self._rows += 1
        uuid = _number(self._of, "track") + self._rows
        parent = b"" if under is None else _varint_field(_PARENT, under.uuid)
        order = _varint_field(_CHILD_ORDER, _EXPLICIT) + _varint_field(_RANK, self._rows)
        described = _varint_field(_UUID, uuid) + parent + _bytes_field(_TRACK_NAME, _utf8(name)) + order + kind
        self._packets.add(_packet(_bytes_field(_TRACK, described) + self._tail))
        return Track(uuid, _varint_field(_EVENT_TRACK, uuid))

    def _event(self, at: int, body: bytes) -> None:
        new = self._texts.take_new()
        names = _bytes_field(_INTERNED, new) if new else b""
        event = _TIMESTAMP_TAG + _varint(max(0, at)) + _bytes_field(_EVENT, body)
        self._packets.add(_packet(event + names + self._tail))


class _Texts:
    """Numbers in place of texts that are repeated."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str], int] = {}
        self._new = b""

    def number(self, kind: int, text: str) -> int:
        """The number of a text."""
        number = self._numbers.get((kind, text))
        if number is None:
            number = self._numbers[kind, text] = len(self._numbers) + 1
            self._new += _bytes_field(kind, _varint_field(1, number) + _bytes_field(2, _utf8(text)))
        return number

    def take_new(self) -> bytes:
        """Which texts the numbers stand for that are new since the last time; the next packet has it."""
        new, self._new = self._new, b""
        return new


class _Compressed:
    """What is compressed by and by: a trace of a million requests has 90 MB."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._done = bytearray()
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Adds to the end."""
        self._pending += data
        if len(self._pending) >= _CHUNK:
            self._compress()

    def finish(self) -> bytes:
        """All of it."""
        self._compress()
        return bytes(self._done + self._compressor.flush())

    def _compress(self) -> None:
        self._done += self._compressor.compress(self._pending)
        self._pending.clear()


def _argument(name: str, value: Value, texts: _Texts) -> bytes:
    key = _varint_field(_ARGUMENT_NAME, texts.number(_ARGUMENT_NAMES, name))
    if isinstance(value, bool):
        return _bytes_field(_ARGUMENT, key + _varint_field(_BOOL, value))
    if isinstance(value, int):
        return _bytes_field(_ARGUMENT, key + _varint_field(_INT, value % 2**64))
    if isinstance(value, float):
        return _bytes_field(_ARGUMENT, key + _DOUBLE_TAG + struct.pack("<d", value))
    return _bytes_field(_ARGUMENT, key + _varint_field(_TEXT, texts.number(_TEXTS, value)))


def _arrows(arrows: Arrows) -> bytes:
    if arrows is NO_ARROWS:
        return b""
    through = [_FLOW_TAG + struct.pack("<Q", number) for number in arrows.through]
    return b"".join([*through, *(_LAST_FLOW_TAG + struct.pack("<Q", number) for number in arrows.last)])


def _number(of: str, what: str) -> int:
    """A number of 62 bits that is another one for other texts; as good as sure."""
    return int.from_bytes(hashlib.sha256(f"{of}\n{what}".encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 2


def _utf8(text: str) -> bytes:
    return printable(text).encode("utf-8")


def _varint(number: int) -> bytes:
    if number < 128:
        return _ONE_BYTE[number]
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


_ONE_BYTE = tuple(bytes((number,)) for number in range(128))


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint_field(field: int, number: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(number)


def _bytes_field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _packet(content: bytes) -> bytes:
    return _PACKET_TAG + _varint(len(content)) + content


_PACKET_TAG = _tag(_PACKET, _BYTES)
_TIMESTAMP_TAG = _tag(_TIMESTAMP, _VARINT)
_FLOW_TAG, _LAST_FLOW_TAG = _tag(_FLOW, _FIXED64), _tag(_LAST_FLOW, _FIXED64)
_COUNT_TAG, _DOUBLE_TAG = _tag(_COUNT, _FIXED64), _tag(_DOUBLE, _FIXED64)
_BEGIN_OF_SLICE = _varint_field(_TYPE, _BEGIN)
_MOMENT = _varint_field(_TYPE, _INSTANT)
_END_OF_SLICE = _varint_field(_TYPE, _END)
_COUNT_EVENT = _varint_field(_TYPE, _COUNTED)
