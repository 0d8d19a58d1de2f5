"""Prints the table of *way of ending x moment*: what stays, and who repairs it.

``python -m tools.ways_of_ending`` sees it on a fake cluster, and takes some minutes. With ``local`` it starts a real
local cluster for each cell, which takes about a quarter of an hour. A full disk is a small one that has to be mounted:
without root, start the command by ``unshare --map-root-user --mount``; cells that cannot be seen are ``?``.

The exit status is 1 if something was left that nobody repaired.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from tests.local import moments as local_moments
from tests.local import ways_of_ending as local
from tests.plugin import outside_cluster as fake_moments
from tests.plugin import ways_of_ending as fake

_HEADINGS = {
    "starting": "while the cluster starts",
    "before": "before the fault",
    "during": "with the fault",
    "healing": "while it is healed",
    "after": "afterwards",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A way of ending.

    Attributes:
        name: What people call it.
        moments: When that can happen.
        seen_at: Brings a run to its end at a moment, and says what was left and who repaired it.
    """

    name: str
    moments: Collection[str]
    seen_at: Callable[[str], str]


def _fake_rows() -> Iterator[Row]:
    for way in fake.WAYS:
        yield Row(way.name, way.moments, partial(_fake_cell, way))


def _fake_cell(way: fake.Way, moment: str) -> str:
    with tempfile.TemporaryDirectory(prefix="ways-") as directory:
        seen = fake.end(way, cast(fake_moments.Moment, moment), Path(directory))
        return f"{seen.left}; {seen.repaired_by}"


def _local_rows(*, verbose: bool) -> Iterator[Row]:
    for way in local.WAYS:
        yield Row(way.name, way.moments, partial(_local_cell, way, verbose))


def _local_cell(way: local.Way, verbose: bool, moment: str) -> str:
    try:
        seen = local.end(way, cast(local_moments.Moment, moment))
        if verbose:
            print(f"{seen.output}status {seen.status}, healed: {seen.healed}\n{seen.next_output}", file=sys.stderr)
        return seen.words
    except local.NotSeen as error:
        print(f"{way.name}: {error}", file=sys.stderr)
        return "?"


def table(rows: Iterable[Row], moments: Sequence[str]) -> Iterator[str]:
    """The lines of the table, as Markdown, each as soon as it was seen.

    Args:
        rows: The ways of ending.
        moments: When a run ends.
    """
    yield f"| way of ending | {' | '.join(_HEADINGS[moment] for moment in moments)} |"
    yield f"| --- |{' --- |' * len(moments)}"
    for row in rows:
        cells = (_noted(row, moment) if moment in row.moments else "-" for moment in moments)
        yield f"| {row.name} | {' | '.join(cells)} |"


def _noted(row: Row, moment: str) -> str:
    """What was seen, which is also a line on standard error: a row takes minutes."""
    begun = time.monotonic()
    seen = row.seen_at(moment)
    print(f"{time.monotonic() - begun:6.1f} s  {row.name}, {_HEADINGS[moment]}: {seen}", file=sys.stderr, flush=True)
    return seen


def main(words: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?", choices=["fake", "local"], default="fake")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="ways whose names match")
    parser.add_argument("--moments", nargs="+", choices=_HEADINGS, default=list(_HEADINGS), help="some of the moments")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print what the runs on a local cluster print, too"
    )
    given = parser.parse_args(words)
    is_local = given.backend == "local"
    rows, known = (
        (_local_rows(verbose=given.verbose), local_moments.MOMENTS)
        if is_local
        else (_fake_rows(), fake_moments.MOMENTS)
    )
    wanted = (row for row in rows if not given.only or any(re.search(one, row.name) for one in given.only))
    nobody = False
    for line in table(wanted, [moment for moment in known if moment in given.moments]):
        print(line, flush=True)
        nobody = nobody or "; nobody |" in line
    return 1 if nobody else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
