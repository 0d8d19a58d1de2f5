"""Brings runs on real Kubernetes to their end with a fault in effect: what stays, and who repairs it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.watchdog import GRACE
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout
from tests.kind.external_rayservice import Somebodys
from tests.kind.needs import kind_settings, run
from tests.local.moments import EXITS, HELD, MOMENT, Moment
from tests.local.ways_of_ending import directory
from tests.plugin.ways_of_ending import as_any_user, environment
from tools.kill_often import carrying

_TEST = """
def test_it(chaos, held):
    held("before")
    injection = chaos.FAULT
    held("during")
    injection.heal()
    held("after")
"""
_NEXT = "def test_it(serve_cluster): pass\n"

GUEST = "ways-of-ending"
"""The ServiceAccount of the run on an external cluster."""

_REACHED = 300.0
"""Seconds until the moment."""
_ENDED = 240.0
"""Seconds in which pytest ends, for which it waits for what it cannot heal."""
_BRIEFLY = 20.0
"""Seconds that a process or a machine is to be frozen, where a watchdog resumes it after them."""
_IN_ORDER = 15.0
"""Seconds after the end of a run in which what it has healed is as it was."""
WATCHDOG = GRACE + 30.0
"""Seconds after the end of a run in which its watchdog has repaired; it looks once in a few seconds."""

BackendName: TypeAlias = Literal["kind", "kubernetes"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a fault changes in a cluster until it is healed.

    Attributes:
        name: What people call it.
        fault: The call that makes it, after ``chaos.``.
        lasts: Seconds that it is to last; None: until it is healed.
        backends: Where it can be made.
    """

    name: str
    fault: str
    lasts: float | None = None
    backends: Collection[BackendName] = ("kind", "kubernetes")


DRAINED = Change("a drained node", "node().drain(must_land=False)")
CHANGES = (
    DRAINED,
    Change("a worker that is held down", "worker().kill(hold=True, must_land=False)", backends=["kind"]),
    Change("Redis held down", "redis.kill(hold=True, must_land=False)", backends=["kind"]),
    Change("a deleted Node object", "node().delete(must_land=False)", backends=["kind"]),
    Change("a paused machine", f"node().freeze(for_={_BRIEFLY}, must_land=False)", _BRIEFLY, ["kind"]),
    Change("a killed machine", "node().kill(for_=600, must_land=False)", backends=["kind"]),
    Change("a frozen controller", f"controller.freeze(for_={_BRIEFLY}, must_land=False)", _BRIEFLY),
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cluster it is, as a run on it needs it.

    Attributes:
        backend: With which backend it is tested.
        cluster: The cluster, for somebody who may see all.
        user: The cluster as the run sees it.
    """

    backend: BackendName
    cluster: Somebodys
    user: Somebodys

    @property
    def options(self) -> list[str]:
        """The options for pytest."""
        if self.backend == "kind":
            return ["--serve-chaos-backend=kind", "--serve-chaos-keep"]
        given = {
            "context": self.user.context,
            "rayservice": self.user.rayservice,
            "url": self.user.url,
            "allow": "node",
        }
        return ["--serve-chaos-backend=kubernetes", *(f"--serve-chaos-{name}={value}" for name, value in given.items())]

    @property
    def variables(self) -> dict[str, str]:
        """The environment: of a kind cluster its images, of an external one its kubeconfig."""
        if self.backend == "kubernetes":
            return {"KUBECONFIG": str(self.user.kubeconfig)}
        settings = kind_settings()
        of_images = ("node_image", "ray_image", "redis_image", "operator_image", "kuberay_manifests")
        return {f"SERVE_CHAOS_{name.upper()}": str(getattr(settings, name)) for name in of_images}

    def undo(self, disk: Path, *, elsewhere: bool) -> str:
        """Calls ``serve-chaos undo``, and returns what that prints.

        Args:
            disk: The directory of the run.
            elsewhere: Whether it is called on a machine that knows nothing of the run.
        """
        context = self.cluster.context
        there = ("--context", context, "--rayservice", self.cluster.rayservice, "--allow-context", context)
        state = {"XDG_STATE_HOME": str(disk / "of-another-machine")} if elsewhere else {}
        undone = subprocess.run(
            [sys.executable, "-m", "pytest_serve_chaos.cli", "undo", *(there if elsewhere else ())],
            cwd=disk / "work",
            env={**environment(disk), "KUBECONFIG": str(self.cluster.kubeconfig), **state},
            capture_output=True,
            text=True,
            timeout=_ENDED,
            check=False,
        )
        return undone.stdout + undone.stderr


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """A run that is held at a moment.

    Attributes:
        process: pytest.
        disk: The directory with all that it writes.
        control: The directory by which it is held.
        owner: Whose cluster it is.
    """

    process: subprocess.Popen[bytes]
    disk: Path
    control: Path
    owner: Owner

    def go_on(self) -> None:
        """Lets pytest go on."""
        (self.control / "go").touch()

    @property
    def output(self) -> str:
        """What pytest has printed."""
        return (self.control / "output").read_text(errors="replace")


# -- what there is -----------------------------------------------------------------------------------------------------


def look(cluster: Somebodys) -> frozenset[str]:
    """What faults change in a cluster, a line for each thing: its nodes, their machines, Redis, and what is stopped."""
    return frozenset([*_nodes(cluster), *_machines(), *_workloads(cluster), *_stopped()])


def _nodes(cluster: Somebodys) -> Iterator[str]:
    for node in json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]:
        spec = node["spec"]
        keys = [taint["key"] for taint in spec.get("taints", []) if not taint["key"].startswith("node.kubernetes.io/")]
        cordoned = ", cordoned" if spec.get("unschedulable") else ""
        ours = [name for name in node["metadata"].get("annotations", {}) if "serve-chaos" in name]
        yield f"node {node['metadata']['name']}{cordoned} {sorted(keys)} {sorted(ours)}"


def _machines() -> Iterator[str]:
    form = "{{.Names}} {{.State}}"
    said = run("docker", "ps", "--all", "--filter", "label=io.x-k8s.kind.cluster", "--format", form)
    yield from (f"machine {line}" for line in said.splitlines())


def _workloads(cluster: Somebodys) -> Iterator[str]:
    found = json.loads(cluster.kubectl("get", "deployments,statefulsets", "-n", cluster.namespace, "-o", "json"))
    for item in found["items"]:
        yield f"{item['kind']} {item['metadata']['name']}: {item['spec'].get('replicas')} replicas"


def _stopped() -> Iterator[str]:
    """What is stopped in the containers of kind, which are processes of this machine; not what else is on it."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            text = (path / "stat").read_text(errors="replace")
            is_in_a_container = (path / "ns" / "pid").readlink() != Path("/proc/self/ns/pid").readlink()
            if is_in_a_container and text.rpartition(")")[2].split()[0] == "T":
                yield f"stopped: {text.partition('(')[2].rpartition(')')[0]}"


# -- the ways ----------------------------------------------------------------------------------------------------------


Repairer: TypeAlias = Literal["the run", "its watchdog", "the next run", "undo", "undo elsewhere"]


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which a run ends.

    Attributes:
        name: What people call it.
        ends: Brings a run to its end, or makes what it needs unusable.
        repairer: Who repairs what it has changed.
        restores: Makes usable again what was not.
        exits: Whether the test calls `os._exit`.
        fills: Whether the disk gets full; it is a small one then.
        backends: Where that can happen.
    """

    name: str
    ends: Callable[[RunToEnd], None]
    repairer: Repairer = "the run"
    restores: Callable[[RunToEnd], None] = lambda run: None
    exits: bool = False
    fills: bool = False
    backends: Collection[BackendName] = ("kind", "kubernetes")


def _signals(*numbers: signal.Signals) -> Callable[[RunToEnd], None]:
    def end(run: RunToEnd) -> None:
        for index, number in enumerate(numbers):
            if index:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(0.3)
            run.process.send_signal(number)

    return end


def _kills(run: RunToEnd) -> None:
    run.process.kill()


def _kills_with_watchdogs(run: RunToEnd) -> None:
    """As where the machine of the run goes down, or its container is removed."""
    pids = [run.process.pid]
    pids += [one.pid for one in carrying(f"{HELD}={run.control}") if freeze.MARK in one.command]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _wipes_workspace(run: RunToEnd) -> None:
    def gone() -> bool | NotYet:
        shutil.rmtree(run.disk / "work", ignore_errors=True)  # something may be written there meanwhile
        return not (run.disk / "work").exists() or NotYet("it is there")

    clock.wait_until("the workspace to be gone", gone, timeout=10.0, interval=0.02)


def _kills_with_watchdogs_and_wipes_all(run: RunToEnd) -> None:
    _kills_with_watchdogs(run)
    _wipes_workspace(run)
    shutil.rmtree(run.disk / "state")
    (run.disk / "state").mkdir(mode=0o700)


def _fills_the_disk(run: RunToEnd) -> None:
    with contextlib.suppress(OSError), (run.disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


def _empties_the_disk(run: RunToEnd) -> None:
    (run.disk / "filler").unlink(missing_ok=True)


def _sets_modes(mode: int) -> Callable[[RunToEnd], None]:
    """Sets the mode of the workspace and of the directories below it."""

    def set_modes(run: RunToEnd) -> None:
        top = run.disk / "work"
        for path in [top, *(path for path in top.rglob("*") if path.is_dir())]:
            path.chmod(mode)

    return set_modes


def _control_plane() -> str:
    (name,) = (line.split()[1] for line in _machines() if "-control-plane " in line)
    return name


def _loses_the_api_server(run: RunToEnd) -> None:
    subprocess.run(["docker", "pause", _control_plane()], check=True, capture_output=True, timeout=60.0)


def _finds_the_api_server(run: RunToEnd) -> None:
    subprocess.run(["docker", "unpause", _control_plane()], check=False, capture_output=True, timeout=60.0)
    clock.wait_until("the API server", clock.patient(lambda: bool(look(run.owner.cluster))), timeout=60.0, interval=1.0)


def _revokes(run: RunToEnd) -> None:
    cluster, user = run.owner.cluster, replace(run.owner.user, admin=run.owner.user.kubeconfig)
    cluster.kubectl("-n", cluster.namespace, "delete", "serviceaccount", GUEST)

    def refused() -> bool | NotYet:  # the API server believes a token for some seconds more
        try:
            user.kubectl("get", "nodes")
        except CommandFailed:
            return True
        return NotYet("the token is accepted")

    clock.wait_until("the token to be refused", refused, timeout=60.0, interval=1.0)


WAYS = (
    Way("SIGINT (Ctrl-C)", _signals(signal.SIGINT)),
    Way("SIGTERM", _signals(signal.SIGTERM)),
    Way("SIGTERM twice", _signals(signal.SIGTERM, signal.SIGTERM)),
    Way("SIGHUP", _signals(signal.SIGHUP)),
    Way("kill -9 of pytest", _kills, "its watchdog"),
    Way("kill -9 of pytest and its watchdogs", _kills_with_watchdogs, "the next run"),
    Way("the same, on a machine that is gone for good", _kills_with_watchdogs_and_wipes_all, "undo elsewhere"),
    Way("`os._exit` in a test", RunToEnd.go_on, "its watchdog", exits=True),
    Way("a full disk", _fills_the_disk, fills=True, restores=_empties_the_disk),
    Way("a read-only report directory", _sets_modes(0o500), restores=_sets_modes(0o700)),
    Way("the workspace is wiped", _wipes_workspace),
    Way("the API server is lost", _loses_the_api_server, "its watchdog", restores=_finds_the_api_server),
    Way("the credentials are revoked", _revokes, "undo", backends=["kubernetes"]),
)


# -- an end ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a run that was brought to its end.

    Attributes:
        status: The exit status of pytest.
        output: What it printed.
        changed: What was otherwise in the cluster at that moment.
        left: The same, after the end of the run.
        healed: Whether the run itself has healed the fault.
        repaired_by: Who has put that back; "nobody" where something is left.
        after: Seconds from the end of the run until it was as before.
        remains: What is left after all.
        files: What is left of the run outside of its report.
        next_output: What the next run printed, or ``serve-chaos undo``; "" where there was nothing to repair.
    """

    status: int
    output: str
    changed: frozenset[str]
    left: frozenset[str]
    healed: bool
    repaired_by: str
    after: float
    remains: frozenset[str]
    files: tuple[str, ...]
    next_output: str

    @property
    def words(self) -> str:
        """What stayed, and who repaired it, for a table."""
        if not self.changed:
            return "nothing was changed"
        if not self.left:
            return "the run"
        return f"{self.repaired_by} ({self.after:.0f} s)"


def end(way: Way, change: Change, moment: Moment, owner: Owner) -> Seen:
    """Brings a run to its end, looks at what stays, and has it repaired.

    Args:
        way: How it ends.
        change: What it has changed.
        moment: When.
        owner: Whose cluster it is.
    """
    owner.cluster.wait_until_ready()  # else a worker that is left may be the last healthy one
    before = look(owner.cluster)
    with directory(small=way.fills) as disk, directory() as control:
        for name in ("work", "state", "run", "tmp", "home"):
            (disk / name).mkdir(mode=0o700)
        (disk / "work" / "test_it.py").write_text(_TEST.replace("FAULT", change.fault))
        run = _start(disk, control, owner, {MOMENT: moment, EXITS: "yes" if way.exits else ""}, "test_it.py")
        try:
            return _end(way, change, run, before)
        finally:
            run.process.kill()
            run.process.wait()
            way.restores(run)


def _end(way: Way, change: Change, run: RunToEnd, before: frozenset[str]) -> Seen:
    clock.wait_until("the moment", lambda: _reached(run), timeout=_REACHED, interval=0.2)
    changed = _otherwise(run.owner.cluster, before)
    way.ends(run)
    run.go_on()
    status = run.process.wait(_ENDED)
    began = clock.now()
    healed = (run.control / "healed").exists()
    output, next_output = run.output, ""
    if way.repairer in ("its watchdog", "undo"):
        way.restores(run)
    left = _otherwise(run.owner.cluster, before)
    by = "its watchdog" if left else "the run"
    if left and way.repairer == "its watchdog":
        _wait(run.owner.cluster, before, within=(change.lasts or 0.0) + WATCHDOG)
    if _otherwise(run.owner.cluster, before):
        way.restores(run)
        by, next_output = _repair(way, run)
    _wait(run.owner.cluster, before, within=_IN_ORDER)
    remains = _otherwise(run.owner.cluster, before)
    after = clock.now() - began
    files = tuple(_files(run.disk))
    return Seen(status, output, changed, left, healed, "nobody" if remains else by, after, remains, files, next_output)


def _otherwise(cluster: Somebodys, before: frozenset[str]) -> frozenset[str]:
    now = look(cluster)
    return frozenset([*(f"new: {one}" for one in now - before), *(f"gone: {one}" for one in before - now)])


def _wait(cluster: Somebodys, before: frozenset[str], *, within: float) -> None:
    def as_before() -> bool | NotYet:
        otherwise = _otherwise(cluster, before)
        return NotYet(", ".join(otherwise)) if otherwise else True

    with contextlib.suppress(WaitTimeout):
        clock.wait_until("the cluster to be as before", as_before, timeout=within, interval=0.5)


def _repair(way: Way, run: RunToEnd) -> tuple[str, str]:
    """What a user does next; who that is, and what it prints."""
    (run.disk / "work").mkdir(exist_ok=True)
    if way.repairer in ("undo", "undo elsewhere"):
        elsewhere = way.repairer == "undo elsewhere"
        said = run.owner.undo(run.disk, elsewhere=elsewhere)
        return "undo elsewhere" if elsewhere else "undo", said
    (run.disk / "work" / "test_next.py").write_text(_NEXT)
    (run.control / "output").unlink()
    again = _start(run.disk, run.control, run.owner, {}, "test_next.py")
    again.process.wait(_ENDED)
    return "the next run", again.output


def _reached(run: RunToEnd) -> bool | NotYet:
    if (run.control / "reached").exists():
        return True
    assert run.process.poll() is None, f"it ended before the moment: {run.output}"
    return NotYet("it is on its way")


def _files(disk: Path) -> Iterator[str]:
    for name in ("run", "tmp", "home"):
        yield from (str(path.relative_to(disk)) for path in (disk / name).rglob("*") if path.is_file())
    yield from (str(path.relative_to(disk)) for path in (disk / "state").rglob("*.json"))


def _start(disk: Path, control: Path, owner: Owner, variables: Mapping[str, str], test: str) -> RunToEnd:
    plugins = ("-p", "pytest_serve_chaos.plugin", "-p", "tests.kind.moments", "-p", "no:cacheprovider")
    with (control / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *plugins, "--serve-chaos", *owner.options, test],
            cwd=disk / "work",
            env={**environment(disk), **owner.variables, HELD: str(control), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=as_any_user,
        )
    return RunToEnd(process, disk, control, owner)
