"""The fields of an answer in JSON, each read as the kind that it must be; an odd answer is an error that says where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json

LONGEST = 1e9
"""Seconds; a user does not wait longer."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object of an answer. What is missing or null counts as empty; what is of another kind is an error.

    Attributes:
        where: Where it stands, for the message: ``GET http://head:8265/api/v0/nodes: data.result``.
        values: What it has.
    """

    where: str
    values: Mapping[str, Json] = field(repr=False)

    @classmethod
    def of(cls, value: Json, where: str) -> Fields:
        """The fields of a value that must be an object.

        Raises:
            ObservationError: It is something else.
        """
        if not isinstance(value, dict):
            raise _odd(where, value, "an object")
        return cls(where, value)

    def text(self, key: str) -> str:
        """A text; "" where there is none.

        Raises:
            ObservationError: It is something else.
        """
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _odd(self._at(key), value, "a text")
        return value

    def number(self, key: str) -> int:
        """A whole number; 0 where there is none.

        Raises:
            ObservationError: It is something else.
        """
        value = self.values.get(key)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise _odd(self._at(key), value, "a whole number")
        return value

    def seconds(self, key: str) -> float:
        """A number.

        Raises:
            ObservationError: It is something else.
        """
        value = self.values.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < float("inf"):
            raise _odd(self._at(key), value, "a number")
        return float(value)

    def object(self, key: str) -> Fields:
        """An object; an empty one where there is none.

        Raises:
            ObservationError: It is something else.
        """
        value = self.values.get(key)
        return Fields.of({} if value is None else value, self._at(key))

    def objects(self, key: str) -> dict[str, Fields]:
        """An object of objects, by name.

        Raises:
            ObservationError: It, or one of them, is something else.
        """
        return {name: Fields.of(value, f"{self._at(key)}.{name}") for name, value in self.object(key).values.items()}

    def rows(self, key: str) -> list[Fields]:
        """A list of objects; an empty one where there is none.

        Raises:
            ObservationError: It, or one of them, is something else.
        """
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise _odd(self._at(key), value, "a list")
        return [Fields.of(row, f"{self._at(key)}[{number}]") for number, row in enumerate(value)]

    def _at(self, key: str) -> str:
        return f"{self.where}.{key}"


def _odd(where: str, value: Json, wanted: str) -> ObservationError:
    found = "null" if value is None else f"{value!r:.80}"
    return ObservationError(f"{where} is {found}, not {wanted}")
