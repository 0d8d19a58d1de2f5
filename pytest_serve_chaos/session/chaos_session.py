"""What ``--serve-chaos`` adds to a pytest session."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_serve_chaos import telemetry
from pytest_serve_chaos.backends.registry import Backends
from pytest_serve_chaos.checks.base import Check
from pytest_serve_chaos.experiment import Experiment
from pytest_serve_chaos.faults.registry import FaultRegistry
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.report.registry import Reporters
from pytest_serve_chaos.session import html_extras
from pytest_serve_chaos.session.collection import Collection
from pytest_serve_chaos.session.dry_run import DryRun
from pytest_serve_chaos.session.hidden_locals import HiddenLocals
from pytest_serve_chaos.session.lending import Lending
from pytest_serve_chaos.session.lifetime import RunLifetime
from pytest_serve_chaos.session.repeat import Repetition
from pytest_serve_chaos.session.results import Results
from pytest_serve_chaos.session.sections import Sections
from pytest_serve_chaos.session.statuses import Statuses
from pytest_serve_chaos.session.summary import Summary
from pytest_serve_chaos.session.terminal import Terminal
from pytest_serve_chaos.session.trials import Trials
from pytest_serve_chaos.settings import Settings
from pytest_serve_chaos.termination import EndingSignals


class ChaosSession:
    """The part of the plugin that is there only with ``--serve-chaos``: it holds its parts together.

    Attributes:
        terminal: Prints lines while tests run.
        collection: The tests, and what they ask for.
        results: Of all experiments.
        lending: Lends the rig to tests.
        load: What is sent, as the settings say.

    Raises:
        SettingsError: The file of requests cannot be used.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        faults: FaultRegistry,
        backends: Backends,
        reporters: Reporters,
        signals: EndingSignals,
    ) -> None:
        self.terminal = Terminal(config, settings)
        say = self.terminal
        self.collection = Collection(config, settings, backends[settings.backend], faults, say)
        self.results = Results(reporters)
        lifetime = RunLifetime(config, settings, backends, faults, say, signals)
        repetition = Repetition(config, config.invocation_params.dir, settings, backends)
        self.lending = Lending(lifetime, self.collection, self.results, self.terminal, repetition)
        sections = Sections(config, settings, backends, self.lending, self.results)
        self._trials = Trials(self.lending, self.results, self.terminal, settings)
        self._statuses = Statuses(self.lending, self.results, sections)
        self._summary = Summary(lifetime, self.results, reporters, send=telemetry.send if settings.otel else None)
        self._extras = None
        if html_extras.is_wanted(config):
            self._extras = html_extras.HtmlExtras(config, lifetime, self.lending, self.results, reporters)
        self.load = _load(settings)
        self._dry_run = DryRun(lifetime, self.collection, self.terminal, seed=settings.seed)
        self._is_dry = settings.dry_run

    def register(self, manager: pytest.PytestPluginManager) -> None:
        """Adds the hooks of the parts to those of pytest."""
        if self._is_dry:  # first, so that what it raises is seen by the other parts
            manager.register(self._dry_run, "serve_chaos_dry_run")
        manager.register(self.collection, "serve_chaos_collection")
        manager.register(self._trials, "serve_chaos_trials")
        manager.register(self.lending, "serve_chaos_lending")
        manager.register(self._statuses, "serve_chaos_statuses")
        manager.register(self._summary, "serve_chaos_summary")
        if self._extras is not None:
            manager.register(self._extras, "serve_chaos_html_extras")
        manager.register(HiddenLocals(), "serve_chaos_hidden_locals")  # last, so that it has the last word

    def end(self) -> None:
        """Ends the run, if nothing else has done that before."""
        self._summary.end()

    def experiment(self, item: pytest.Item, rig: Rig) -> Experiment:
        """The experiment of a marked test."""
        fault = self.collection.fault_of(item)
        return Experiment(rig, self.load, fault, on_result=self.results.keeper(item), checks=_checks_for(item))


def _load(s: Settings) -> Load:
    return Load(
        rate=s.stages or s.rate,
        arrivals=s.arrivals,
        persistent_rate=s.persistent_rate,
        timeout=s.request_timeout,
        method=s.method,
        headers=dict(s.headers),
        body=s.body.encode() if s.body is not None else None,
        url=s.url,
        path=s.path,
        requests=s.request_kinds,
        seed=s.seed,
        slow_after=s.slow_after,
        send_lag_limit=s.send_lag_limit,
        watch_for=s.watch_for,
    )


def _checks_for(item: pytest.Item) -> list[Check]:
    """The checks that plugins add to the experiments of a test."""
    added: list[Iterable[Check]] = item.ihook.pytest_serve_chaos_checks(item=item)
    return [check for checks in added for check in checks]
