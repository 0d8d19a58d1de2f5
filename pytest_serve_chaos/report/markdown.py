"""The table of a run as Markdown, for the summary of a GitHub Actions job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.model import ConfigWarning
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.terminal import (
    TITLES,
    VERDICTS,
    cells,
    cluster_words,
    explained,
    part_lines,
    what_is_late,
)

_LINKED = re.compile(r"://|www\.|@", re.IGNORECASE)

_UNLINKED: Mapping[str, Callable[[str], str]] = {
    "://": lambda _: "&#58;//",
    "www.": lambda text: f"{text[:3]}&#46;",
    "@": lambda _: "@<!-- -->",
}
"""How the beginning of what GitHub makes a link, or a mention, of is written so that it is text."""


def summary(results: Iterable[Result], warnings: Iterable[ConfigWarning] = (), *, missing: Iterable[str] = ()) -> str:
    """A heading for each cluster, the table of its experiments, why they did not pass, and the warnings.

    Args:
        results: Those of all experiments.
        warnings: What the check of the configuration said.
        missing: What should be there and is not, a line each.
    """
    all_results = list(results)
    lines = []
    for cluster in dict.fromkeys(_cluster(result) for result in all_results):
        its_own = [result for result in all_results if _cluster(result) == cluster]
        late = what_is_late(its_own)
        lines += [f"### {escaped(cluster)}", "", *_table(its_own), "", *([escaped(late), ""] if late else [])]
    if not all_results:
        lines += ["No experiment was judged.", ""]
    told = [(result, line) for result in all_results for line in (*part_lines(result), *explained(result))]
    lines += [f"- **{escaped(result.experiment)}**: {escaped(line)}" for result, line in told]
    lines += [f"- {escaped(line)}" for line in missing]
    lines += [f"- warning: {escaped(warning.line)}" for warning in warnings]
    return "\n".join(lines).strip() + "\n"


def _table(results: Iterable[Result]) -> Iterable[str]:
    yield _row(["experiment", "verdict", *TITLES])
    yield _row(["---", "---", *("---:" for _ in TITLES)])
    for result in results:
        verdict = VERDICTS[result.outcome]
        shown = verdict if result.passed else f"**{verdict}**"
        yield _row([escaped(result.experiment), shown, *(cells(result) or [""] * len(TITLES))])


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _cluster(result: Result) -> str:
    return "an unknown cluster" if result.description is None else cluster_words(result.description)


def escaped(text: str) -> str:
    """Text that is shown as it is: without what Markdown, HTML or GitHub would make of it."""
    text = printable(text.replace("\r\n", "\n").replace("\n", " "))
    for special in "\\`*_[]|~$":
        text = text.replace(special, "\\" + special)
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return _LINKED.sub(lambda found: _UNLINKED[found[0].lower()](found[0]), text)
