"""Quantities of Kubernetes (``500m``, ``16Gi``, ``1e3``) as exact numbers, so that what just fits does fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from pytest_serve_chaos.model import Json

_UNITS: Mapping[str, Fraction] = MappingProxyType(
    {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
    | {unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)}
    | {f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)}
)
_QUANTITY = re.compile(r"([+-]?(?:[0-9]{1,60}\.?[0-9]{0,60}|\.[0-9]{1,60}))(?:[eE]([+-]?[0-9]{1,2})|([a-zA-Z]*))")


def quantity(value: Json) -> Fraction | None:
    """A quantity as a number: ``500m``, ``16Gi``, ``1e3``, 2; None where it is not one."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None or isinstance(value, bool):
        return None
    number, exponent, unit = found.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * _UNITS[unit] if unit in _UNITS else None


def shown(number: Fraction) -> str:
    """A number as Kubernetes would write it: ``1500m``, ``16Gi``, 3."""
    if number.denominator != 1:
        thousandths = number * 1000
        return f"{thousandths}m" if thousandths.denominator == 1 else f"{float(number):g}"
    for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "G", "M"):
        if number and number % _UNITS[unit] == 0:
            return f"{number / _UNITS[unit]}{unit}"
    return str(number)
