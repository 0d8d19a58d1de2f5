"""The example of `docs/add-a-transport.md`: requests by gRPC, to a real gRPC server."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.plugin.conftest import ROOT, RunChaos

grpc: Any = pytest.importorskip("grpc", reason="the example needs grpcio, which comes with ray[serve]")

DOCS = (ROOT / "docs" / "add-a-transport.md").read_text()
TRANSPORT: str
TEST: str
TRANSPORT, TEST = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
SHORT = 'availability=0.7, window="700ms"'


class Ranker:
    """A service that answers with the message that it got, or as it is told."""

    def __init__(self) -> None:
        self.answer: Callable[[bytes, Any], bytes] = lambda body, _: body
        self.metadata: dict[str, str] = {}

    def service(self, details: Any) -> Any:
        if details.method == "/demo.Ranker/Rank":
            self.metadata = dict(details.invocation_metadata)
            return grpc.unary_unary_rpc_method_handler(lambda body, context: self.answer(body, context))
        return None


@pytest.fixture
def ranker(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Ranker, str]]:
    """The service and its address; the transport is in the current directory."""
    pytester.path.joinpath("by_grpc.py").write_text(TRANSPORT)
    monkeypatch.syspath_prepend(pytester.path)
    ranker = Ranker()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([ranker])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield ranker, f"http://127.0.0.1:{port}"
    server.stop(None).wait()
    sys.modules.pop("by_grpc", None)


def example(url: str) -> str:
    """The test of the page, with a window as short as a fake cluster's."""
    return TEST.replace("http://127.0.0.1:9000", url).replace('availability=0.99, longest_outage="2s"', SHORT)


def test_the_example_sends_by_grpc(run_chaos: RunChaos, ranker: tuple[Ranker, str]) -> None:
    service, url = ranker

    ran = run_chaos(example(url))

    ran.outcomes(passed=1)
    assert service.metadata["application"] == "ranker"


def test_persistent_channels_lead_to_it_too(run_chaos: RunChaos, ranker: tuple[Ranker, str]) -> None:
    _, url = ranker
    ran = run_chaos(
        f"""
        import asyncio
        from by_grpc import Grpc
        from pytest_serve_chaos import RequestSpec

        def test_it():
            async def ask():
                sender = Grpc("/demo.Ranker/Rank").persistent(RequestSpec("{url}", body=b"query"))
                outcomes = [await sender.send() for _ in range(3)]
                await sender.close()
                return [outcome.error for outcome in outcomes]

            assert asyncio.run(ask()) == [None] * 3
        """
    )

    ran.outcomes(passed=1)


def test_its_errors_are_named(run_chaos: RunChaos, ranker: tuple[Ranker, str]) -> None:
    service, url = ranker

    def refuse(_: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "no replica")
        raise AssertionError("unreachable: abort raises")

    service.answer = refuse
    ran = run_chaos(
        f"""
        import asyncio
        from by_grpc import Grpc
        from pytest_serve_chaos import RequestSpec

        def test_it():
            refused = Grpc("/demo.Ranker/Rank").fresh(RequestSpec("{url}"))
            assert asyncio.run(refused.send()).error == "gRPC UNAVAILABLE"
            unknown = Grpc("/demo.Ranker/Nothing").fresh(RequestSpec("{url}"))
            assert asyncio.run(unknown.send()).error == "gRPC UNIMPLEMENTED"
        """
    )

    ran.outcomes(passed=1)
