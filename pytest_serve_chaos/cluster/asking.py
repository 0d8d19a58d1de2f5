"""What a user wants to be sent, and what that is on a cluster: which apps, by which paths, with which shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from pytest_serve_chaos.cluster.serve_config import CANARY, applications, first_route
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.masking import masked
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.request_kind import RequestKind
from pytest_serve_chaos.traffic.sources import RequestSource


@dataclass(frozen=True, slots=True)
class Asking:
    """What a user wants to be sent, before it is known where.

    Attributes:
        method: Of requests that do not say another.
        headers: Of all requests; a request's own win.
        body: Of requests that say neither a method nor a body.
        path: Of requests that do not say another. None: the route of the app.
        kinds: The kinds of requests; none for one that says nothing itself.
        apps: The names of the apps that are asked; none for all that have a route.
        seed: Of the run.
    """

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)
    kinds: tuple[RequestKind, ...] = ()
    apps: tuple[str, ...] = ()
    seed: int = 0

    def source(self, config: Mapping[str, Json], *, usual: Mapping[str, Json] | None = None) -> RequestSource:
        """What is sent to a cluster that runs that Serve config.

        Args:
            config: The Serve config.
            usual: The one whose apps are asked where nobody says which. None: the same.

        Raises:
            SettingsError: It has no such app, or none at a path.
        """
        routes = routes_of(config)
        for app in (*self.apps, *(kind.app for kind in self.kinds if kind.app)):
            _must_have(app, routes, config)
        asked = self.apps or tuple(app for app in routes_of(config if usual is None else usual) if app in routes)
        kinds = [
            found for kind in self.kinds or (RequestKind(),) for found in self._placed(self.whole(kind), routes, asked)
        ]
        if not kinds:
            raise SettingsError(
                f"no request is for the app {', '.join(self.apps)}",
                checked=[f"the apps of the requests: {', '.join(dict.fromkeys(k.app or '' for k in self.kinds))}"],
                fix=["add a request for it, or a request that names no app"],
            )
        return RequestSource(kinds, seed=self.seed, in_order=self._in_order)

    @property
    def _in_order(self) -> bool:
        return bool(self.kinds) and all(kind.weight is None for kind in self.kinds)

    def whole(self, kind: RequestKind) -> RequestKind:
        """The kind with what the settings say of what it does not say itself."""
        own = {name.lower() for name in kind.headers}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        body = kind.body
        if body is None and kind.method is None:
            body = self.body
        method = kind.method or ("POST" if kind.body is not None and self.method == "GET" else self.method)
        # Fields are filled in only in what a request says; the settings are sent as they are.
        return replace(
            kind,
            path=self.path if kind.path is None else kind.path,
            method=method,
            headers={**{name: _literal(value) for name, value in headers.items()}, **kind.headers},
            body=body,
        )

    def _placed(self, kind: RequestKind, routes: Mapping[str, str], asked: Sequence[str]) -> Iterator[RequestKind]:
        """The kind for each app that it asks, with the path to which it is sent."""
        if not routes:  # an app that only the cluster knows
            yield replace(kind, path=kind.path or "/")
            return
        app = kind.app
        if app is None and kind.path is not None:
            app = self._app_of(kind.path, routes, asked)
        if app is not None:
            if not self.apps or app in self.apps:
                yield replace(kind, app=app, path=below(routes[app], kind.path))
            return
        weight = None if self._in_order or not self.kinds else (kind.weight or 1.0) / max(1, len(asked))
        for one in asked:
            yield replace(kind, app=one, path=below(routes[one], kind.path), weight=weight)

    def _app_of(self, path: str, routes: Mapping[str, str], asked: Sequence[str]) -> str | None:
        """The app that a path without an app is for: the one that was chosen, or else as Serve decides it."""
        if len(self.apps) == 1:
            return self.apps[0]
        among = {app: routes[app] for app in self.apps or routes}
        found = app_at(path, among)
        if found is not None:
            return found
        if len(asked) == 1:
            return asked[0]
        raise SettingsError(
            f"the path {masked(path)} is below the route of no app",
            checked=[f"the route of {app}: {route}" for app, route in among.items()],
            fix=[
                "begin the path with the route of the app",
                "or say which app: app=... in a test, or `app` in the file of --serve-chaos-requests",
            ],
            setting="requests" if self.kinds else "path",
        )


@dataclass(frozen=True, slots=True)
class Way:
    """Where requests go, and what they say there.

    Attributes:
        url: The address that all proxies share.
        messages: What is sent to it.
        at_proxy: What is sent to one proxy alone: a way in may change paths before a proxy sees them.
    """

    url: str = field(repr=False)
    messages: RequestSource
    at_proxy: RequestSource


def way_to(
    asking: Asking,
    config: Mapping[str, Json],
    *,
    home: str,
    url: str | None = None,
    exact: bool = False,
    usual: Mapping[str, Json] | None = None,
) -> Way:
    """Where requests go on a cluster, and what they say.

    Args:
        asking: What the user wants to be sent.
        config: The Serve config that runs.
        home: The cluster's own address, with any path.
        url: The user's. It stands for the root of Serve, or if it has a path for the route that the path is, or else
            for that of the first app. None: the cluster's.
        exact: Whether everything goes to that very URL. If nothing else says what is asked, everything does, unless it
            is the root of Serve and there are several apps.
        usual: See `Asking.source`.

    Raises:
        SettingsError: There is no such app, or none at a path.
    """
    if url is None:
        source = asking.source(config, usual=usual)
        return Way(origin(home), source, source)
    routes, base = routes_of(config), urlsplit(url).path.rstrip("/")
    says = asking.path is not None or bool(asking.kinds) or bool(asking.apps)
    if exact or (not says and (base or len(routes) < 2)):
        return _exactly(asking, config, url)
    source = asking.source(config, usual=usual)
    if not base or base in routes.values():
        return Way(origin(url), source, source)
    stands_for = first_route(config)
    return Way(origin(url) + base, source.moved(lambda path: _without(stands_for, path)), source)


def _exactly(asking: Asking, config: Mapping[str, Json], url: str) -> Way:
    path = path_in_serve(url, config)
    only = replace(asking, path=None, kinds=(), apps=())
    kind = replace(only.whole(RequestKind()), app=app_at(path, routes_of(config)))
    there = RequestSource([kind], seed=asking.seed)
    return Way(url, there, RequestSource([replace(kind, path=path)], seed=asking.seed))


def _without(route: str, path: str) -> str:
    if route == "/" or not is_below(path, route):
        return path
    rest = path[len(route.rstrip("/")) :]
    return rest if rest.startswith("/") else f"/{rest}"


def path_in_serve(url: str, config: Mapping[str, Json]) -> str:
    """The path at a proxy that the user's URL stands for: its own, or the first app's route where a way in changed it.

    Args:
        url: Where the user's traffic goes.
        config: The Serve config.
    """
    parts = urlsplit(url)
    path = parts.path or "/"
    known = any(is_below(path, route) for route in routes_of(config).values())
    return (path if known else first_route(config)) + (f"?{parts.query}" if parts.query else "")


def routes_of(config: Mapping[str, Json]) -> dict[str, str]:
    """App -> route, of those that have one, without the plugin's own; the names of apps are Serve's."""
    found: dict[str, str] = {}
    for app in applications(config):
        route, name = app.get("route_prefix", "/"), str(app.get("name") or "default")
        if isinstance(route, str) and route and not name.startswith(CANARY):
            found[name] = route
    return found


def without_route(config: Mapping[str, Json]) -> tuple[str, ...]:
    """The apps that only other apps can ask."""
    apps = (str(app.get("name") or "default") for app in applications(config))
    return tuple(name for name in apps if not name.startswith(CANARY) and name not in routes_of(config))


def is_below(path: str, route: str) -> bool:
    """Whether a path, which may have a query, is one that Serve gives to the app of that route."""
    plain = path.partition("?")[0]
    return plain == route or plain.startswith(route.rstrip("/") + "/")


def app_at(path: str, routes: Mapping[str, str]) -> str | None:
    """The app to which Serve gives a request for that path: the one with the longest route above it."""
    found = [app for app, route in routes.items() if is_below(path, route)]
    return max(found, key=lambda app: len(routes[app]), default=None)


def below(route: str, path: str | None) -> str:
    """A path as it is if it begins with the route, else below it; the route itself where there is no path."""
    if path is None:
        return route
    return path if is_below(path, route) else route.rstrip("/") + path


def origin(url: str) -> str:
    """The URL without its path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _literal(text: str) -> str:
    return text.replace("${", "$${")


def _must_have(app: str, routes: Mapping[str, str], config: Mapping[str, Json]) -> None:
    if app in routes:
        return
    hidden = app in without_route(config)
    raise SettingsError(
        f"the app {app!r} has no route, so no request reaches it" if hidden else f"there is no app {app!r}",
        checked=[f"the route of {name}: {route}" for name, route in routes.items()]
        or ["the Serve config has no route"],
        fix=["ask an app that has a handle to it" if hidden else "give the name of an app of the Serve config"],
    )
