"""Quantities of Kubernetes as exact numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_serve_chaos.cluster.kubernetes.client.quantities import quantity, shown
from pytest_serve_chaos.model import Json


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", Fraction(1, 2)),
        ("1Gi", Fraction(2**30)),
        ("1e3", Fraction(1000)),
        ("1E3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("1Ei", Fraction(2**60)),
        ("1.5e-1", Fraction(15, 100)),
        ("250u", Fraction(1, 4000)),
        ("100n", Fraction(1, 10**7)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("+2k", Fraction(2000)),
        ("-1", Fraction(-1)),
        (2, Fraction(2)),
        (0.1, Fraction(1, 10)),
        ("", None),
        ("1K", None),
        ("1mi", None),
        ("1 Gi", None),
        ("1e", None),
        ("1e999", None),
        ("1.2.3", None),
        ("9" * 5000, None),
        (True, None),
        (None, None),
        (["1"], None),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text: Json, number: Fraction | None) -> None:
    assert quantity(text) == number


def test_what_is_added_up_is_not_rounded() -> None:
    hundred = quantity("100m")
    assert hundred is not None
    assert hundred * 3 == quantity("300m")


@given(st.integers(0, 10**16), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_what_is_shown_is_the_same_quantity(number: int, unit: str) -> None:
    found = quantity(f"{number}{unit}")
    assert found is not None
    assert quantity(shown(found)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.5", "1500m"),
        ("16384Mi", "16Gi"),
        ("2000M", "2G"),
        ("3", "3"),
        ("0", "0"),
        ("1024", "1024"),
        ("1.5Gi", "1536Mi"),
    ],
)
def test_a_number_is_shown_as_people_write_it(text: str, said: str) -> None:
    found = quantity(text)
    assert found is not None
    assert shown(found) == said
