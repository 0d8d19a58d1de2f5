"""Elements of an SVG, in which text of others is only text, and has room."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from pytest_serve_chaos.printable import one_line

CHARACTER = 0.58
"""The width of an average character of a sans-serif font, in its size; a little more than it is."""

_NO_XML = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF))
"""Characters that XML cannot have."""


def safe(text: str) -> str:
    """Text of others as XML can have it: in one line, with nothing that is markup or no character."""
    return escape(one_line(text.translate(_NO_XML)))


def width_of(text: str, size: float) -> float:
    """About how wide a text is, in pixels; never less than it is, for the characters of names and figures."""
    return sum(1.0 if ord(character) > 0x2E7F else CHARACTER for character in text) * size


def fitted(text: str, width: float, size: float) -> str:
    """The text, cut so that it is no wider; "" where not even three characters have room."""
    text = one_line(text)
    if width_of(text, size) <= width:
        return text
    kept = text
    while kept and width_of(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…" if len(kept) >= 3 else ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a moment is: from pixel `left` to pixel `right` are the seconds from `begin` to `end`."""

    begin: float
    end: float
    left: float
    right: float

    @property
    def per_second(self) -> float:
        """Pixels of a second."""
        return (self.right - self.left) / (self.end - self.begin)

    def x(self, at: float) -> float:
        """The pixel of a moment; of one outside, that of the edge."""
        return self.left + (min(max(at, self.begin), self.end) - self.begin) * self.per_second

    def shows(self, at: float) -> bool:
        """Whether that moment is in the picture."""
        return self.begin <= at <= self.end


@dataclass(slots=True)
class Canvas:
    """The elements of a picture, in the order in which they are drawn."""

    elements: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, style: str, *, title: str = "") -> None:
        """A rectangle with a class of the style sheet; `title` is shown where the mouse is."""
        inner = f"<title>{safe(title)}</title></rect>" if title else ""
        end = f">{inner}" if inner else "/>"
        self.elements.append(
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" height="{height:.1f}"{end}'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self.elements.append(f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')

    def path(self, pieces: str, style: str) -> None:
        """A path; of many small marks, one path is much smaller than many elements."""
        if pieces:
            self.elements.append(f'<path class="{style}" d="{pieces}"/>')

    def text(self, x: float, y: float, text: str, style: str, *, title: str = "") -> None:
        """A text, at the left end of its line."""
        if text:
            tip = f"<title>{safe(title)}</title>" if title and title != text else ""
            self.elements.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{tip}{safe(text)}</text>')


def document(canvas: Canvas, width: int, height: float, *, title: str, description: str, style: str) -> str:
    """The SVG, with a title and a description for who cannot see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}"'
        f' viewBox="0 0 {width} {height:.0f}" role="img" aria-label={quoteattr(one_line(title.translate(_NO_XML)))}>'
    )
    return "\n".join(
        [
            head,
            f"<title>{safe(title)}</title>",
            f"<desc>{safe(description)}</desc>",
            f"<style>{style}</style>",
            f'<rect class="page" width="{width}" height="{height:.0f}"/>',
            *canvas.elements,
            "</svg>",
            "",
        ]
    )
