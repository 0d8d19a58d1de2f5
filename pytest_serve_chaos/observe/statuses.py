"""What Serve says of its apps, deployments and proxies: never evidence of recovery, but what people look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_serve_chaos.analysis.words import listing
from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.events import SERVE, SERVE_IS_SILENT, ServeSaid
from pytest_serve_chaos.observe.observer import Report

_ANSWERS = "answers"


def statuses_of(report: Report, node_name: Callable[[str], str]) -> dict[str, str]:
    """What Serve says of each thing: ``app default``, ``deployment default#Echo``, ``proxy on head``.

    Args:
        report: The last that it said.
        node_name: The name of the node with that id; "" if that is not known.
    """
    serve = report.serve
    if serve is None:
        return {SERVE: SERVE_IS_SILENT}
    apps = {f"app {name}": status for name, status in serve.apps.items() if not name.startswith(CANARY)}
    own = {f"deployment {name}": said for name, said in serve.deployments.items() if not name.startswith(CANARY)}
    proxies = {f"proxy on {node_name(node) or node[:8]}": status for node, status in serve.proxies.items()}
    return {SERVE: _ANSWERS, **apps, **own, **proxies}


def change(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What Serve says otherwise than before; "" for what it no longer names. If it is silent, it takes nothing back."""
    named = [] if now.get(SERVE) == SERVE_IS_SILENT else [name for name, word in before.items() if word]
    changed = {name: word for name, word in now.items() if before.get(name) != word}
    return changed | {name: "" for name in named if name not in now}


def serve_said(changes: Mapping[str, str], at: float, experiment: str) -> ServeSaid:
    """The event for these changes."""
    words = (f"{name}: {word or 'no longer named'}" for name, word in changes.items())
    return ServeSaid(f"Serve says {listing(words)}", at=at, experiment=experiment, statuses=dict(changes))
