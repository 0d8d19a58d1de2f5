"""Programs that are run to their end: argument lists, their output kept, and errors that show the end of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.masking import with_masked_urls


def run(
    command: Sequence[str], *, log: Path, timeout: float, stdin: str | None = None, temporary: Path | None = None
) -> str:
    """Runs a program, appends what it said to a log, and returns its standard output.

    Its output may be objects with the passwords in them. Only what it says on its standard error is for the log, or its
    output if it fails without a word there.

    Args:
        command: The program and its arguments.
        log: The file for its output.
        timeout: Seconds until it is killed.
        stdin: What it reads; nothing if None.
        temporary: Where its temporary files are; None: where they always are.

    Raises:
        CommandFailed: It could not be started, took too long, or ended with another status than 0.
    """
    line = with_masked_urls(" ".join(command))
    try:
        ended = subprocess.run(
            list(command),
            input=stdin if stdin is not None else "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            start_new_session=True,
            env=None if temporary is None else {**os.environ, "TMPDIR": str(temporary)},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{command[0]} did not end in {timeout:g} s", checked=[line]) from error
    except OSError as error:
        raise CommandFailed(f"{command[0]} could not be started: {error}", checked=[line]) from error
    said = ended.stderr or (ended.stdout if ended.returncode != 0 else "")
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:  # a full disk must not undo what it did
        file.write(f"$ {line}\n{said}")
    if ended.returncode != 0:
        said = said.strip()[-800:]
        raise CommandFailed(
            f"{Path(command[0]).name} failed with exit status {ended.returncode}", checked=[line, said, f"log: {log}"]
        )
    return ended.stdout


@contextlib.contextmanager
def killed_after(seconds: float, pid_file: Path, *, log: Path) -> Iterator[None]:
    """Kills a program that somebody else's code waits for, without a deadline, inside the block.

    It stays in our session, so that Ctrl-C ends it, and what it runs, at once.

    Args:
        seconds: From the beginning of the block.
        pid_file: Where the program writes its PID when it starts; what is there already is forgotten.
        log: Where it is written down that it was killed.
    """

    def kill() -> None:
        with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(f"it did not end in {seconds:g} s, and is killed\n")
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGKILL)

    pid_file.unlink(missing_ok=True)
    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
