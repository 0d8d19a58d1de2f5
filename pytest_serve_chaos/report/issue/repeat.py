"""The command that repeats an experiment on the local backend, with its seed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from pytest_serve_chaos.report.issue.subject import Subject
from pytest_serve_chaos.report.markdown_text import fenced, in_code

_DEFAULT_WORKERS = 2


def how_to_repeat(subject: Subject) -> Iterator[str]:
    """The command; where the history does not say which test it was, one that chooses it by its name."""
    description = subject.result.description
    version = "" if description is None else f"=={description.ray_version}"
    install = f"pip install 'pytest-serve-chaos[local]' {shlex.quote(f'ray[serve]{version}')}"
    yield "On one Linux machine, without Kubernetes:"
    yield ""
    yield from fenced([install, _command(subject)], "console")
    yield ""
    if subject.repeat is None:
        return
    words = shlex.split(subject.repeat.test)
    if words and words[0] != "--pyargs":
        file = words[0].partition("::")[0]
        yield f"{in_code(file)} is not part of pytest-serve-chaos. Attach it, and the files that it needs."
        yield ""
    if description is not None and description.backend != "local":
        yield f"It ran on {description.backend}, with {in_code(subject.repeat.text)}."
        yield ""


def _command(subject: Subject) -> str:
    seed = subject.ready.seed if subject.ready is not None else None
    words = ["pytest", "--serve-chaos", "--serve-chaos-backend=local"]
    words += [] if seed is None else [f"--serve-chaos-seed={seed}"]
    if subject.repeat is not None:
        return f"{shlex.join([*words, *subject.repeat.on_local])} {subject.repeat.test}"
    return shlex.join([*words, *_known_settings(subject), "-k", _name_for_k(subject.result.experiment)])


def _known_settings(subject: Subject) -> Iterator[str]:
    description, traffic = subject.result.description, subject.traffic
    if description is not None:
        gcs = description.gcs.partition(" ")[0]
        given = (
            ("workers", str(description.workers), str(_DEFAULT_WORKERS)),
            ("gcs", gcs if gcs in ("redis", "rocksdb", "none") else "redis", "redis"),
            ("ingress", description.ingress, "python"),
            ("profile", description.profile, "fast"),
            ("app", description.app, "pytest_serve_chaos.apps.sleepy_pid:app"),
        )
        yield from (f"--serve-chaos-{name}={value}" for name, value, usual in given if value != usual)
    if traffic is not None and traffic.rate is not None and not traffic.stages:
        yield f"--serve-chaos-rate={traffic.rate:g}"


def _name_for_k(experiment: str) -> str:
    """What `-k` takes: words and `and`, where the name has parameters in brackets."""
    return " and ".join(dict.fromkeys(re.findall(r"\w+", experiment)))
