"""The log lines around a fault, by process, as a history has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_serve_chaos.model import LogLine

_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"serve/controller_(\d+)\.log.*", r"controller (PID \1)"),
        (r"serve/controller_build_(.+)_(\d+)\.log.*", r"build of the app \1 (PID \2)"),
        (r"serve/proxy_.*", "proxy"),
        (r"serve/replica_(.+)_([a-z0-9]{6,12})\.log.*", r"replica \2 of \1"),
        (r"serve/(.+)_([a-z0-9]{8})\.log.*", r"\1 \2"),
        (r"gcs_server\..*", "gcs_server"),
        (r"raylet\..*", "raylet"),
        (r"python-core-driver-.*_(\d+)\.log.*", r"Ray core of a driver (PID \1)"),
        (r"python-core-worker-.*_(\d+)\.log.*", r"Ray core of PID \1"),
        (r"worker-[0-9a-f]+-[0-9a-f]+-(\d+)\.(?:err|out).*", r"output of PID \1"),
        (r"(?:.*/)?admin\.sock\..*", "HAProxy"),
        (r"container.*\.log", "output of the container"),
        (r"(?:head|worker-\d+|redis)\.log", "output of ray start"),
    )
)
"""What a file's name says of the process that writes it."""

_WRITTEN_BY = re.compile(r"^\[[^]]* (?P<pid>\d+) \d+\] \((?P<program>gcs_server|raylet)\)")
"""How Ray's C++ programs begin a line: ``[2026-12-02 19:08:01,852 I 27393 27393] (raylet) ...``."""


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """Some lines of one process.

    Attributes:
        node: Whose logs they are in.
        file: Their file.
        lines: In order of time, with seconds from the fault.
    """

    node: str
    file: str
    lines: tuple[LogLine, ...]

    @property
    def name(self) -> str:
        """The process, for people: ``controller (PID 797) on head``."""
        names = dict.fromkeys(process_name(line) for line in self.lines if _WRITTEN_BY.search(line.text))
        return next(iter(names)) if len(names) == 1 else _name(self.file, self.node)


def process_name(line: LogLine) -> str:
    """The process that logged a line, as far as its file and its text tell: ``raylet (PID 797) on head``."""
    written = _WRITTEN_BY.search(line.text)
    is_its_own = written is not None and written["program"] == process_of(line.file)
    return _name(line.file, line.node, pid=written["pid"] if written and is_its_own else "")


def _name(file: str, node: str, *, pid: str = "") -> str:
    return process_of(file) + (f" (PID {pid})" if pid else "") + (f" on {node}" if node else "")


def process_of(file: str) -> str:
    """What a log file's name says of its process; else the file."""
    for pattern, name in _NAMES:
        found = pattern.fullmatch(file)
        if found is not None:
            return found.expand(name)
    return file


def by_process(lines: Iterable[LogLine]) -> tuple[ProcessLog, ...]:
    """Log lines by process, in the order of their first lines after the fault."""
    by_file: dict[tuple[str, str], list[LogLine]] = {}
    for line in lines:
        by_file.setdefault((line.node, line.file), []).append(line)
    logs = (ProcessLog(node, file, tuple(lines)) for (node, file), lines in by_file.items())
    return tuple(sorted(logs, key=_first_after_the_fault))


def _first_after_the_fault(log: ProcessLog) -> float:
    return next((line.seconds for line in log.lines if line.seconds >= 0), float("inf"))
