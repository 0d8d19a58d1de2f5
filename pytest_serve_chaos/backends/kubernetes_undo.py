"""What a run on an external RayService writes down before it changes something, and how that is undone without it.

An entry says where it belongs: the API server, the RayService, and the UID of what was changed. It is refused in any
other cluster. The same can be repaired without an entry, by what the cluster itself shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Leftover, Repair, Undo
from pytest_serve_chaos.errors import SafetyError, ServeChaosError

if TYPE_CHECKING:
    from pytest_serve_chaos.cluster.base import Progress
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import ServerIdentity
    from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import UndoRecords
    from pytest_serve_chaos.safety.journal import Journal
    from pytest_serve_chaos.settings import Settings

UNCORDON = "uncordon_node"
"""The journal's verb for a node of an external cluster that a run drained."""
TIDY_POD = "tidy_pod"
"""The journal's verb for a pod of an external cluster in which a run stopped processes or set health flags."""
REPLACE_PROXIES = "replace_stale_proxies"
"""The journal's verb for a RayService whose controller a run has killed for good: its proxies may not hear the next."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was changed.

    Attributes:
        context: The kubeconfig context by which the user named the cluster.
        server: The URL of its API server.
        ca: What must have signed the certificate of that (`ServerIdentity.ca`).
        rayservice: ``namespace/name`` of the RayService.
        rayservice_uid: Its UID.
    """

    context: str
    server: str
    ca: str
    rayservice: str
    rayservice_uid: str

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of an entry."""
        return asdict(self)

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> Place:
        """The place of an entry.

        Raises:
            KeyError: The entry does not say it.
        """
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})


class _LateUndo:
    """Has `serve-chaos undo` run once this process is gone, as long as something is broken that has no end of its own.

    Kubernetes has no cordon that ends, and nobody replaces a stale proxy. A pod of ours could end them, but it would be
    a stranger in the user's cluster, with a token that may change nodes.

    Args:
        place: The RayService.
    """

    def __init__(self, place: Place) -> None:
        from pytest_serve_chaos.cluster.watchdog import Watchdogs

        self._claim = f"external:{place.context}/{place.rayservice_uid}"
        options = ("--context", place.context, "--allow-context", place.context, "--rayservice", place.rayservice)
        self._command = (sys.executable, "-m", "pytest_serve_chaos.cli", "undo", *options)
        self._watchdogs = Watchdogs()
        self._broken = 0

    def begin(self) -> None:
        """Call it before something is broken.

        Raises:
            CommandFailed: Nobody would repair it, so it must not be broken.
        """
        from pytest_serve_chaos.cluster.watchdog import LONGEST_CHANGE

        if not self._broken:
            self._watchdogs.watch(self._claim, None, longest=LONGEST_CHANGE, command=self._command, owned=True)
        self._broken += 1

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Begins, unless what must be done before something is broken fails, as on a full disk: nothing is then."""
        self.begin()
        try:
            yield
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Call it when that is repaired."""
        self._broken -= 1
        if not self._broken:
            self._watchdogs.end(self._claim)


class Entries:
    """The entries of one run on one RayService.

    Args:
        journal: Where they are.
        place: Where the changes are.
    """

    def __init__(self, journal: Journal, place: Place) -> None:
        self._journal = journal
        self._place = place
        self._cordons: dict[str, Path] = {}
        self._late_undo = _LateUndo(place)

    @property
    def records(self) -> UndoRecords:
        """Where faults write down what they are about to change."""
        from pytest_serve_chaos.cluster.kubernetes.client.drain import CordonNote
        from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import UndoRecords

        note = CordonNote(self._place.rayservice, self._place.rayservice_uid)
        return UndoRecords(self._on_break, self._on_cordon, self._on_uncordon, self._on_stale, str(note))

    def _on_break(self, pod: Pod) -> Callable[[], None]:
        context = self._place.context
        text = f"what a run that ended by force stopped, or flagged, in the pod {pod.name} of context {context}"
        return self._write(TIDY_POD, text, pod=pod.name, pod_uid=pod.uid)

    def _on_cordon(self, node: str, uid: str) -> None:
        text = f"the node {node} of context {self._place.context}, cordoned by a run that ended by force"
        arguments = {**self._place.arguments, "node": node, "node_uid": uid}
        with self._late_undo.begun():
            self._cordons[node] = self._journal.write(UNCORDON, text, **arguments)

    def _on_uncordon(self, node: str) -> None:
        self._journal.done(self._cordons[node])  # should that fail, the next try finds it again
        del self._cordons[node]
        self._late_undo.end()

    def _on_stale(self) -> Callable[[], None]:
        service = f"RayService {self._place.rayservice} of context {self._place.context}"
        text = f"proxies of {service} whose controller a run that ended by force killed"
        with self._late_undo.begun():
            done = self._write(REPLACE_PROXIES, text)

        def off_record() -> None:
            done()
            self._late_undo.end()

        return off_record

    def _write(self, verb: str, text: str, **arguments: str) -> Callable[[], None]:
        entry = self._journal.write(verb, text, **self._place.arguments, **arguments)
        return lambda: self._journal.done(entry)


# -- by the journal ----------------------------------------------------------------------------------------------------


def _uncordon(left: Leftover) -> None:
    from pytest_serve_chaos.cluster.kubernetes.client.drain import reopen

    node = left.arguments["node"]
    with _connected(left, may_change=lambda name: name == node) as there:
        remains = reopen(there.api, node, uid=left.arguments["node_uid"])
    if remains:
        left.progress(f"undo: {remains}")


def _tidy_pod(left: Leftover) -> None:
    from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import tidy

    with _connected(left) as there:
        for pod in there.api.pods():
            if (pod.name, pod.uid) == (left.arguments["pod"], left.arguments["pod_uid"]) and pod.runs:
                tidy(there.api, pod)


def _replace_proxies(left: Leftover) -> None:
    from pytest_serve_chaos.cluster.kubernetes.client.records import inner, text
    from pytest_serve_chaos.cluster.kubernetes.external.repairs import Repairs

    with _connected(left) as there:
        item = there.api.ray_service(there.name)
        if text(inner(item, "metadata"), "uid") == left.arguments["rayservice_uid"]:  # else its proxies are new
            Repairs(there.api, there.name, there.owns, left.progress).replace_stale_proxies(item)


UNDO: Mapping[str, Undo] = {UNCORDON: _uncordon, TIDY_POD: _tidy_pod, REPLACE_PROXIES: _replace_proxies}


@dataclass(frozen=True, slots=True)
class _Connection:
    """A connection to the cluster of a RayService that was left broken.

    Attributes:
        api: The Kubernetes API in its namespace, under a guard.
        name: The RayService.
        owns: Whether a pod of that name is its.
    """

    api: KubeApi
    name: str
    owns: Callable[[str], bool]


@contextmanager
def _connected(left: Leftover, may_change: Callable[[str], bool] = lambda _: False) -> Iterator[_Connection]:
    """A connection to the cluster of an entry; in another one, what has that name is somebody else's, or gone.

    Args:
        left: The entry.
        may_change: Whether the node of that name may be changed.

    Raises:
        SafetyError: The user has not named the context, or it leads to another cluster now.
    """
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import ServerIdentity

    place = Place.of(left.arguments)
    then = ServerIdentity(place.server, place.ca)

    def check(now: ServerIdentity) -> None:
        if now != then:
            raise SafetyError(
                f"the context {place.context} leads to {now} now, and what is to be undone is on {then}",
                fix=[
                    "point the context there again",
                    f"or, if that cluster is gone, delete what this finds: grep -l {place.server} {left.directory}/*",
                ],
            )

    with _guarded(place.context, place.rayservice, left.allowed, check, may_change) as connection:
        yield connection


@contextmanager
def _guarded(
    context: str,
    rayservice: str,
    allowed: Collection[str],
    check: Callable[[ServerIdentity], None],
    may_change: Callable[[str], bool],
) -> Iterator[_Connection]:
    from pytest_serve_chaos.backends.kubernetes_lock import hold_for_undo
    from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
    from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer
    from pytest_serve_chaos.cluster.kubernetes.external.start import OwnPods
    from pytest_serve_chaos.safety.guard import Guard, check_context

    namespace, _, name = rayservice.partition("/")
    first = FirstServer()
    with closing(KubeApi(None, context=context, namespace=namespace, first=first)) as reader:
        check(reader.server)
        try:
            check_context(context, reader.server.url, context if context in allowed else None)
        except SafetyError as error:
            advice = [f"if you mean it: serve-chaos undo --allow-context={context}"]
            raise SafetyError(error.what, checked=error.checked, fix=advice) from error
        owns = OwnPods(reader, name).owns
        permit = Guard(context, namespace, name, ("node",), owns, may_change).permit
        with (
            hold_for_undo(reader, context, name, first),
            closing(KubeApi(None, context=context, namespace=namespace, permit=permit, first=first)) as api,
        ):
            yield _Connection(api, name, owns)


# -- without it --------------------------------------------------------------------------------------------------------


def _repair(settings: Settings, progress: Progress) -> Sequence[str]:
    from pytest_serve_chaos.backends.kind_repair import not_in_use, repair_kind_cluster
    from pytest_serve_chaos.cluster.kubernetes.client.drain import CordonNote
    from pytest_serve_chaos.cluster.kubernetes.external.repairs import Repairs
    from pytest_serve_chaos.safety.journal import Journal, directory_of_journals

    context, rayservice, allowed = str(settings.context), str(settings.rayservice), [str(settings.allow_context)]

    def drained_for_it(node: str) -> bool:
        note = CordonNote.of(there.api.nodes.read(node))
        return note is not None and note.rayservice == rayservice

    journal = Journal(directory_of_journals())
    with (
        not_in_use(context, journal),
        _guarded(context, rayservice, allowed, lambda _: None, drained_for_it) as there,
    ):
        of_kind = repair_kind_cluster(context, rayservice, there.api.server, progress)
        repairs = Repairs(there.api, there.name, there.owns, progress)
        try:
            repairs.repair_all()
        except ServeChaosError as error:
            repairs.failed.append(str(error))
        return [*of_kind, *repairs.failed]


REPAIR = Repair(("context", "rayservice"), _repair)
