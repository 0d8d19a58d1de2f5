"""Text of others in Markdown as GitHub shows it: nothing in it is markup, a link, a mention or a reference."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping

from pytest_serve_chaos.printable import one_line, printable

_LINKED = re.compile(r"://|www\.|@|#(?=\d)|\bGH-(?=\d)", re.IGNORECASE)

_UNLINKED: Mapping[str, Callable[[str], str]] = {
    "://": lambda _: "&#58;//",
    "www.": lambda text: f"{text[:3]}&#46;",
    "@": lambda _: "@<!-- -->",
    "#": lambda _: "#<!-- -->",
    "gh-": lambda text: f"{text}<!-- -->",
}
"""How the beginning of what GitHub makes a link, a mention or a reference of is written so that it is text."""

_BLOCK = re.compile(r"^(\s*)(>|#+(?=\s|$)|[+=-]+(?=\s|$)|\d+(?=[.)](?:\s|$)))")
"""What begins a heading, a quotation or an item of a list."""


def escaped(text: str) -> str:
    """Text that is shown as it is, in one line: without what Markdown, HTML or GitHub would make of it."""
    text = printable(text.replace("\r\n", "\n").replace("\n", " "))
    for special in "\\`*_[]|~$":
        text = text.replace(special, "\\" + special)
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return _unlinked(_BLOCK.sub(_without_block, text))


def _unlinked(text: str) -> str:
    return _LINKED.sub(lambda found: _UNLINKED[found[0].lower()](found[0]), text)


def _without_block(found: re.Match[str]) -> str:
    space, mark = found.groups()
    return f"{space}{mark}<!-- -->" if mark.isdigit() else f"{space}\\{mark}"


def in_code(text: str) -> str:
    """Text as code in a line, where nothing is markup either; in a table too."""
    text = one_line(text).replace("|", "\u00a6")
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def fenced(lines: Iterable[str], language: str = "text") -> list[str]:
    """Lines of others as a block of code, which ends where they do, whatever they are."""
    shown = [one_line(line) for line in lines]
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in shown), 3)
    return [f"{fence}{language}", *shown, fence]


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], *, right: int = 0) -> list[str]:
    """A table, whose cells are Markdown already; the last `right` columns have figures."""
    titles = list(titles)
    left = len(titles) - right
    return [_row(titles), _row(["---"] * left + ["---:"] * right), *map(_row, rows), ""]


def folded(title: str, lines: Iterable[str]) -> list[str]:
    """Lines that the reader has to unfold."""
    shown = _unlinked(html.escape(one_line(title), quote=False))  # what stands in a tag is HTML, and not Markdown
    return [f"<details><summary>{shown}</summary>", "", *lines, "", "</details>", ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
