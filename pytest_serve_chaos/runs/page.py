"""The page that lists runs: one file, which loads nothing and runs no scripts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from urllib.parse import quote

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.model import Outcome
from pytest_serve_chaos.printable import one_line
from pytest_serve_chaos.runs.summary import ListedRun, NotPassed

MARK = "<!doctype html>\n<!-- Made by pytest-serve-chaos; it is made again after each run. -->\n"
"""How the page begins, so that the plugin knows it again."""

_MOST_NAMED = 4
"""Experiments that are named for each run."""

_MOST_CHARACTERS = 300
"""Of a reason, or of why a run cannot be read."""

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--dim:#5b6570;--line:#d8dee4;--link:#0757ba;
--passed:#116329;--failed:#b3141d;--inconclusive:#8a5300;--measured:#0757ba;--unfinished:#5b6570}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--text:#e4e8ec;--dim:#9aa5b1;--line:#353c44;--link:#79b3ff;
--passed:#5fce7d;--failed:#ff8983;--inconclusive:#e8b14c;--measured:#79b3ff;--unfinished:#9aa5b1}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:80rem;background:var(--back);color:var(--text);
font:1rem/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.35rem;margin:0 0 .25rem}
p{margin:.25rem 0 1rem;color:var(--dim)}
a{color:var(--link)}
a:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{width:100%;border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line)}
th{font-size:.85rem;color:var(--dim);font-weight:600}
td:first-child,td:last-child{white-space:nowrap}
td:nth-child(3){min-width:15rem}
ul{margin:.25rem 0 0;padding-left:1.1rem}
li,.dim{font-size:.875rem;color:var(--dim)}
b{margin-right:.75em;font-weight:600;white-space:nowrap}
.passed{color:var(--passed)}.failed{color:var(--failed)}.inconclusive{color:var(--inconclusive)}
.measured{color:var(--measured)}.unfinished{color:var(--unfinished)}
td:last-child a{margin-right:.75em}
@media(max-width:64rem){
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody,tr,td{display:block;width:100%}
tr{padding:.75rem 0;border-bottom:1px solid var(--line)}
td,td:nth-child(3){border:0;padding:.1rem 0;min-width:0}
td:first-child,td:last-child{white-space:normal}
td:first-child{font-weight:600}
}
@media print{body{max-width:none}a{color:inherit}}
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing."""


def index_page(runs: Sequence[ListedRun], *, older: int = 0) -> str:
    """The page.

    Args:
        runs: The runs, in the order in which they are listed.
        older: How many more there are that are not listed.
    """
    rows = "\n".join(_row(run) for run in runs)
    titles = "".join(f'<th scope="col">{title}</th>' for title in ("Run", "Verdicts", "Cluster", "Files"))
    more = f" {number(older, 'older run')} {'is' if older == 1 else 'are'} not listed." if older else ""
    return (
        f'{MARK}<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Runs of pytest-serve-chaos</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Runs of pytest-serve-chaos</h1>\n<p>{number(len(runs), 'run')}, newest first.{more}</p>\n"
        f"<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</body>\n</html>\n"
    )


def _row(run: ListedRun) -> str:
    cells = (_when(run), _verdicts(run), _cluster(run), _files(run))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _when(run: ListedRun) -> str:
    words = f'<time datetime="{run.began.isoformat()}">{run.began:%Y-%m-%d %H:%M:%S}</time>'
    if run.directory.startswith(f"{run.began:%Y-%m-%dT%H-%M-%S}"):
        return words
    return f'{words}<br><span class="dim">{_shown(run.directory)}</span>'


def _verdicts(run: ListedRun) -> str:
    if run.summary is None:
        return f'<span class="dim">skipped: {_shown(run.problem)}</span>'
    if not run.summary.outcomes:
        return '<span class="dim">no experiments</span>'
    return "".join((*_counts(run.summary.outcomes), *_named(run.summary.not_passed)))


def _counts(outcomes: Mapping[Outcome, int]) -> Iterator[str]:
    for outcome, count in outcomes.items():
        yield f'<b class="{outcome}">{count} {outcome}</b> '


def _named(not_passed: Sequence[NotPassed]) -> Iterator[str]:
    if not not_passed:
        return
    yield "<ul>"
    for one in not_passed[:_MOST_NAMED]:
        reason = f": {_shown(one.reason)}" if one.reason else ""
        yield f'<li><span class="{one.outcome}">{_shown(one.experiment)}</span>{reason}</li>'
    if len(not_passed) > _MOST_NAMED:
        yield f"<li>{len(not_passed) - _MOST_NAMED} more</li>"
    yield "</ul>"


def _cluster(run: ListedRun) -> str:
    if run.summary is None:
        return ""
    ray = f"Ray {run.summary.ray_version}" if run.summary.ray_version else ""
    words = ", ".join(_shown(text) for text in (run.summary.backend, ray) if text)
    app = f'<br><span class="dim">{_shown(run.summary.app)}</span>' if run.summary.app else ""
    return words + app


def _files(run: ListedRun) -> str:
    began = f"{run.began:%Y-%m-%d %H:%M:%S}"
    return " ".join(
        f'<a href="{escape(quote(os.fsencode(f"{run.directory}/{name}")))}" aria-label="{name} of {began}">{name}</a>'
        for name in run.files
    )


def _shown(text: str) -> str:
    """What others have named or written, as HTML shows it."""
    line = one_line(text)
    return escape(line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}...")
