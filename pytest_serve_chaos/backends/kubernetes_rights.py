"""What this user may do to an external RayService, fault by fault, for `serve-chaos doctor`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Finding
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.object_names import names_there
from pytest_serve_chaos.cluster.kubernetes.external.policy import needed
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.faults.spec import FaultSpec

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.settings import Settings


def right_findings(api: KubeApi, name: str, settings: Settings) -> Iterator[Finding]:
    """Whether this user may look, and what is missing for each fault, with the roles that would give it.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        name: The RayService.
        settings: Say what is sent, and where KubeRay's operator is.

    Raises:
        CommandFailed: The API server does not say what this user may do.
    """
    sight, logs = rights.look(settings.method), (rights.LOGS, *rights.operator_log(settings.operator_namespace))
    wanted = dict.fromkeys((*sight, *logs, *rights.BREAK, *rights.LEASE))
    lacking = rights.missing(api, wanted, names_there(api, name))
    advice = f"serve-chaos rbac {settings.rayservice} --tier"
    yield _finding("rights to look", sight, lacking, f"{advice} look", is_needed=True)
    yield _finding("rights to logs", logs, lacking, f"{advice} look")
    yield _finding("lock on all machines", rights.LEASE, lacking, f"{advice} break")
    for fault in BUILT_IN:
        yield _of_fault(fault, lacking, advice)


def _finding(
    what: str, wanted: Sequence[rights.Right], lacking: Collection[rights.Right], fix: str, *, is_needed: bool = False
) -> Finding:
    some = _list(right for right in wanted if right in lacking)
    return Finding(what, f"this user may not {some}" if some else "this user may", not some, fix, needed=is_needed)


def _of_fault(fault: FaultSpec[object], lacking: Collection[rights.Right], advice: str) -> Finding:
    may: list[str] = []
    may_not: list[str] = []
    never: list[str] = []
    missing: set[rights.Right] = set()
    for how in fault.verbs:
        try:
            touch = fault.choose({"how": how}).touch()
        except SettingsError:  # it takes keywords that only a test knows
            continue
        lacks = [right for right in needed(touch) if right in lacking]
        missing |= set(lacks)
        if touch.refused:
            never.append(f"{how}: never: {touch.refused}")
        elif lacks:
            may_not.append(f"{how}: this user may not {_list(lacks)}")
        else:
            may.append(how)
    tier = "drain" if missing & set(rights.DRAIN) else "break"
    said = [*([", ".join(may)] if may else []), *may_not, *never]
    return Finding(fault.name, "; ".join(said), not may_not, f"{advice} {tier}", needed=False)


def _list(some: Iterable[rights.Right]) -> str:
    return ", ".join(str(right) for right in some)
