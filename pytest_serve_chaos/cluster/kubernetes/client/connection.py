"""A connection to a Kubernetes API server as a kubeconfig says: the only module that imports `kubernetes`."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.access import (
    Access,
    Permit,
    Renewal,
    access_of,
    guarded,
    without_redirects,
)
from pytest_serve_chaos.cluster.kubernetes.client.errors import reason
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

    Raises:
        MissingDependency: The Kubernetes client is not installed.
        ClusterError: The kubeconfig or the context in it cannot be used.

    Attributes:
        core, apps, custom, authorization, version: The client's APIs, which come without types. Their methods are given
            to `send`, `read` and `open`.
    """

    def __init__(self, kubeconfig: Path | None, *, context: str | None, namespace: str, permit: Permit | None) -> None:
        self.namespace = namespace
        self._permit = permit
        self._kubeconfig = kubeconfig
        self._context = context
        self._load_lock = threading.Lock()
        self._client = _client_module()
        self._connection = self._connect()
        self.core: Any = self._client.CoreV1Api(self._connection)
        self.apps: Any = self._client.AppsV1Api(self._connection)
        self.custom: Any = self._client.CustomObjectsApi(self._connection)
        self.authorization: Any = self._client.AuthorizationV1Api(self._connection)
        self.version: Any = self._client.VersionApi(self._connection)

    def close(self) -> None:
        """Closes it."""
        self._connection.close()

    def access(self) -> Access:
        """How to reach the API server, for requests that it passes on."""
        return access_of(self._connection.configuration)

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
        options |= {"_preload_content": False, "_request_timeout": (TIMEOUT, wait)}
        try:
            return Answer(method(*arguments, **options), what)
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
        if self._permit is not None:  # a websocket goes past the client's own way to send requests
            self._permit("EXEC", f"/api/v1/namespaces/{self.namespace}/pods/{pod}/exec")
        # `stream` swaps the client's `call_api` while it connects, so a shared client would send other threads'
        # requests through the websocket (kubernetes-client/python#928): a client of its own for each exec.
        connection = self._connect()
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
        except CommandFailed:
            raise
        except Exception as error:
            raise CommandFailed(f"a program could not be run in pod {pod}: {reason(error)}") from error
        finally:
            if channel is not None:
                # Once the server has said that it closes, `close` alone leaves the socket open.
                channel.close(timeout=1.0)
                channel.sock.shutdown()
            connection.close()

    def _connect(self) -> Any:
        settings = self._load()
        settings.refresh_api_key_hook = Renewal(settings, self._load)
        connection = self._client.ApiClient(settings)
        without_redirects(connection)
        if self._permit is not None:
            guarded(connection, self._permit)
        return connection

    def _load(self) -> Any:
        config: Any = importlib.import_module("kubernetes.config")
        settings = self._client.Configuration()
        # Without this a GET that times out is sent three times more, and takes four times as long as it may.
        settings.retries = False
        settings.safe_chars_for_path_param = "/:"
        # Requests that the API server passes on do not go through this client, and know no proxies. If only half of
        # all requests used a proxy, the cluster could look broken; so all of them go directly.
        settings.no_proxy = "*"
        try:
            with self._load_lock:
                config.load_kube_config(
                    config_file=str(self._kubeconfig) if self._kubeconfig else None,
                    context=self._context,
                    client_configuration=settings,
                    persist_config=False,
                )
            settings.tls_server_name = None
        except Exception as error:
            raise ClusterError(
                f"the kubeconfig cannot be used: {error}",
                checked=[str(self._kubeconfig or "KUBECONFIG or ~/.kube/config"), f"context {self._context}"],
                fix=["see `kubectl config get-contexts`, and give one of those"],
            ) from error
        return settings


def _connect_directly() -> None:
    """Has the client's websockets follow no redirect: the handshake with the other host would show it the token."""
    from kubernetes.stream import ws_client

    found: Any = vars(ws_client)["WebSocket"]
    if not getattr(found, "follows_no_redirect", False):

        class Direct(found):  # type: ignore[misc]  # it has no types
            follows_no_redirect = True

            def connect(self, url: str, **options: Any) -> None:
                super().connect(url, **{**options, "redirect_limit": 0})

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
