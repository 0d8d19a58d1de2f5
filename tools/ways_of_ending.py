"""Prints the table of *way of ending x moment*: what stays, and who repairs it.

``python -m tools.ways_of_ending`` sees it on a fake cluster, and takes some minutes. With ``local`` it starts a real
local cluster for each cell, which takes about a quarter of an hour. A full disk is a small one that has to be mounted:
without root, start the command by ``unshare --map-root-user --mount``; cells that cannot be seen are ``?``.

The exit status is 1 if something was left that nobody repaired.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.local import ways_of_ending as local
from tests.local.moments import MOMENTS as LOCAL_MOMENTS
from tests.plugin import ways_of_ending as fake
from tests.plugin.outside_cluster import MOMENTS as FAKE_MOMENTS

_HEADINGS = {
    "starting": "while the cluster starts",
    "before": "before the fault",
    "during": "with the fault",
    "healing": "while it is healed",
    "after": "afterwards",
}
_NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Row:
    """A way of ending.

    Attributes:
        name: What people call it.
        cells: What was seen at each moment, one after the other.
    """

    name: str
    cells: Iterator[str]


def _fake_rows() -> Iterator[Row]:
    for way in fake.WAYS:
        yield Row(way.name, _fake_cells(way))


def _fake_cells(way: fake.Way) -> Iterator[str]:
    for moment in FAKE_MOMENTS:
        if moment not in way.moments:
            yield "-"
            continue
        with tempfile.TemporaryDirectory(prefix="ways-") as directory:
            seen = fake.end(way, moment, Path(directory))
            yield f"{seen.left}; {seen.repaired_by}"


def _local_rows() -> Iterator[Row]:
    for way in local.WAYS:
        yield Row(way.name, _local_cells(way))


def _local_cells(way: local.Way) -> Iterator[str]:
    for moment in LOCAL_MOMENTS:
        if moment not in way.moments:
            yield "-"
            continue
        try:
            yield local.end(way, moment).words
        except PermissionError as error:
            print(f"{way.name}: {error}", file=sys.stderr)
            yield "?"


def table(rows: Iterator[Row], moments: Collection[str], only: Sequence[str]) -> Iterator[str]:
    """The lines of the table, as Markdown, each as soon as it was seen.

    Args:
        rows: All ways of ending.
        moments: When a run ends.
        only: Text that the name of a way must have, one of these; none: all ways.
    """
    yield f"| way of ending | {' | '.join(_HEADINGS[moment] for moment in moments)} |"
    yield f"| --- |{' --- |' * len(moments)}"
    for row in rows:
        if not only or any(text in row.name for text in only):
            yield f"| {row.name} | {' | '.join(row.cells)} |"


def main(words: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?", choices=["fake", "local"], default="fake")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="ways with this in their names")
    given = parser.parse_args(words)
    rows, moments = (_local_rows(), LOCAL_MOMENTS) if given.backend == "local" else (_fake_rows(), FAKE_MOMENTS)
    nobody = False
    for line in table(rows, moments, given.only):
        print(line, flush=True)
        nobody = nobody or f"; {_NOBODY} |" in line
    return 1 if nobody else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
