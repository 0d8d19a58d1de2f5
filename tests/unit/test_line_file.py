from __future__ import annotations

import os
import threading
from pathlib import Path

from pytest_serve_chaos.line_file import LineFile


def test_lines_are_in_the_file_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "there" / "lines")
    for number in range(1000):
        file.add(lambda number=number: str(number), at_once=number % 7 == 0)  # type: ignore[misc]
    file.close()
    assert (tmp_path / "there" / "lines").read_text().split() == [str(number) for number in range(1000)]


def test_a_line_is_in_the_file_soon_without_anybody_asking(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "lines")
    written = threading.Event()

    def line() -> str:
        written.set()
        return "line"

    file.add(line)
    assert written.wait(10.0)
    file.flush()
    assert (tmp_path / "lines").read_text() == "line\n"
    file.close()


def test_who_adds_a_line_does_not_wait_for_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # it takes 64 KiB, and then nothing until somebody reads
    file = LineFile(pipe)
    for _ in range(1000):
        file.add(lambda: "x" * 1000, at_once=True)
    assert not file.problem
    os.set_blocking(reader, True)
    with os.fdopen(reader) as taken:
        closing = threading.Thread(target=file.close)
        closing.start()
        assert len(taken.read()) == 1001 * 1000
        closing.join()


def test_a_line_that_cannot_be_made_is_the_last_one(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "lines")
    file.add(lambda: "good")
    file.flush()
    file.add(lambda: str(1 / 0))
    file.add(lambda: "after it")
    file.close()
    assert (tmp_path / "lines").read_text() == "good\n"
    assert file.problem == f"{tmp_path / 'lines'}: division by zero"


def test_what_comes_after_the_end_is_left_out(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "lines")
    file.close()
    file.add(lambda: "late", at_once=True)
    file.close()
    assert not (tmp_path / "lines").read_text()
    assert not file.problem
