"""An API server, as far as this package asks one, on 127.0.0.1; it speaks HTTP, and keeps what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from pytest_serve_chaos.model import Json

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    path: str
    token: str
    content_type: str
    body: Json
    query: str


class ApiServer:
    """Answers GET with the object at the path, takes all else, and reviews rights.

    Attributes:
        objects: Path (without ``base``) -> what is there; a text is a log.
        lacking: The rights that its user has not: ``delete pods``, or ``delete pods in ml`` in that namespace alone.
        refusals: Path -> the statuses with which the next changes there are refused, the first first.
        asked: All requests but those for a review, in order.
        forbidden: The paths that its user may not even read.
        hiccups: How many of the next requests get no usable answer.
        base: A path before all others, as a server has that stands before several clusters.
    """

    def __init__(self, address: str, base: str = "") -> None:
        self.address = address + base
        self.base = base
        self.objects: dict[str, Json] = {}
        self.lacking: set[str] = set()
        self.forbidden: set[str] = set()
        self.hiccups = 0
        self.refusals: dict[str, list[int]] = {}
        self.asked: list[Asked] = []

    def answer(self, asked: Asked) -> tuple[int, Json]:
        """Status and body."""
        if asked.path == REVIEWS:
            return 201, {"status": {"allowed": not _rights(asked.body) & self.lacking}}
        self.asked.append(asked)
        if self.hiccups:
            self.hiccups -= 1
            return 500, {"kind": "Status", "message": "etcdserver: leader changed"}
        if asked.path in self.forbidden:
            return 403, {"kind": "Status", "message": "forbidden"}
        if asked.method != "GET":
            refused = self.refusals.get(asked.path)
            return (refused.pop(0), {"kind": "Status", "message": "refused"}) if refused else (200, {})
        if asked.path not in self.objects:
            return 404, {"kind": "Status", "message": f"{asked.path} not found"}
        return 200, self.objects[asked.path]

    def kubeconfig(self, directory: Path, *, context: str = "kind-test", user: str = "{token: none}") -> Path:
        """Writes a kubeconfig for it."""
        file = directory / "kubeconfig"
        file.write_text(
            f"apiVersion: v1\nkind: Config\ncurrent-context: {context}\n"
            f"contexts: [{{name: {context}, context: {{cluster: test, user: test}}}}]\n"
            f'clusters: [{{name: test, cluster: {{server: "{self.address}"}}}}]\n'
            f"users: [{{name: test, user: {user}}}]\n"
        )
        return file


def _rights(review: Json) -> set[str]:
    asked = cast("dict[str, dict[str, dict[str, str]]]", review)["spec"]["resourceAttributes"]
    part = f"/{asked['subresource']}" if asked["subresource"] else ""
    right = f"{asked['verb']} {asked['resource']}{part}"
    return {right, f"{right} in {asked.get('namespace', 'all')}"}


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    timeout = 5.0  # for a client that connects and says nothing

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        url = urlsplit(self.path)
        path = url.path.removeprefix(self.api.base)
        content_type = self.headers["Content-Type"] or ""
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        asked = Asked(self.command, path, token, content_type, json.loads(body) if body else None, url.query)
        status, said = self.api.answer(asked)
        content = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def api_server(base: str = "") -> Iterator[ApiServer]:
    """One that runs as long as the block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    api = ApiServer(f"http://127.0.0.1:{server.server_address[1]}", base)
    handler.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
