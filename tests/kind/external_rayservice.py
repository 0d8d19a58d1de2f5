"""Runs the plugin on a cluster that is there, as its user would, and sees to it that the cluster is as it was."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import cast

import pytest_serve_chaos
from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.manifests import Manifest, dump
from pytest_serve_chaos.model import Json
from tests.kind.dump import Dump, differences, take

PACKAGE = Path(pytest_serve_chaos.__file__).parents[1]
RATE = "20"
_RUN = 1500.0
"""Seconds for one run of pytest."""
_AS_IT_WAS = 240.0
"""Seconds after a run in which the cluster must be as it was: Kubernetes takes taints away when it comes to it."""

# Prints what is left of ours in a container: programs, by their source, and flags.
_LEFT = """
import glob, json, os, sys
for name in glob.glob("/proc/[0-9]*/cmdline"):
    if name.split("/")[2] != str(os.getpid()):
        try:
            line = open(name, "rb").read().decode(errors="replace")
        except OSError:
            continue
        for text in json.loads(sys.argv[1]):
            if text in line:
                print("program:", text)
directory = os.environ.get("SERVE_CHAOS_FLAGS", "")
if os.path.isdir(directory):
    for flag in os.listdir(directory):
        print("flag:", flag)
"""

# Prints the titles of the processes of a container that are stopped.
_STOPPED = """
import glob
for name in glob.glob("/proc/[0-9]*/stat"):
    try:
        state = open(name, "rb").read().rpartition(b")")[2].split()[0]
        if state in (b"T", b"t"):
            print(open(name[:-4] + "cmdline", "rb").read().decode(errors="replace").partition(chr(0))[0].strip())
    except OSError:
        continue
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What became of a test: ``passed``, ``failed``, ``error``, ``skipped`` or ``xfailed``; and what was said of it."""

    outcome: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of pytest that has ended.

    Attributes:
        status: Its exit status.
        text: All that it printed.
        cases: By the name of the test.
        experiments: Those of `summary.json`, by name; none where nothing was run.
    """

    status: int
    text: str
    cases: dict[str, Case]
    experiments: dict[str, dict[str, Json]]

    def verdict(self, experiment: str) -> str:
        """The verdict on an experiment, with its reasons."""
        found = self.experiments[experiment]
        return f"{found['verdict']} {' '.join(map(str, cast('list[Json]', found['reasons'])))}".strip()


@dataclass(frozen=True)
class Somebodys:
    """A RayService that is there, and the user who tests it.

    Attributes:
        kubeconfig: The user's.
        context: The context to name.
        rayservice: ``namespace/name``.
        url: Where its app answers.
        admin: The kubeconfig of somebody who may see all.
    """

    kubeconfig: Path
    context: str
    rayservice: str
    url: str
    admin: Path

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.rayservice.partition("/")[0]

    @property
    def name(self) -> str:
        """Its name."""
        return self.rayservice.partition("/")[2]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl as somebody who may do all, and returns what it printed: megabytes, so no log is kept.

        Raises:
            CommandFailed: It failed.
        """
        command = ["kubectl", "--kubeconfig", str(self.admin), *arguments]
        ended = subprocess.run(
            command,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=120.0,
            start_new_session=True,
            check=False,
        )
        if ended.returncode != 0:
            raise CommandFailed(f"kubectl failed: {ended.stderr.strip()[-600:]}", checked=[" ".join(command)[:300]])
        return ended.stdout

    def apply(self, *documents: Manifest) -> None:
        """Makes some objects."""
        self.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=dump(documents))

    def seen_as(self, directory: Path, context: str, user: dict[str, Json] | None = None) -> Somebodys:
        """The same for a user who has it under another name of a context, or is another user."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
        if user is not None:
            config["users"] = [{"name": "guest", "user": user}]
            config["contexts"][0]["context"]["user"] = "guest"
        config["contexts"][0]["name"] = config["current-context"] = context
        file = directory / "guest.kubeconfig"
        file.write_text(json.dumps(config))  # which is YAML, too
        file.chmod(0o600)
        return replace(self, kubeconfig=file, context=context)

    # -- running ----------------------------------------------------------------------------------------------

    def run(self, directory: Path, *arguments: str) -> Ran:
        """Runs pytest with those arguments in that directory; fails unless the cluster is as it was afterwards."""
        before = self.dump()
        ran = self._run(directory, *arguments)
        self.wait_until_as(before)
        return ran

    def start(self, directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts pytest in a session of its own; what it prints goes to ``output.txt``."""
        with (directory / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                self._command(*arguments),
                cwd=directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _give_our_turn_to(process.pid)
        return process

    def environment(self) -> dict[str, str]:
        """The user's environment, in which no setting of whoever runs these tests is left."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("SERVE_CHAOS_", "PYTEST_"))}
        return {**ours, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(PACKAGE)}

    def _command(self, *arguments: str) -> list[str]:
        options = {
            "backend": "kubernetes",
            "context": self.context,
            "rayservice": self.rayservice,
            "url": self.url,
            "rate": RATE,
        }
        given = [f"--serve-chaos-{name}={value}" for name, value in options.items()]
        # What is given twice counts the last time, so a test can name another RayService.
        return [sys.executable, "-m", "pytest", "--serve-chaos", *given, "-rs", "--junit-xml=junit.xml", *arguments]

    def _run(self, directory: Path, *arguments: str) -> Ran:
        process = self.start(directory, *arguments)
        try:
            status = process.wait(_RUN)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(120.0)
        text = (directory / "output.txt").read_text(errors="replace")
        print(text)  # what pytest shows where the test fails
        return Ran(status, text, _cases(directory / "junit.xml"), _experiments(directory))

    # -- as it was --------------------------------------------------------------------------------------------

    def dump(self) -> Dump:
        """All objects of the cluster."""
        return take(self.kubectl)

    def wait_until_as(self, before: Dump) -> None:
        """Waits until all objects are as they were, Ray's pods are ready, and nothing of ours is left in them.

        Raises:
            WaitTimeout: They are not, or something is.
        """

        def probe() -> bool | NotYet:
            wrong = [*differences(before, self.dump()), *self._unready(), *self.left()]
            return NotYet("; ".join(wrong)) if wrong else True

        clock.wait_until("the cluster to be as it was", probe, timeout=_AS_IT_WAS, interval=5.0)

    def wait_until_ready(self) -> None:
        """Waits until all of Ray's pods are ready.

        Raises:
            WaitTimeout: They are not.
        """

        def probe() -> bool | NotYet:
            unready = self._unready()
            return NotYet("; ".join(unready)) if unready else True

        clock.wait_until("the pods to be ready", probe, timeout=_AS_IT_WAS, interval=2.0)

    def _unready(self) -> list[str]:
        selector = ("-l", "ray.io/is-ray-node=yes")
        pods = json.loads(self.kubectl("-n", self.namespace, "get", "pods", *selector, "-o", "json"))["items"]
        ready = {"type": "Ready", "status": "True"}.items()
        return [
            f"{pod['metadata']['name']} is not ready"
            for pod in pods
            if not any(ready <= condition.items() for condition in pod["status"].get("conditions", []))
        ]

    def left(self) -> list[str]:
        """What is left of ours in Ray's pods, in words."""
        return self._said_in_pods(_LEFT, json.dumps(_titles()))

    def stopped(self) -> list[str]:
        """Pod and title of each process of Ray's pods that is stopped."""
        return self._said_in_pods(_STOPPED)

    def _said_in_pods(self, program: str, *arguments: str) -> list[str]:
        pods = self.kubectl(
            *("-n", self.namespace, "get", "pods", "-l", "ray.io/is-ray-node=yes"),
            *("-o", 'jsonpath={range .items[*]}{.metadata.name} {.spec.containers[0].name}{"\\n"}{end}'),
        )
        found = []
        for line in pods.splitlines():
            pod, container = line.split()
            command = ("python", "-c", program, *arguments)
            try:
                said = self.kubectl("-n", self.namespace, "exec", pod, "-c", container, "--", *command)
            except CommandFailed as error:
                said = f"it cannot be entered: {error.what}"
            found += [f"{pod}: {one}" for one in said.splitlines()]
        return found


def _give_our_turn_to(pid: int) -> None:
    """Lets a session have the processors as early as ours: a load generator in it must be punctual, too.

    Where the kernel schedules by session, a new one begins with niceness 0 (sched(7), "The autogroup feature").
    """
    with contextlib.suppress(OSError):  # this kernel does not
        ours = Path("/proc/self/autogroup").read_text().rpartition(" ")[2].strip()
        Path(f"/proc/{pid}/autogroup").write_text(ours)


def _titles() -> list[str]:
    """By what our programs in pods are known in their command lines: their first lines, and the word of watchdogs."""
    files = resources.files(in_pod.__name__).iterdir()
    programs = sorted(file.name for file in files if file.name.endswith(".py") and file.name != "__init__.py")
    titles = [in_pod.source(name.removesuffix(".py")).partition("\n")[0].strip('"') for name in programs]
    return [*titles, freeze.MARK]  # its text is packed


def _cases(file: Path) -> dict[str, Case]:
    if not file.exists():
        return {}
    return {str(case.get("name")): _case(case) for case in ElementTree.parse(file).getroot().iter("testcase")}


def _case(case: ElementTree.Element) -> Case:
    for tag, outcome in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        for child in case.findall(tag):
            expected = child.get("type") == "pytest.xfail"
            said = f"{child.get('message') or ''}\n{child.text or ''}".strip()
            return Case("xfailed" if expected else outcome, said)
    return Case("passed")


def _experiments(directory: Path) -> dict[str, dict[str, Json]]:
    found = sorted((directory / ".serve-chaos").glob("*/summary.json"))
    if not found:
        return {}
    return {one["experiment"]: one for one in json.loads(found[-1].read_text())["experiments"]}
