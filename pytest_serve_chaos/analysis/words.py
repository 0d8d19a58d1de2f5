"""Figures as people read them, the same in reasons, tables and reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pytest_serve_chaos.model import Outage


def percent(share: float) -> str:
    """A measured share with two digits, or as many more as it takes not to call 99.9996 % a hundred."""
    for digits in range(2, 9):
        text = f"{100 * share:.{digits}f}"
        if share >= 1 or float(text) < 100:
            break
    return f"{text} %"


def limit_percent(share: float) -> str:
    """A share that somebody wrote down: ``1 %``, ``99.9 %``."""
    return f"{100 * share:.10g} %"


def duration(seconds: float) -> str:
    """A measured span of seconds: ``0.02 s``, ``24.1 s``, ``1204 s``."""
    if 0 < seconds < 0.095:
        return f"{max(seconds, 0.01):.2f} s"
    return f"{seconds:.1f} s" if seconds < 999.95 else f"{seconds:.0f} s"


def limit(seconds: float) -> str:
    """A span of seconds that somebody wrote down: ``5 s``, ``0.5 s``."""
    return f"{seconds:g} s"


def latency(seconds: float) -> str:
    """A latency: milliseconds below a second (``41 ms``), seconds above (``5.0 s``); ``lost`` for one without end."""
    if math.isinf(seconds):
        return "lost"
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else duration(seconds)


def number(n: int, one: str, many: str | None = None) -> str:
    """``1 proxy``, ``3 proxies``; `many` defaults to `one` with an s."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def all_of(n: int, one: str, many: str | None = None) -> str:
    """``the only proxy``, ``both proxies``, ``all 3 proxies``."""
    plural = many or one + "s"
    return f"the only {one}" if n == 1 else f"both {plural}" if n == 2 else f"all {n} {plural}"


def listing(names: Iterable[str], *, most: int = 5) -> str:
    """Names with commas between them; those beyond `most` are only counted."""
    all_names = list(names)
    text = ", ".join(all_names[:most])
    return text if len(all_names) <= most else f"{text} and {len(all_names) - most} more"


def counted(counts: Mapping[str, int]) -> str:
    """``430 ReadTimeout, 7 ConnectError``: the most frequent first."""
    return listing(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def away(outage: Outage) -> str:
    """What became of the requests of an outage: ``3 of 12 requests lost, 2 answered too late``."""
    if not outage.lost and not outage.late:  # each was answered just in time, and yet nobody had an answer for so long
        return f"no answer to anybody; all {number(outage.sent, 'request')} answered later"
    late = f", {outage.late} answered too late" if outage.late else ""
    return f"{outage.lost} of {number(outage.sent, 'request')} lost{late}"
