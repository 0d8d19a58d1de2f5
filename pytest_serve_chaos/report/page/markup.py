"""HTML in which no text can become markup: what is not `Html` is escaped wherever it is put."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import TypeAlias

from pytest_serve_chaos.model import Json
from pytest_serve_chaos.printable import printable


class Html(str):
    """Text that is markup already. Only the functions of this module make it."""

    __slots__ = ()


Child: TypeAlias = "str | Html | Iterable[Child] | None"
"""What an element has in it: elements, text, nothing, or several of these."""

_EMPTY = frozenset({"meta", "br", "hr"})
"""Elements that have no end."""


def element(tag: str, *children: Child, **attributes: str | bool | None) -> Html:
    """An element. The names of attributes are written with ``_`` for ``-``; ``class_`` is the class.

    Args:
        tag: Its name.
        children: What is in it; text is escaped.
        attributes: False and None leave one out, True has no value.
    """
    start = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _EMPTY:
        return Html(f"<{tag}{start}>")
    return Html(f"<{tag}{start}>{together(children)}</{tag}>")


def together(children: Child) -> Html:
    """Several elements and texts, one after the other."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(html.escape(printable(children)))
    return Html("".join(together(child) for child in children))


def inline(tag: str, code: str, **attributes: str | bool | None) -> Html:
    """A script or a style of this package, as it is.

    Raises:
        ValueError: It would end its own element.
    """
    if f"</{tag}" in code.lower() or "<!--" in code:
        raise ValueError(f"the code of a {tag} must not have </{tag} or <!-- in it")
    start = "".join(_attribute(name, value) for name, value in attributes.items())
    return Html(f"<{tag}{start}>{code}</{tag}>")


def data(value: Json, *, id: str) -> Html:
    """JSON that a script reads. Nothing in it can end its element: it has neither ``<`` nor ``&``."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{html.escape(id)}">{text}</script>')


def table(titles: Iterable[str], rows: Iterable[Iterable[Child]], *, class_: str = "") -> Html:
    """A table whose first column has the titles of the rows; it may scroll sideways."""
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    body = []
    for row in rows:
        first, *others = row
        body.append(element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others)))
    whole = element("table", element("thead", head), element("tbody", *body), class_=class_ or None)
    return element("div", whole, class_="wide")


def folded(title: str, *content: Child, is_open: bool = False) -> Html:
    """A part that is unfolded by its title."""
    return element("details", element("summary", title), *content, open=is_open, class_="folded")


def _attribute(name: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-")
    return f" {shown}" if value is True else f' {shown}="{html.escape(printable(str(value)))}"'
