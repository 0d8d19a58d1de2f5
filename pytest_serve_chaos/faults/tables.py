"""The tables about faults in README and docs, made of the registry.

``python -m pytest_serve_chaos.faults.tables README.md docs/*.md`` writes them between the comments that name them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.spec import FaultSpec, Keyword, Need
from pytest_serve_chaos.model import Expectations

JUDGED = (
    "availability",
    "window",
    "lost_beyond_in_flight",
    "longest_outage",
    "traffic_back",
    "redundancy_back",
    "persistent_availability",
    "replaced",
    "kept",
    "surviving",
    "spread",
    "settled",
)
"""The demands that some fault makes by default."""


def overview(faults: FaultRegistry) -> str:
    """What each fault breaks."""
    titles = ("marker", "target", "what breaks", "verbs (`how`)", "other keywords")
    return _table(titles, ((f"`{f.name}`", f"`{f.target}`", f.effect, _words(f.verbs), _keywords(f)) for f in faults))


def markers(faults: FaultRegistry) -> str:
    """What each marker takes."""
    titles = ("marker", "`how`, the default first", "other keywords")
    return _table(titles, ((f"`{fault.name}`", _words(fault.verbs), _keywords(fault)) for fault in faults))


def keywords(faults: FaultRegistry) -> str:
    """What each keyword of a marker can be."""
    found: dict[str, dict[str, Keyword]] = {}
    for fault in faults:
        for one in fault.options:
            found.setdefault(one.name, {})[fault.name] = one
    titles = ("keyword", "values", "default", "goes with")
    return _table(titles, ((f"`{name}`", *_keyword_cells(faults, of)) for name, of in found.items()))


def expectations(faults: FaultRegistry) -> str:
    """What each fault demands by default."""
    titles = ("marker", *(f"`{name}`" for name in JUDGED))
    return _table(titles, ((f"`{fault.name}`", *_demands(fault.expectations)) for fault in faults))


def capabilities(faults: FaultRegistry) -> str:
    """Which faults need which capability of a cluster."""
    found: dict[str, dict[str, list[str]]] = {}
    for fault in faults:
        for need in fault.needs:
            for capability in need.capabilities:
                users = found.setdefault(capability.name, {})
                users.setdefault(fault.name, []).extend(_uses(fault, need))
    rows = ((f"`{name}`", "; ".join(_user(*user) for user in users.items())) for name, users in found.items())
    return _table(("protocol", "needed by"), rows)


TABLES: Mapping[str, Callable[[FaultRegistry], str]] = {
    "faults": overview,
    "markers": markers,
    "keywords": keywords,
    "expectations": expectations,
    "capabilities": capabilities,
}
"""The name in a page's comments -> the table between them."""


def written(page: str, faults: FaultRegistry = BUILT_IN) -> str:
    """The page with the tables as they should be."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, found, rest = page.partition(begin)
        if found:
            page = before + begin + table(faults) + end + rest.partition(end)[2]
    return page


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _keywords(fault: FaultSpec[object]) -> str:
    return _words(one.name for one in fault.options)


def _keyword_cells(faults: FaultRegistry, of: Mapping[str, Keyword]) -> tuple[str, str, str]:
    """Values, default and verbs of a keyword; the first fault that has it speaks for those that say the same."""
    values = _by_fault({name: one.kind.must for name, one in of.items()})
    default = _by_fault({name: _default(one.default) for name, one in of.items()})
    any_verb = all(one.verbs == faults[name].verbs for name, one in of.items())
    verbs = dict.fromkeys(verb for one in of.values() for verb in one.verbs)
    return values, default, "" if any_verb else _words(verbs)


def _by_fault(texts: Mapping[str, str]) -> str:
    first, *others = texts.items()
    return first[1] + "".join(f"; for `{name}`: {text}" for name, text in others if text != first[1])


def _default(value: object) -> str:
    if value is None:
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _demands(expected: Expectations) -> Iterable[str]:
    return (_demand(getattr(expected, name)) for name in JUDGED)


def _demand(value: object) -> str:
    if value is None or value is False or value == ():
        return "-"
    if value is True:
        return "yes"
    return _words(value) if isinstance(value, tuple) else f"{value:g}"


def _uses(fault: FaultSpec[object], need: Need) -> Iterable[str]:
    """What of a fault needs it, where that is not all of it."""
    only = " ".join(f'`{name}="{value}"`' for name, value in need.only.items())
    if only:
        return [only]
    return [f"`{verb}`" for verb in need.verbs if need.verbs != fault.verbs]


def _user(name: str, uses: Sequence[str]) -> str:
    return f"`{name}`" + (f" ({', '.join(dict.fromkeys(uses))})" if uses else "")


def main(pages: Sequence[str]) -> None:
    """Writes the tables of these pages."""
    for path in map(Path, pages):
        path.write_text(written(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
