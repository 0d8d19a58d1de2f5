"""Prints the last lines of Ray's logs that match. Arguments: globs, expression, age in seconds, lines."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
from datetime import datetime

LOGS = "/tmp/ray/session_latest/logs"
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
TAIL = 400_000


def main(patterns: str, expression: str, age: str, lines: str) -> None:
    """Reads what the globs, with commas between them, match; a line without a time belongs to the line before it."""
    since = time.time() - float(age)
    wanted = re.compile(expression)
    found = []
    for path in [path for pattern in patterns.split(",") for path in glob.glob(os.path.join(LOGS, pattern))]:
        if os.path.getmtime(path) < since:
            continue
        at = os.path.getmtime(path) if os.path.getsize(path) < TAIL else 0.0
        for line in tail(path):
            stamp = STAMP.search(line)
            if stamp:
                at = datetime.strptime(stamp[0], "%Y-%m-%d %H:%M:%S").timestamp()
            if at >= int(since) and wanted.search(line):
                found.append((at, f"{os.path.basename(path)}: {line}"))
    found.sort(key=lambda entry: entry[0])
    print("\n".join(text for _, text in found[-int(lines) :]))


def tail(path: str) -> list[str]:
    """The lines of the end of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - TAIL))
        return file.read().decode("utf-8", "replace").splitlines()


if __name__ == "__main__":
    main(*sys.argv[1:])
