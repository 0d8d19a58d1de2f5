from __future__ import annotations

from pytest_serve_chaos.session.sections import WIDTH, without_repetitions

QUEUE = "proxy_127.73.1.{}: WARNING 02:20:44,{} -- Failed to get queue length from Replica(id='{}') within 0.1s"


def test_lines_that_differ_in_numbers_and_ids_are_shown_once() -> None:
    lines = [QUEUE.format(3, 100, "g70u8l4l"), QUEUE.format(4, 210, "v7c3d5cr"), "controller: ERROR it died"]

    assert without_repetitions(lines) == [f"{lines[0]}  (x 2)", "controller: ERROR it died"]


def test_request_ids_do_not_make_lines_different() -> None:
    line = "replica_5tvktitg: Replica at capacity, rejecting request {}."
    ids = ("7c389ce8-a984-498c-bfd3-4d7ae7d471b9", "b96b5e51-28f8-4629-8b20-30865b86b7a7")

    assert len(without_repetitions(line.format(each) for each in ids)) == 1


def test_words_make_lines_different() -> None:
    lines = ["head: ERROR the raylet died", "head: ERROR the proxy died"]

    assert without_repetitions(lines) == lines


def test_many_different_lines_are_counted_and_long_ones_cut() -> None:
    words = ["".join(chr(ord("g") + int(digit)) for digit in f"{i:03}") for i in range(50)]

    shown = without_repetitions([f"ERROR {word} {'x' * WIDTH}" for word in words], most=20)

    assert len(shown) == 21
    assert shown[-1] == "... and 30 more that differ"
    assert len(shown[0]) == WIDTH + len("...")
