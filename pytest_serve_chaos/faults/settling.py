"""The post-recovery checks after a fault: whether proxies, and replicas with handles, still hear of what changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.errors import ExpectationFailed, Inconclusive
from pytest_serve_chaos.events import Note, NotSettled, PostRecoveryChecking, ProxyStale, Settled, SettlingUnknown
from pytest_serve_chaos.faults.admission import admit_replacing, kill_replica, require_its_owner_left_it_alone
from pytest_serve_chaos.faults.waiting import Waiting
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.observe.external_check import settle
from pytest_serve_chaos.observe.handles import check_handles


@dataclass(frozen=True, slots=True)
class Settling:
    """Runs the checks, and writes what they find.

    Attributes:
        waiting: Knows the fault's rig, its log and its time.
        allow_total_loss: Whether what a check replaces may leave nothing of it, because the fault may.
    """

    waiting: Waiting
    allow_total_loss: bool

    def check_proxies(self) -> None:
        """Adds an app and scales it up, of which each proxy must hear; see `Injection.wait_settled`.

        Raises:
            ExpectationFailed: A proxy did not hear of it.
            Inconclusive: Nobody can know.
        """
        rig, log = self.waiting.rig, self.waiting.log
        require_its_owner_left_it_alone(rig)
        nodes = rig.health.proxy_nodes()
        with self._checking("proxies", replaces=rig.cluster.capability(IS_EXTERNAL) is not None):
            result = settle(
                rig.cluster, rig.watcher, rig.run.canaries, nodes=nodes, kill=self._kill, messages=rig.traffic.asked,
                allow_total_loss=self.allow_total_loss,
            )  # fmt: skip
        for proxy in result.stale:
            log.add(ProxyStale(f"{proxy.name} does not hear the controller", proxy=proxy.name))
        if result.unknown and not result.stale and not result.problem:
            log.add(Note(result.text))
            raise Inconclusive(result.text)
        # A proxy that does not answer in time may have got no processor; one that answers with old routes is stale.
        busy = self.waiting.held_up() if result.problem and not result.stale else ""
        if busy:
            rig.soundness.taint(result.text)
            log.add(SettlingUnknown(f"{result.text}; {busy}, so the reason may be that and not the cluster"))
            raise self.waiting.late(result.text)
        if not result.passed:
            raise self._not_settled(result.text)
        log.add(Settled(result.text))

    def check_handles(self) -> None:
        """Replaces one child of each composed app, which its parents must reach.

        Raises:
            ExpectationFailed: A parent did not.
            Inconclusive: Serve does not say whether any replica holds one, or the logs do not say who reached whom.
        """
        rig, log = self.waiting.rig, self.waiting.log
        since = rig.traffic.steady_since
        good = [r for r in rig.history.requests_since(since) if not r.lost]
        answering = frozenset(name.rpartition("#")[0] for r in good for name in r.replicas)
        with self._checking("handles", replaces=True):
            result = check_handles(rig.cluster, rig.watcher, since, answering=answering, admit=self._admit_replacing)
        if result.unknown and not result.stale and not result.problem:
            raise Inconclusive(result.text)
        if not result.passed:
            raise self._not_settled(result.text)
        if result.text:
            log.add(Settled(result.text) if result.children else Note(result.text))

    def _not_settled(self, text: str) -> ExpectationFailed:
        self.waiting.rig.soundness.taint(text)
        self.waiting.log.add(NotSettled(text))
        return ExpectationFailed(text)

    def _kill(self, replica: Component) -> None:
        kill_replica(self.waiting.rig, replica, allow_total_loss=self.allow_total_loss)

    def _admit_replacing(self, replica: Component) -> None:
        admit_replacing(self.waiting.rig, replica, allow_total_loss=self.allow_total_loss)

    @contextlib.contextmanager
    def _checking(self, what: str, *, replaces: bool) -> Iterator[None]:
        """Writes when a post-recovery check ran: what it costs other requests is not the fault's doing."""
        log, begins = self.waiting.log, f"the post-recovery check of {what} begins"
        log.add(PostRecoveryChecking(begins, begins=True, replaces=replaces))
        try:
            yield
        finally:
            log.add(PostRecoveryChecking(f"the post-recovery check of {what} ends", begins=False))
