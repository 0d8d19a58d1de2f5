"""Prints what is added to Ray's logs in this container. Arguments: directory, seconds between two looks, age, offsets.

Of the files that are there, lines of the last `age` seconds are wanted, or all if it is negative; the offsets,
``inode:offset`` with commas between, say what was read before. A line is JSON: the time, how many seconds local time is
ahead of UTC, and a list of [file, inode, offset behind it, text]; there is one every few seconds in any case. The
reader writes a word to standard input now and then: a container's runtime does not tell a program that nobody reads.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time

HEARTBEAT = 5.0
ALONE = "60"
STDIN = 0
CHUNK = 64_000
"""Most bytes of one file in a line."""
BATCH = 256_000
"""About as many bytes of all files are in a line."""
TAIL = 400_000
UNFINISHED = 2.0
"""Seconds after which a line without an end is taken for a whole one."""

NAME = re.compile(r".+\.(log|out|err)(\.\d+)?")
STAMP = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")

Seen = dict[int, tuple[str, str, os.stat_result]]
Chunk = tuple[str, int, int, str]


def main(directory: str, every: str, age: str, offsets: str = "", alone: str = ALONE) -> None:
    """Looks until standard input ends, or nobody has said a word for so many seconds: then SIGALRM ends it.

    That reaches it also while it waits for somebody to take what it prints.
    """
    signal.setitimer(signal.ITIMER_REAL, float(alone))
    since = time.time() - float(age) if float(age) >= 0 else None
    before = {int(inode): int(offset) for inode, _, offset in (o.partition(":") for o in offsets.split(",") if o)}
    read: dict[int, tuple[str, int]] | None = None
    last: Seen = {}
    said_at = 0.0
    while True:
        seen = look(directory)
        if seen is not None:
            read, last = remember(seen, last, read, before, since), seen
        chunks = [] if seen is None or read is None else more(seen, read)
        if chunks or time.monotonic() - said_at >= HEARTBEAT:
            print(json.dumps([time.time(), time.localtime().tm_gmtoff, chunks]), flush=True)
            said_at = time.monotonic()
        full = any(len(text) > CHUNK // 2 for _, _, _, text in chunks)
        if select.select([STDIN], [], [], 0.05 if full else float(every))[0]:
            if not os.read(STDIN, 4096):
                return
            signal.setitimer(signal.ITIMER_REAL, float(alone))


def look(directory: str) -> Seen | None:
    """Inode -> name, path and status of the log files; None while there is no such directory."""
    seen: Seen = {}
    for part in ("", "serve"):
        try:
            entries = list(os.scandir(os.path.join(directory, part)))
        except OSError:
            if part:
                continue
            return None
        for entry in entries:
            try:
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = os.stat(entry.path)
                    seen[status.st_ino] = os.path.join(part, entry.name), entry.path, status
            except OSError:
                continue  # it has just gone
    return seen


def remember(
    seen: Seen, last: Seen, read: dict[int, tuple[str, int]] | None, before: dict[int, int], since: float | None
) -> dict[int, tuple[str, int]]:
    """Inode -> name and offset. A file that was renamed, as rotation does, keeps its name until it has gone.

    It has gone when two looks running lack it: one may, where the file or its directory is renamed in its midst.
    Files that are known come first: their last lines are older than those of the file that has their name now.
    """
    known = {inode: entry for inode, entry in (read or {}).items() if inode in seen or inode in last}
    for inode, (name, path, status) in sorted(seen.items(), key=lambda item: item[1][2].st_mtime):
        if inode not in known:
            offset = 0 if read is not None else before.get(inode, -1)
            known[inode] = name, offset if offset >= 0 else begin(path, status, since)
    return known


def begin(path: str, status: os.stat_result, since: float | None) -> int:
    """Where in a file the lines since then begin; its end, if none has a time."""
    if since is None:
        return 0
    if status.st_mtime < since:
        return status.st_size
    wanted = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since)).encode()
    offset = max(0, status.st_size - TAIL)
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            for line in file:
                stamp = STAMP.search(line)
                if (stamp and stamp[0] >= wanted) or not line.endswith(b"\n"):
                    break
                offset += len(line)
    except OSError:
        return status.st_size
    return offset


def more(seen: Seen, read: dict[int, tuple[str, int]]) -> list[Chunk]:
    """What was added; `read` is brought up to date."""
    chunks: list[Chunk] = []
    for inode, (name, offset) in list(read.items()):
        if inode not in seen:
            continue
        _, path, status = seen[inode]
        start = offset if offset <= status.st_size else 0  # it was emptied
        if start == status.st_size or sum(len(text) for _, _, _, text in chunks) >= BATCH:
            continue
        data = whole_lines(path, inode, start, since_change=time.time() - status.st_mtime)
        read[inode] = name, start + len(data)
        if data:
            chunks.append((name, inode, start + len(data), data.decode("utf-8", "replace")))
    return chunks


def whole_lines(path: str, inode: int, start: int, since_change: float) -> bytes:
    """What stands in a file from there on, up to the last end of a line."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_ino != inode:
                return b""  # it was renamed since the look; the next one finds it
            file.seek(start)
            data = file.read(CHUNK)
    except OSError:
        return b""
    end = data.rfind(b"\n") + 1
    if not end and (len(data) == CHUNK or since_change > UNFINISHED):
        return data
    return data[:end]


if __name__ == "__main__":
    main(*sys.argv[1:])
