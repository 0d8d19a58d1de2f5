"""What is kept of a local cluster's logs when a test failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import STREAMS_LOGS
from pytest_serve_chaos.cluster.local.logs import LogCopies
from pytest_serve_chaos.cluster.test_logs import LogsOfTest, name_of_file
from pytest_serve_chaos.model import LogLine
from tests.unit.rigs import cluster_with

NODES = {"ray": "head", "w1": "worker-1"}
SESSION = "session_2026-11-22_18-04-11_123456_789"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The directory of a local cluster, with a head that has logged."""
    directory = tmp_path / "cluster"
    write(directory / "head.log", "started\n")
    write(logs_of(directory, "ray") / "gcs_server.out", "old\n")
    write(logs_of(directory, "ray") / "serve" / "controller_7.log", "old\n")
    return directory


def logs_of(source: Path, node: str, session: str = SESSION) -> Path:
    return source / node / session / "logs"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def kept(directory: Path) -> dict[str, str]:
    def files() -> Iterator[tuple[str, str]]:
        for path in directory.rglob("*"):
            if path.is_file():
                yield path.relative_to(directory).as_posix(), path.read_text()

    return dict(files())


def test_what_was_added_is_copied_and_nothing_else(source: Path, tmp_path: Path) -> None:
    copies = LogCopies(source, NODES, tmp_path / "logs")
    write(logs_of(source, "ray") / "serve" / "controller_7.log", "new\n")
    write(logs_of(source, "w1") / "raylet.err", "of a worker\n")
    write(source / "worker-1.log", "started\n")
    assert not (tmp_path / "logs").exists()
    copies.keep()
    assert kept(tmp_path / "logs") == {
        f"head_{SESSION}/serve/controller_7.log": "new\n",
        f"worker-1_{SESSION}/raylet.err": "of a worker\n",
        "worker-1.log": "started\n",
    }
    write(source / "worker-1.log", "ended\n")
    copies.keep()
    assert kept(tmp_path / "logs")["worker-1.log"] == "started\nended\n"


def test_a_file_that_was_rotated_is_copied_from_where_it_was(source: Path, tmp_path: Path) -> None:
    copies = LogCopies(source, NODES, tmp_path / "logs")
    logs = logs_of(source, "ray")
    write(logs / "gcs_server.out", "before\n")
    (logs / "gcs_server.out").rename(logs / "gcs_server.out.1")
    write(logs / "gcs_server.out", "after\n")
    copies.keep()
    assert kept(tmp_path / "logs") == {
        f"head_{SESSION}/gcs_server.out.1": "before\n",
        f"head_{SESSION}/gcs_server.out": "after\n",
    }


def test_lines_around_a_moment_have_their_node_their_file_and_their_time(source: Path, tmp_path: Path) -> None:
    copies = LogCopies(source, NODES, tmp_path / "logs")
    now = datetime.now()

    def stamped(seconds: float, text: str) -> str:
        return f"[{now + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S},000 E 1 1] {text}\n"

    log = logs_of(source, "w1") / "raylet.out"
    write(log, stamped(-60, "long before"))
    write(log, stamped(-2, "before") + "and a line without a time\n" + stamped(3, "after") + stamped(60, "long after"))
    write(source / "head.log", stamped(1, "of its start"))
    lines = copies.around(clock.now(), before=5.0, after=10.0)
    assert [(line.node, line.file, line.text.partition("] ")[2] or line.text) for line in lines] == [
        ("worker-1", "raylet.out", "before"),
        ("worker-1", "raylet.out", "and a line without a time"),
        ("head", "head.log", "of its start"),
        ("worker-1", "raylet.out", "after"),
    ]
    assert [round(line.seconds) for line in lines] in ([-2, -2, 1, 3], [-3, -3, 0, 2])  # stamps are whole seconds here


@pytest.mark.parametrize(
    ("file", "node"),
    [
        ("serve/proxy_127.73.1.3.log", "worker-1"),
        ("serve/proxy_127.73.1.31.log", ""),
        ("serve/controller_7.log", "head"),
        ("gcs_server.2.out", "head"),
        ("raylet.2.out", ""),
    ],
)
def test_of_a_directory_that_all_nodes_share_only_some_files_tell_their_node(
    source: Path, tmp_path: Path, file: str, node: str
) -> None:
    nodes = {"127.73.1.2": "head", "127.73.1.3": "worker-1"}
    copies = LogCopies(source, NODES, tmp_path / "logs", shared_by=nodes)
    write(logs_of(source, "ray") / file, f"{datetime.now():%Y-%m-%d %H:%M:%S},000 a line\n")
    lines = copies.around(clock.now(), before=60.0, after=10.0)
    assert [line.node for line in lines if line.file == file and "a line" in line.text] == [node]


def test_links_sockets_and_packages_are_left_alone(source: Path, tmp_path: Path) -> None:
    copies = LogCopies(source, NODES, tmp_path / "logs")
    (source / "ray" / "session_latest").symlink_to(SESSION)
    (source / "ray" / "link.log").symlink_to(source / "head.log")
    write(source / "ray" / SESSION / "runtime_resources" / "pip" / "install.log", "much\n")
    write(source / "ray" / "dump.rdb", "data\n")
    copies.keep()
    assert kept(tmp_path / "logs") == {}


def test_of_a_large_file_the_end_is_kept(source: Path, tmp_path: Path) -> None:
    copies = LogCopies(source, NODES, tmp_path / "logs", most=10)
    write(source / "head.log", "0123456789abcdef\n")
    copies.keep()
    assert kept(tmp_path / "logs") == {"head.log": "[serve-chaos: 7 bytes of this test are left out]\n789abcdef\n"}


# -- the directory of a test -------------------------------------------------------------------------------------------


class Streaming:
    """A cluster that logs a line as soon as it is asked to, and one more when a test fails."""

    def __init__(self) -> None:
        self.closed = 0

    def stream_logs(self, directory: Path) -> Streaming:
        self.directory = directory
        return self

    def keep(self) -> None:
        write(self.directory / "head" / "container.log", "kept\n")

    def around(self, moment: float, *, before: float, after: float) -> list[LogLine]:
        return [LogLine(0.0, "head", "container.log", "a line")]

    def close(self) -> None:
        self.closed += 1


def logs_of_test(cluster: Streaming, directory: Path, test: str) -> LogsOfTest:
    return LogsOfTest(cluster_with(STREAMS_LOGS.by(cluster)), directory, test)


def test_a_test_has_a_directory_once_there_is_something_in_it(tmp_path: Path) -> None:
    cluster = Streaming()
    logs = logs_of_test(cluster, tmp_path, "head[a b/c]")
    assert (logs.directory, logs.place) == (None, "logs/head[a_b_c]")
    logs.keep()
    logs.close()
    assert logs.directory == tmp_path / "logs" / "head[a_b_c]"
    assert cluster.closed == 1


def test_names_that_differ_in_nothing_that_a_file_can_have_get_directories_of_their_own(tmp_path: Path) -> None:
    first = logs_of_test(Streaming(), tmp_path, "a b")
    first.keep()
    assert logs_of_test(Streaming(), tmp_path, "a/b").place == "logs/a_b-2"


def test_a_cluster_that_keeps_no_logs_has_none(tmp_path: Path) -> None:
    logs = LogsOfTest(cluster_with(), tmp_path, "head")
    logs.keep()
    logs.close()
    assert logs.directory is None


@pytest.mark.parametrize(
    ("text", "name"), [("../..", "_.."), ("", "_"), (".hidden", "hidden"), ("x" * 300, "x" * 150), ("ä ö", "ä_ö")]
)
def test_a_name_is_one_file_and_no_way_out(text: str, name: str) -> None:
    assert name_of_file(text) == name
