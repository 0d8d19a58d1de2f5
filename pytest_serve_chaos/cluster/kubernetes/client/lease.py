"""A lease on a RayService: one run tests it at a time, whichever machine it is on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.errors import CONFLICT, FORBIDDEN, NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.lease_holder import Holder, this_process
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, text
from pytest_serve_chaos.errors import CommandFailed, Locked, in_one_line
from pytest_serve_chaos.model import Json

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi

DURATION = 60
"""Seconds for which a lease is good without being renewed."""
_RENEWED_EVERY = 15.0
_MARGIN = 60.0
"""Seconds by which the clocks of two machines may differ."""
_TRIES = 5
"""How often another run may change the lease at the very moment in which this one does."""


def lease_name(rayservice: str) -> str:
    """The name of the lease on a RayService, in its namespace."""
    return f"serve-chaos-{rayservice}"


@dataclass(frozen=True, slots=True)
class _Lease:
    """A lease as it is there."""

    name: str
    uid: str
    version: str
    holder: str
    renewed: str
    seconds: float
    transitions: int

    @classmethod
    def of(cls, item: dict[str, Json]) -> _Lease:
        metadata, spec = mapped(item.get("metadata")), mapped(item.get("spec"))
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        return cls(
            text(metadata, "name"),
            text(metadata, "uid"),
            text(metadata, "resourceVersion"),
            text(spec, "holderIdentity"),
            text(spec, "renewTime"),
            float(seconds) if isinstance(seconds, int | float) else DURATION,
            transitions if isinstance(transitions, int) else 0,
        )

    @property
    def ends(self) -> datetime | None:
        """When it ends for sure, unless it is renewed; None: nobody can tell."""
        try:
            renewed = datetime.fromisoformat(self.renewed.replace("Z", "+00:00"))
            return renewed + timedelta(seconds=self.seconds + _MARGIN)
        except (ValueError, TypeError, OverflowError):
            return None

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it any more."""
        holder = Holder.parse(self.holder)
        over = holder is not None and holder.is_over
        return not self.holder or over or (self.ends is not None and self.ends < _now())


class RunLease:
    """The lease of one run. Safe to use from several threads.

    Attributes:
        note: Why there is none, for people; "" if there is one, or nobody has asked for one.
    """

    def __init__(self) -> None:
        self.note = ""
        self._lock = threading.Lock()
        self._renewed: float | None = None
        self._trouble = ""
        self._lost = False

    @contextlib.contextmanager
    def held(self, api: KubeApi, rayservice: str) -> Iterator[None]:
        """Holds the lease on a RayService meanwhile, and renews it, if this user may.

        Args:
            api: The Kubernetes API, in the RayService's namespace.
            rayservice: Its name.

        Raises:
            Locked: Another run holds it.
            CommandFailed: The API server gave no usable answer.
        """
        client = _Client(api, rayservice)
        try:
            lease = client.take()
        except CommandFailed as error:
            if status_of(error) != FORBIDDEN:
                raise
            self.note = f"no run on another machine is kept away: {error.what}"
            lease = None
        if lease is None:  # or this process holds it already
            yield
            return
        self._renewed, self._trouble, self._lost = _running(), "", False
        stopped = threading.Event()
        thread = threading.Thread(
            target=self._renew, args=(client, lease, stopped), name="serve-chaos-lease", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(_RENEWED_EVERY)
            with self._lock:
                self._renewed, self._lost = None, False
            client.give_back()

    def check(self) -> None:
        """Makes sure, before a change, that this run still has its lease. What heals does not ask.

        Raises:
            Locked: It has been lost.
        """
        with self._lock:
            renewed, trouble, lost = self._renewed, self._trouble, self._lost
        ago = 0.0 if renewed is None else _running() - renewed
        if lost or ago > DURATION:
            raise Locked(
                f"this run has lost its lease on the RayService, so it breaks nothing more: {trouble or 'it ended'}",
                checked=[f"the lease was last renewed {ago:.0f} s ago, and is good for {DURATION} s"],
                fix=["see that no other run tests that RayService, and that the API server can be reached"],
            )

    def _renew(self, client: _Client, lease: _Lease, stopped: threading.Event) -> None:
        """Renews the lease until it is stopped; whatever goes wrong is for `check` to say."""
        while not stopped.wait(_RENEWED_EVERY):
            try:
                lease = client.renew(lease)
            except Exception as error:
                lost = isinstance(error, Locked)
                with self._lock:
                    self._trouble, self._lost = in_one_line(error), lost
                if lost:
                    return
                continue
            with self._lock:
                self._renewed, self._trouble = _running(), ""


class _Client:
    """The lease on one RayService at the API server."""

    def __init__(self, api: KubeApi, rayservice: str) -> None:
        self._leases = api.leases
        self._whose = f"{api.namespace}/{rayservice}"
        self._name = lease_name(rayservice)
        self._holder = str(this_process())

    def take(self) -> _Lease | None:
        """Takes the lease if it is free; None if this process has it already.

        Raises:
            Locked: Another run holds it.
            CommandFailed: The API server gave no usable answer.
        """
        for _ in range(_TRIES):
            there = self._there()
            if there is not None and there.holder == self._holder:
                return None
            if there is not None and not there.is_free:
                raise self._locked(there)
            with contextlib.suppress(_Changed):
                return self._write(there)
        raise Locked(f"another run takes the lease on RayService {self._whose} again and again")

    def renew(self, lease: _Lease) -> _Lease:
        """Renews a lease that this process holds; takes it again if it is gone.

        Raises:
            Locked: Another run has it.
            CommandFailed: The API server gave no usable answer.
        """
        try:
            return self._write(lease)
        except _Changed:
            there = self._there()
            if there is not None and there.holder not in ("", self._holder):
                raise self._locked(there) from None
            return self._write(there)

    def give_back(self) -> None:
        """Deletes the lease, if it is this process's; otherwise it ends by itself."""
        with contextlib.suppress(CommandFailed):
            there = self._there()
            if there is not None and there.holder == self._holder:
                self._leases.delete(self._name, uid=there.uid, version=there.version)

    def _there(self) -> _Lease | None:
        try:
            return _Lease.of(self._leases.read(self._name))
        except CommandFailed as error:
            if status_of(error) != NOT_FOUND:
                raise
            return None

    def _write(self, before: _Lease | None) -> _Lease:
        now = _now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = before is not None and before.holder == self._holder
        spec: dict[str, Json] = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": DURATION,
            "renewTime": now,
            "leaseTransitions": 0 if before is None else before.transitions + (not mine),
            **({} if mine else {"acquireTime": now}),
        }
        metadata: dict[str, Json] = {"name": self._name, "labels": {names.MANAGED_BY: names.PROJECT}}
        try:
            if before is None:
                return _Lease.of(self._leases.create({"metadata": metadata, "spec": spec}))
            metadata["resourceVersion"] = before.version
            return _Lease.of(self._leases.replace(self._name, {"metadata": metadata, "spec": spec}))
        except CommandFailed as error:
            if status_of(error) in (CONFLICT, NOT_FOUND):
                raise _Changed from error
            raise

    def _locked(self, there: _Lease) -> Locked:
        ends = "it does not say until when" if there.ends is None else f"until {there.ends:%H:%M:%S} UTC, if it is over"
        return Locked(
            f"another run is testing RayService {self._whose}: {there.holder}",
            checked=[f"the lease {self._name}, renewed {there.renewed}: {ends}"],
            fix=["wait for it, or end it", f"or if you know that it is over: kubectl delete lease {self._name}"],
        )


class _Changed(Exception):
    """Somebody else has changed the lease."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _running() -> float:
    """Seconds that also pass while the machine sleeps: others may have taken the lease meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
