"""A comparison as a page: the answer, the table, and each trial as a point, old above new."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence

from pytest_serve_chaos.analysis.compared import Compared, Comparison
from pytest_serve_chaos.printable import one_line
from pytest_serve_chaos.report.comparison_text import (
    answer_line,
    change_words,
    finding_line,
    method,
    middle_words,
    p_value,
    sure_words,
    value_words,
)

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --page: #fff; --line: #d0d7de; --soft: #57606a; --old: #6e7781;
  --new: #0969da; --worse: #cf222e; --better: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --page: #0d1117; --line: #30363d; --soft: #9198a1;
  --old: #9198a1; --new: #58a6ff; --worse: #ff7b72; --better: #3fb950; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 75rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.worse { color: var(--worse); font-weight: 600; } .better { color: var(--better); font-weight: 600; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
figcaption { color: var(--soft); font-size: .9rem; } svg { width: 100%; height: auto; } svg text { fill: var(--soft);
  font: 12px system-ui, sans-serif; } .old { fill: var(--old); stroke: var(--old); }
.new { fill: var(--new); stroke: var(--new); } .axis { stroke: var(--line); }
@media print { figure { break-inside: avoid; } }
"""

_WIDTH, _LEFT, _RIGHT = 420, 70, 380
_ROWS = (30, 66)


def page(found: Comparison) -> str:
    """The page: one file, which loads nothing."""
    return "".join(_page(found))


def _page(found: Comparison) -> Iterator[str]:
    title = _text(answer_line(found))
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<p>{_text(method(found))}</p>\n"
    yield '<div class="table" tabindex="0"><table><thead><tr>'
    titles = ("experiment", "measure", found.old, found.new, f"change ({sure_words(found)})", "p", "finding")
    yield "".join(f'<th scope="col">{_text(one)}</th>' for one in titles)
    yield "</tr></thead><tbody>\n"
    for row in found.rows:
        yield _row(row)
    yield "</tbody></table></div>\n"
    if found.notes:
        yield f"<ul>{''.join(f'<li>{_text(note)}</li>' for note in found.notes)}</ul>\n"
    for experiment in dict.fromkeys(row.experiment for row in found.rows):
        yield f'<h2>{_text(experiment)}</h2>\n<div class="plots">'
        yield "".join(_figure(row, found) for row in found.of(experiment))
        yield "</div>\n"
    yield "</body></html>\n"


def _row(row: Compared) -> str:
    cells = (row.experiment, row.measure.title, *middle_words(row), change_words(row), p_value(row.p))
    shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    return f'<tr>{shown}<td class="{row.finding.replace(" ", "-")}">{_text(row.finding)}</td></tr>\n'


def _figure(row: Compared, found: Comparison) -> str:
    caption = _text(finding_line(row, (found.old, found.new)))
    return f"<figure>{''.join(_plot(row, found))}<figcaption>{caption}</figcaption></figure>\n"


def _plot(row: Compared, found: Comparison) -> Iterator[str]:
    """Each trial as a point on one axis; those that never came back stand at its right end."""
    finite = [value for value in (*row.old, *row.new) if math.isfinite(value)]
    most = max(finite, default=1.0) or 1.0
    yield f'<svg viewBox="0 0 {_WIDTH} 110" role="img" aria-label="{_text(row.measure.title)} of each trial">'
    for name, values, y, css in ((found.old, row.old, _ROWS[0], "old"), (found.new, row.new, _ROWS[1], "new")):
        yield f'<line class="axis" x1="{_LEFT}" y1="{y}" x2="{_RIGHT + 25}" y2="{y}"/>'
        yield f'<text x="0" y="{y + 4}">{_text(_short(name))}</text>'
        yield from _points(values, y, most, css)
    for value in (0.0, most):
        yield _label(_place(value, most), value_words(value, row.measure))
    if len(finite) < len(row.old) + len(row.new):
        yield _label(_RIGHT + 20, value_words(math.inf, row.measure))
    yield "</svg>"


def _label(x: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="102" text-anchor="middle">{_text(text)}</text>'


def _points(values: Sequence[float], y: int, most: float, css: str) -> Iterator[str]:
    for i, value in enumerate(values):
        x, aside = _place(value, most), (i % 5 - 2) * 3
        yield f'<circle class="{css}" fill-opacity=".45" cx="{x:.1f}" cy="{y + aside}" r="4"/>'
    middle = sorted(values)[(len(values) - 1) // 2]
    x = _place(middle, most)
    yield f'<line class="{css}" stroke-width="2" x1="{x:.1f}" y1="{y - 13}" x2="{x:.1f}" y2="{y + 13}"/>'


def _place(value: float, most: float) -> float:
    return _RIGHT + 20 if math.isinf(value) else _LEFT + (_RIGHT - _LEFT) * value / most


def _short(name: str) -> str:
    return name if len(name) <= 9 else f"{name[:8]}…"


def _text(text: str) -> str:
    return html.escape(one_line(text))
