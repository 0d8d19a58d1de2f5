"""New versions of apps as Serve builds them: what is broken, and what stays whole. `test_updated_apps.py` runs this."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, cast

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from ray import cloudpickle, serve
from ray.serve import Application
from ray.serve._private.build_app import build_app

from pytest_serve_chaos.apps import updated

api = FastAPI()


@serve.deployment
class Engine:
    """A deployment that others call."""

    def generate(self, text: str) -> str:
        return text.upper()


@serve.deployment(num_replicas=3)
@serve.ingress(api)
class Front:
    """A FastAPI ingress in front of it, twice."""

    def __init__(self, engine: Any, others: dict[str, list[Any]]) -> None:
        self.engine, self.others = engine, others

    @api.get("/hello")
    def hello(self) -> str:
        return "hello"


@serve.deployment
async def plain(request: object) -> str:
    """A function."""
    return "well"


class Settings(BaseModel):
    """Arguments of a typed builder."""

    size: int


_engine = cast("Any", Engine).bind()
bound = cast("Any", Front).bind(_engine, {"all": [_engine]})
function = cast("Any", plain).bind()


def typed(args: Settings) -> Application:
    return cast("Application", cast("Any", Engine).options(num_replicas=args.size).bind())


typed.__annotations__["args"] = Settings  # a text, as this module has them, says nothing to Serve


def built(name: str, **args: object) -> dict[str, Any]:
    """Deployment -> what its replicas run, as it reaches them."""
    app = updated.app({"import_path": f"{__name__}:{name}", "version": 1, **args})
    deployments = build_app(app, name="app", default_runtime_env={}).deployments
    pickle = cast("Any", cloudpickle)
    return {one.name: pickle.loads(pickle.dumps(one.func_or_class)) for one in deployments}


def test_a_good_version_is_the_app_as_it_was() -> None:
    assert updated.app({"import_path": f"{__name__}:bound"}) is bound
    assert updated.app({"import_path": f"{__name__}.function"}) is function


def test_a_builder_gets_its_arguments_as_serve_gives_them() -> None:
    app = updated.app({"import_path": f"{__name__}:typed", "args": {"size": 4}, "bad": "constructor"})

    assert app._bound_deployment.num_replicas == 4


def test_the_deployment_that_answers_is_broken_unless_another_is_named() -> None:
    first, named = built("bound", bad="constructor"), built("bound", bad="constructor", deployment="Engine")

    assert set(first) == set(named) == {"Front", "Engine"}, "what is bound twice is one deployment"
    with pytest.raises(RuntimeError, match="because a test asked for it"):
        asyncio.run(first["Front"].__init__(object()))
    assert first["Engine"]().generate("a") == "A"
    with pytest.raises(RuntimeError, match="because a test asked for it"):
        named["Engine"]()


def test_what_was_imported_can_be_built_again_as_it_was() -> None:
    for bad in ("constructor", "health_check", "answers"):
        built("bound", bad=bad, deployment="Engine")

    whole = build_app(bound, name="app", default_runtime_env={}).deployments
    engine = next(one for one in whole if one.name == "Engine")
    assert cast("Any", engine.func_or_class)().generate("a") == "A"


def test_options_of_a_broken_deployment_stay() -> None:
    app = updated.app({"import_path": f"{__name__}:bound", "bad": "answers"})

    assert (app._bound_deployment.name, app._bound_deployment.num_replicas) == ("Front", 3)


def test_an_app_without_the_named_deployment_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="no deployment 'Nosuch'"):
        built("bound", bad="answers", deployment="Nosuch")


@pytest.mark.parametrize(("name", "deployment"), [("bound", "Front"), ("function", "plain")])
def test_each_answer_of_a_broken_version_is_an_error(name: str, deployment: str) -> None:
    broken = built(name, bad="answers")[deployment]

    with pytest.raises(RuntimeError, match="because a test asked for it"):
        asyncio.run(broken.__call__(object(), "scope", "receive", "send"))


def test_calls_by_a_handle_fail_as_well() -> None:
    engine = built("bound", bad="answers", deployment="Engine")["Engine"]

    with pytest.raises(RuntimeError, match="because a test asked for it"):
        asyncio.run(engine.generate(engine(), "a"))


@pytest.mark.parametrize(("name", "deployment"), [("bound", "Engine"), ("function", "plain")])
def test_a_health_check_passes_at_first_and_fails_later(
    name: str, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = built(name, bad="health_check", deployment=deployment)[deployment]()
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    replica.check_health()
    now[0] += updated.STAYS_HEALTHY / 2
    replica.check_health()
    now[0] += updated.STAYS_HEALTHY
    with pytest.raises(RuntimeError, match="because a test asked for it"):
        replica.check_health()


def test_a_function_is_still_called_as_serve_calls_it() -> None:
    replica = built("function", bad="health_check")["plain"]()

    assert inspect.iscoroutinefunction(replica.__call__)
    assert asyncio.run(replica(object())) == "well"
