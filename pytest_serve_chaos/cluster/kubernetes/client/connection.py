"""A connection to a Kubernetes API server as a kubeconfig says: the only module that imports `kubernetes`."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.access import (
    EXEC,
    Access,
    Permit,
    Renewal,
    access_of,
    guarded,
    without_redirects,
)
from pytest_serve_chaos.cluster.kubernetes.client.api_path import api_path
from pytest_serve_chaos.cluster.kubernetes.client.deadline import CREDENTIALS_WITHIN, within
from pytest_serve_chaos.cluster.kubernetes.client.errors import reason
from pytest_serve_chaos.cluster.kubernetes.client.key_files import keep_keys_in_memory
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer, ServerIdentity
from pytest_serve_chaos.cluster.kubernetes.client.streaming import Answer, Channel
from pytest_serve_chaos.errors import ClusterError, CommandFailed, MissingDependency, ObservationError, SafetyError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json

if TYPE_CHECKING:
    from types import ModuleType

TIMEOUT = 10.0
"""Seconds for one request to the API server."""


class Response(Protocol):
    """The answer to a request, if the client is not to read it."""

    status: int
    data: bytes


Method: TypeAlias = Callable[..., Response]
"""A method of one of the client's APIs."""


class KubeConnection:
    """One way to an API server. Safe to use from several threads.

    Args:
        kubeconfig: The kubeconfig file; None takes kubectl's default.
        context: The context in it; None takes the current one.
        namespace: The namespace, for errors and for programs in pods.
        permit: Asked before each request; None: all may be sent.
        first: The server that other connections of this run lead to; None: it may be any, and stays the same one.

    Raises:
        MissingDependency: The Kubernetes client is not installed.
        ClusterError: The kubeconfig or the context in it cannot be used.
        SafetyError: The kubeconfig leads to another server than `first`.

    Attributes:
        server: Which server it is. Whatever is loaded later must lead there, too.
        core, apps, custom, authorization, coordination, version: The client's APIs, which come without types. Their
            methods are given to `send`, `read` and `open`.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        context: str | None,
        namespace: str,
        permit: Permit | None,
        first: FirstServer | None = None,
    ) -> None:
        self.namespace = namespace
        self._first = first or FirstServer()
        self._permit = permit
        self._kubeconfig = kubeconfig
        self._context = context
        self._load_lock = threading.Lock()
        self._client = _client_module()
        settings = self._load()
        settings.refresh_api_key_hook = Renewal(settings, self._load)
        self._connection = self._connect(settings)
        self.server = _identity(self._connection.configuration)
        self.core: Any = self._client.CoreV1Api(self._connection)
        self.apps: Any = self._client.AppsV1Api(self._connection)
        self.custom: Any = self._client.CustomObjectsApi(self._connection)
        self.authorization: Any = self._client.AuthorizationV1Api(self._connection)
        self.coordination: Any = self._client.CoordinationV1Api(self._connection)
        self.version: Any = self._client.VersionApi(self._connection)

    def close(self) -> None:
        """Closes it."""
        self._connection.close()

    @property
    def address(self) -> str:
        """The URL of the API server, as the kubeconfig spells it."""
        return str(self._connection.configuration.host)

    def access(self) -> Access:
        """How to reach the API server, for requests that it passes on."""
        return access_of(self._connection.configuration, self._permit)

    def send(
        self, method: Method, *arguments: object, what: str, error: type[ClusterError], **options: object
    ) -> bytes:
        """Calls a method and waits for all of the answer.

        Args:
            method: ``connection.core.patch_node``, for example.
            *arguments: For the method.
            what: What it does, for the error.
            error: Raised where there is no usable answer.
            **options: For the method.
        """
        _check_names(arguments)
        try:
            return bytes(method(*arguments, _preload_content=False, _request_timeout=TIMEOUT, **options).data)
        except SafetyError:
            raise
        except Exception as failure:
            raise error(f"{what}: {reason(failure)}", checked=[f"namespace {self.namespace}"]) from failure

    def read(
        self, method: Method, *arguments: object, what: str, error: type[ClusterError], **options: object
    ) -> dict[str, Json]:
        """The same for an answer that is an object, as plain data. Arguments: those of `send`."""
        said = self.send(method, *arguments, what=what, error=error, **options)
        try:
            answer = read_json(said)
        except ValueError as odd:
            raise error(f"{what}: the answer is not JSON: {odd}", checked=[f"namespace {self.namespace}"]) from odd
        if not isinstance(answer, dict):
            raise error(f"{what}: the answer is {answer!r:.80}, not an object")
        return answer

    def open(self, method: Method, *arguments: object, what: str, wait: float, **options: object) -> Answer:
        """Calls a method for an answer that goes on: a watch, or a log that is followed.

        Args:
            method: ``connection.core.list_namespaced_pod``, for example.
            *arguments: For the method.
            what: What it is, for the error.
            wait: Seconds between two pieces of it, after which it is given up.
            **options: For the method.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        _check_names(arguments)
        options |= {"_preload_content": False, "_request_timeout": (TIMEOUT, wait)}
        try:
            return Answer(method(*arguments, **options), what)
        except SafetyError:
            raise
        except Exception as failure:
            raise ObservationError(f"{what}: {reason(failure)}") from failure

    @contextlib.contextmanager
    def exec(self, pod: str, container: str, command: Sequence[str], *, stdin: bool = False) -> Iterator[Channel]:
        """Starts a program in a container; gives the websocket to it, and closes that.

        Raises:
            CommandFailed: It could not be started.
        """
        from kubernetes.stream import stream

        _connect_directly()
        path = api_path("api", "v1", "namespaces", self.namespace, "pods", pod, "exec")
        if self._permit is not None:  # a websocket goes past the client's own way to send requests
            self._permit(EXEC, path, tuple(command))
        # `stream` swaps the client's `call_api` while it connects, so a shared client would send other threads'
        # requests through the websocket (kubernetes-client/python#928): a client of its own for each exec. What was
        # loaded is shared: to load it again could run a program for credentials, and lead to another server.
        connection = self._connect(self._connection.configuration)
        channel: Any = None
        try:
            channel = stream(
                self._client.CoreV1Api(connection).connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=list(command),
                stdin=stdin,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=TIMEOUT,
            )
            yield channel
        except (CommandFailed, SafetyError):
            raise
        except Exception as error:
            raise CommandFailed(f"a program could not be run in pod {pod}: {reason(error)}") from error
        finally:
            if channel is not None:
                # Once the server has said that it closes, `close` alone leaves the socket open.
                channel.close(timeout=1.0)
                channel.sock.shutdown()
            connection.close()

    def check_server(self) -> None:
        """Reads the kubeconfig again, without asking for credentials; all that is sent goes to the first server anyway.

        Raises:
            SafetyError: It leads to another server than at first.
        """
        try:
            named = self._named_server()
        except Exception:  # it is being written, or is gone: then it leads nowhere
            return
        self._first.hold_to(named)

    def _named_server(self) -> ServerIdentity:
        kube_config: Any = importlib.import_module("kubernetes.config.kube_config")
        merged = kube_config.KubeConfigMerger(str(self._kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION)).config
        context = merged["contexts"].get_with_name(self._context or merged["current-context"])["context"]
        cluster = merged["clusters"].get_with_name(context["cluster"])["cluster"]
        base = Path(cluster.path).absolute().parent
        ca = kube_config.FileOrData(cluster, "certificate-authority", file_base_path=str(base)).as_file()
        return ServerIdentity.of(cluster["server"], ca, verified=not cluster.safe_get("insecure-skip-tls-verify"))

    def _connect(self, settings: Any) -> Any:
        connection = self._client.ApiClient(settings)
        without_redirects(connection)
        guarded(connection, self._permit)
        return connection

    def _load(self) -> Any:
        config: Any = importlib.import_module("kubernetes.config")
        keep_keys_in_memory(config.kube_config)
        settings = self._client.Configuration()
        # Without this a GET that times out is sent three times more, and takes four times as long as it may.
        settings.retries = False
        settings.safe_chars_for_path_param = "/:"
        # Requests that the API server passes on do not go through this client, and know no proxies. If only half of
        # all requests used a proxy, the cluster could look broken; so all of them go directly.
        settings.no_proxy = "*"
        try:
            with self._load_lock:
                within(
                    CREDENTIALS_WITHIN,
                    lambda: config.load_kube_config(
                        config_file=str(self._kubeconfig) if self._kubeconfig else None,
                        context=self._context,
                        client_configuration=settings,
                        persist_config=False,
                    ),
                )
            settings.tls_server_name = None
            found = _identity(settings)
        except TimeoutError as error:
            raise ClusterError(
                f"the kubeconfig's program for credentials gave none in {CREDENTIALS_WITHIN:g} s",
                checked=[str(self._kubeconfig or "KUBECONFIG or ~/.kube/config"), f"context {self._context}"],
                fix=["run `kubectl get pods` with that context: perhaps you have to log in again"],
            ) from error
        except Exception as error:
            raise ClusterError(
                f"the kubeconfig cannot be used: {error}",
                checked=[str(self._kubeconfig or "KUBECONFIG or ~/.kube/config"), f"context {self._context}"],
                fix=["see `kubectl config get-contexts`, and give one of those"],
            ) from error
        self._first.hold_to(found)
        return settings


def _identity(settings: Any) -> ServerIdentity:
    """Which server a configuration of the Kubernetes client leads to."""
    return ServerIdentity.of(settings.host, settings.ssl_ca_cert, verified=settings.verify_ssl)


def _check_names(arguments: Sequence[object]) -> None:
    """Refuses what is not a name: the client puts texts into the path, where a slash would begin another segment.

    Raises:
        SafetyError: One of the texts is not a name.
    """
    api_path(*(argument for argument in arguments if isinstance(argument, str)))


def _connect_directly() -> None:
    """Has the client's websockets follow no redirect, and give up a server that says nothing.

    The handshake with the other host would show it the token. A server that accepts connections and says nothing, as
    on a paused machine, would be waited for without end: the client's `_request_timeout` is not for websockets.
    """
    from kubernetes.stream import ws_client

    found: Any = vars(ws_client)["WebSocket"]
    if not getattr(found, "follows_no_redirect", False):

        class Direct(found):  # type: ignore[misc]  # it has no types
            follows_no_redirect = True

            def connect(self, url: str, **options: Any) -> None:
                super().connect(url, **{**options, "redirect_limit": 0, "timeout": TIMEOUT})
                self.settimeout(None)  # a program may be silent for as long as its caller has patience

        vars(ws_client)["WebSocket"] = Direct


def _client_module() -> ModuleType:
    try:
        from kubernetes import client
    except ImportError as error:
        raise MissingDependency(
            "the Kubernetes client is not installed",
            checked=["import kubernetes"],
            fix=["pip install 'pytest-serve-chaos[kind]'"],
        ) from error
    return client
