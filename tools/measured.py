"""Keeps the figures of real runs in one file for each backend, and makes the tables of the documentation of them.

``python tools/measured.py add BACKEND SUMMARY [SECONDS]`` adds the ``summary.json`` of a run of the suite, which took
so many seconds, to ``docs/measured/BACKEND.json``. ``python tools/measured.py write PAGE...`` makes the tables of it.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pytest_serve_chaos.analysis.words import duration, latency, number, percent

Figures: TypeAlias = Mapping[str, object]
"""What is kept of one experiment."""

DIRECTORY = Path(__file__).parents[1] / "docs" / "measured"

_KEPT = ("sent", "lost", "late", "seconds", "availability", "longest_outage", "redundancy_back", "settled")
_BLOCK = re.compile(r"(<!-- (measured_\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_HEAD = (
    "experiment",
    "verdicts",
    "lost or late",
    "available",
    "longest outage",
    "p99 before",
    "p99 after",
    "redundancy back",
    "settled",
)


def reduced(summary: Mapping[str, object], seconds: float | None = None) -> dict[str, object]:
    """What is kept of a run.

    Args:
        summary: The content of its ``summary.json``.
        seconds: How long it took.
    """
    run = _mapping(summary["run"])
    experiments = [_mapping(one) for one in _list(summary["experiments"])]
    return {
        "ray": run["ray_version"],
        "workers": run["workers"],
        "replicas": run["replicas"],
        "seconds": seconds,
        "experiments": [_experiment(one) for one in experiments if not one.get("run_again")],
    }


def _experiment(one: Mapping[str, object]) -> dict[str, object]:
    measured = _mapping(one["measurement"])
    kept = {name: rounded(measured.get(name)) for name in _KEPT}
    for when in ("before", "during"):
        found = measured.get(when)
        kept[f"p99_{when}"] = rounded(_mapping(found)["p99"]) if isinstance(found, dict) else None
        kept[f"has_{when}"] = isinstance(found, dict)
    against = _against(one)
    expected = {} if against is None else {"against_prediction": against}
    return {"experiment": one["experiment"], "verdict": one["verdict"], "reasons": one["reasons"], **kept, **expected}


EXPECTED = ("lost", "lost_most", "outage_least", "outage_most", "redundancy_least", "redundancy_most", "dominant")
"""What is kept of a prediction."""

SEEN = ("lost", "unexplained", "outage", "outage_beyond", "redundancy", "redundancy_beyond")
"""What is kept of what was seen."""


def _against(one: Figures) -> dict[str, object] | None:
    """What was expected and what was seen; None where there was no prediction, or nothing to compare it with."""
    found = one.get("against_prediction")
    if not isinstance(found, dict):
        return None
    (prediction,) = (_mapping(each) for each in _list(one["predictions"]))
    return {
        "expected": {name: rounded(prediction[name]) for name in EXPECTED},
        "seen": {name: rounded(found[name]) for name in SEEN},
    }


def rounded(value: object) -> object:
    """A figure with no more digits than anybody reads."""
    return round(value, 4) if isinstance(value, float) else value


# -- tables --------------------------------------------------------------------------------------------------------


def written(page: str, runs_of: Callable[[str], Sequence[Mapping[str, object]]]) -> str:
    """A page with its tables made of these runs, by the name of the backend."""

    def block(match: re.Match[str]) -> str:
        _, kind, *rest = match[2].split("_", 2)
        if not rest:
            text = _table(runs_of(kind))
        elif rest[0].startswith("and_"):
            text = _beside(runs_of(kind), runs_of(rest[0].removeprefix("and_")))
        elif rest[0] == "expected":
            text = _expected_and_seen(runs_of(kind))
        else:
            text = _sample(runs_of(kind)[-1], rest[0])
        return f"{match[1]}{text}\n{match[3]}"

    return _BLOCK.sub(block, page)


def _table(runs: Sequence[Mapping[str, object]]) -> str:
    if not runs:
        return "No run is kept."
    rows = [_row(name, found) for name, found in _by_experiment(runs).items()]
    took = [float(str(run["seconds"])) / 60 for run in runs if run["seconds"]]
    each = " for each" if len(runs) > 1 else ""
    length = f", {_range(took, '.0f')} minutes{each}" if took else ""
    times = f"{number(len(runs), 'run')} with Ray {runs[0]['ray']}{length}"
    head = f"| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}"
    return "\n".join([f"{times}.\n", head, *(f"| {' | '.join(row)} |" for row in rows)])


def _by_experiment(runs: Sequence[Mapping[str, object]]) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {}
    for run in runs:
        for one in _experiments(run):
            found.setdefault(str(one["experiment"]), []).append(one)
    return found


def _beside(left: Sequence[Mapping[str, object]], right: Sequence[Mapping[str, object]]) -> str:
    """The experiments that both kinds of ingress have, with the figures of Serve's own proxies first."""
    python, haproxy = _by_experiment(left), _by_experiment(right)
    rows = [f"| `{name}` | {' | '.join(_pair(python[name], haproxy[name]))} |" for name in python if name in haproxy]
    if not rows:
        return "No run is kept."
    titles = [f"{title}, {kind}" for title in _COMPARED for kind in ("Python", "HAProxy")]
    head = f"| experiment | {' | '.join(titles)} |\n|{' --- |' * (1 + len(titles))}"
    return "\n".join([head, *rows])


_EXPECTED_HEAD = (
    "experiment",
    "lost: expected",
    "seen",
    "unexplained",
    "outage: expected",
    "seen",
    "redundancy: expected",
    "seen",
    "decided by",
)


def _expected_and_seen(runs: Sequence[Mapping[str, object]]) -> str:
    """The newest prediction of each experiment, and what all runs with a prediction have seen."""
    found = {
        name: [_mapping(one["against_prediction"]) for one in each if "against_prediction" in one]
        for name, each in _by_experiment(runs).items()
    }
    rows = [_expected_row(name, each) for name, each in found.items() if each]
    if not rows:
        return "No run with predictions is kept."
    head = f"| {' | '.join(_EXPECTED_HEAD)} |\n|{' --- |' * len(_EXPECTED_HEAD)}"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def _expected_row(name: str, found: Sequence[Figures]) -> list[str]:
    expected = _mapping(found[-1]["expected"])
    seen = [_mapping(one["seen"]) for one in found]
    most = expected["lost_most"]
    return [
        f"`{name}`",
        "unknown" if most is None else f"at most {most}",
        _each(seen, "lost"),
        _each(seen, "unexplained"),
        _expected_seconds(expected, "outage"),
        _span(seen, "outage", duration),
        _expected_seconds(expected, "redundancy"),
        _times_back(seen),
        f"`{expected['dominant']}`" if expected["dominant"] else "-",
    ]


def _times_back(seen: Sequence[Figures]) -> str:
    """After how long redundancy was back in each run, or that in some it never was."""
    known = _span(seen, "redundancy", duration)
    never = sum(one["redundancy"] is None for one in seen)
    return known if not never else f"{known}, never in {never} of {len(seen)}" if never < len(seen) else "never"


def _each(found: Sequence[Figures], name: str) -> str:
    return ", ".join("-" if one[name] is None else str(one[name]) for one in found)


def _expected_seconds(expected: Figures, name: str) -> str:
    least, most = _number(expected, f"{name}_least"), expected[f"{name}_most"]
    if most is None:
        return f"at least {duration(least)}" if least else "unknown"
    top = duration(_number(expected, f"{name}_most"))
    return f"{duration(least)} - {top}" if least else f"up to {top}"


_COMPARED = ("verdicts", "lost or late", "longest outage", "redundancy back")


def _pair(left: Sequence[Figures], right: Sequence[Figures]) -> Iterator[str]:
    for words in (
        _verdicts,
        _all_away,
        lambda found: _span(found, "longest_outage", duration),
        lambda found: _span(found, "redundancy_back", duration),
    ):
        yield words(left)
        yield words(right)


def _verdicts(found: Sequence[Figures]) -> str:
    """Each verdict, or the one that all runs share with their number."""
    said = [str(one["verdict"]) for one in found]
    if len(found) == 1 or len(set(said)) > 1:
        return ", ".join(said)
    return f"{said[0]} {len(said)} times"


def _all_away(found: Sequence[Figures]) -> str:
    return ", ".join(f"{_away(one)} of {one['sent']}" for one in found if one["sent"] is not None) or "-"


def _row(name: str, found: Sequence[Figures]) -> list[str]:
    return [
        f"`{name}`",
        ", ".join(str(one["verdict"]) for one in found),
        _all_away(found),
        _span(found, "availability", percent),
        _span(found, "longest_outage", duration),
        _span(found, "p99_before", latency, has="has_before"),
        _span(found, "p99_during", latency, has="has_during"),
        _span(found, "redundancy_back", duration),
        _span(found, "settled", duration),
    ]


def _span(found: Iterable[Figures], name: str, words: Callable[[float], str], *, has: str = "") -> str:
    """The least and the most of a figure; of a latency, None is a request that was never answered."""
    seen = [one for one in found if (one[has] if has else one[name] is not None)]
    values = sorted(float("inf") if one[name] is None else _number(one, name) for one in seen)
    if not values:
        return "-"
    first, last = words(values[0]), words(values[-1])
    return first if first == last else f"{first} - {last}"


def _range(values: Sequence[float], form: str) -> str:
    least, most = f"{min(values):{form}}", f"{max(values):{form}}"
    return least if least == most else f"{least} to {most}"


def _sample(run: Mapping[str, object], name: str) -> str:
    """A row of the table at the end of a run, without some of its columns."""
    (one,) = (one for one in _experiments(run) if one["experiment"] == name)
    head = ("experiment", "verdict", "lost or late / sent", "available", "outage", "redundancy", "settled")
    outage = _number(one, "longest_outage")
    row = (
        name,
        str(one["verdict"]) if one["verdict"] != "failed" else "FAILED",
        f"{_away(one)} / {one['sent']}",
        f"{percent(_number(one, 'availability'))} in {_number(one, 'seconds'):.0f} s",
        duration(outage) if outage else "-",
        duration(_number(one, "redundancy_back")),
        duration(_number(one, "settled")),
    )
    widths = [max(len(title), len(cell)) for title, cell in zip(head, row, strict=True)]
    lines = ["  ".join(_aligned(cells, widths)).rstrip() for cells in (head, row)]
    reasons = [re.sub(r"\([^)]*\)", "(...)", str(reason)) for reason in _list(one["reasons"])]
    wrapped = [textwrap.fill(r, 118, initial_indent="  ", subsequent_indent="  ") for r in reasons]
    return "\n".join(["```text", *lines, *wrapped, "```"])


def _aligned(cells: Iterable[str], widths: Iterable[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if column < 2 else cell.rjust(width)


def _away(one: Figures) -> int:
    return round(_number(one, "lost") + _number(one, "late"))


def _experiments(run: Mapping[str, object]) -> list[Mapping[str, object]]:
    return [_mapping(one) for one in _list(run["experiments"])]


def _number(one: Figures, name: str) -> float:
    value = one[name]
    return float(value) if isinstance(value, (int, float)) else 0.0


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


# -- command line --------------------------------------------------------------------------------------------------


def runs_of(backend: str) -> list[Mapping[str, object]]:
    """The runs that are kept for a backend."""
    path = DIRECTORY / f"{backend}.json"
    return [_mapping(run) for run in _list(json.loads(path.read_text(encoding="utf-8")))] if path.exists() else []


def _add(backend: str, summary: Path, seconds: float | None) -> None:
    runs = [*runs_of(backend), reduced(json.loads(summary.read_text(encoding="utf-8")), seconds)]
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{backend}.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Does what the command line says; returns the exit status."""
    match arguments:
        case ["add", backend, summary]:
            _add(backend, Path(summary), None)
        case ["add", backend, summary, seconds]:
            _add(backend, Path(summary), float(seconds))
        case ["write", *pages] if pages:
            for page in map(Path, pages):
                page.write_text(written(page.read_text(encoding="utf-8"), runs_of), encoding="utf-8")
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
