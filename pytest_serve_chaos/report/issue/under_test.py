"""What was under test: versions, settings, the machine, who was alive, and what was demanded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_serve_chaos.analysis.words import latency
from pytest_serve_chaos.model import Component, Json, Topology
from pytest_serve_chaos.report.issue.subject import Subject, without_directory
from pytest_serve_chaos.report.markdown_text import escaped, in_code, table

_OF_THE_AUTHOR = ("context", "run")
"""Details of a cluster that name what only its author can look at."""


def under_test(subject: Subject) -> Iterator[str]:
    """Tables of the versions, the settings, the processes before the fault, and the demands."""
    yield from _cluster(subject)
    if subject.ready is not None:
        yield from _profile_settings(subject.ready.profile_settings)
    yield from _topology("Before the fault", subject.result.before)
    yield from _demands(subject)
    yield from (f"- warned about before: {escaped(warning.line)}" for warning in subject.result.warnings)


def _cluster(subject: Subject) -> Iterator[str]:
    rows: list[tuple[str, object]] = []
    description = subject.result.description
    if description is not None:
        rows += [
            ("Ray", description.ray_version),
            ("backend", description.backend),
            ("profile", _profile(description.profile)),
            ("workers", description.workers),
            ("state of the GCS", description.gcs),
            ("ingress", description.ingress),
            ("app", description.app),
            ("replicas", description.replicas),
            *_shown(description.details),
        ]
    if subject.ready is not None:
        rows += _host(subject.ready.host)
    if subject.traffic is not None and subject.traffic.rate is not None:
        stages = f" (stages: {subject.traffic.stages})" if subject.traffic.stages else ""
        rows.append(("traffic", f"{subject.traffic.rate:g} requests/s, {subject.traffic.arrivals} arrivals{stages}"))
    if subject.repeat is not None:
        rows.append(("settings that were changed", " ".join(subject.repeat.options) or "none"))
    if subject.ready is not None and subject.ready.seed is not None:
        rows.append(("seed", subject.ready.seed))
    yield from table(("what", "value"), ((escaped(str(name)), in_code(str(value))) for name, value in rows))


def _shown(details: Mapping[str, Json]) -> Iterator[tuple[str, object]]:
    """Those that a stranger has a use for: an issue is public, and says nothing of its author's machine or contexts."""
    for name, value in details.items():
        if name not in _OF_THE_AUTHOR:
            yield name, without_directory(value) if isinstance(value, str) else value


def _profile(name: str) -> str:
    return {"fast": "fast (shortened periods)", "guide": "guide (periods of Ray and its guide)"}.get(name, name)


def _host(host: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """The machine on which the tests ran, which is not that of a cluster elsewhere."""
    where = "" if host.get("has_cluster") else " of the tests' machine"
    system = [str(host[key]) for key in ("system", "distribution") if host.get(key)]
    if system:
        yield f"operating system{where}", ", ".join(system)
    if isinstance(processors := host.get("processors"), int):
        yield f"processors{where}", str(processors)
    if isinstance(memory := host.get("memory"), int):
        yield f"memory{where}", f"{memory / 2**30:.1f} GiB"


def _profile_settings(settings: Mapping[str, Json]) -> Iterator[str]:
    """What the profile sets, with the value that was in use: a line each, with all places of the same value."""
    places: dict[tuple[str, str], list[str]] = {}
    for where, title in _PLACES.items():
        given = settings.get(where)
        for name, value in given.items() if isinstance(given, Mapping) else ():
            places.setdefault((str(name), str(value)), []).append(title)
    if places:
        yield "Set by the profile, other than Ray's defaults:"
        yield ""
        rows = ((in_code(name), in_code(value), " and ".join(titles)) for (name, value), titles in places.items())
        yield from table(("setting", "value", "of"), rows)


_PLACES = {"head": "head", "workers": "workers", "serve": "Serve config"}
"""Where a setting of the profile is -> what that is called."""


def _topology(title: str, topology: Topology | None) -> Iterator[str]:
    if topology is None:
        return
    yield f"{title}:"
    yield ""
    nodes = dict.fromkeys(component.node for component in topology.components)
    rows = ((escaped(node), _machine(topology, node), _processes(topology, node)) for node in nodes)
    yield from table(("node", "machine", "processes"), rows)


def _machine(topology: Topology, node: str) -> str:
    machines = {c.machine for c in topology.components if c.node == node and c.machine}
    return in_code(", ".join(sorted(machines))) if machines else ""


def _processes(topology: Topology, node: str) -> str:
    here = [c for c in topology.components if c.node == node and c.role not in ("head", "worker")]
    return escaped(", ".join(map(_process, here)))


def _process(component: Component) -> str:
    what = component.deployment if component.role == "replica" else component.role
    own = f" {component.replica.rpartition('#')[2]}" if component.replica else ""
    return f"{what}{own}" + (f" (PID {component.pid})" if component.pid is not None else "")


def _demands(subject: Subject) -> Iterator[str]:
    rows = [
        (escaped(one.what), escaped(one.demanded), escaped(one.seen), _sign(one.met))
        for one in subject.timeline.demands
    ]
    if rows:
        yield "Demanded, and seen:"
        yield ""
        yield from table(("what", "demanded", "seen", "met"), rows)
    before, during = subject.result.measurement.before, subject.result.measurement.during
    if before is not None and during is not None:
        yield f"Latency (p99): {latency(before.p99)} before the fault, {latency(during.p99)} after it."
        yield ""


def _sign(met: bool | None) -> str:
    return "unknown" if met is None else "yes" if met else "**no**"
