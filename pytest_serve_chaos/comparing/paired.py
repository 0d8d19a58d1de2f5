"""Runs both sides in turns until it is decided which is worse, or more pairs could not decide it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.comparison import ALPHA, Comparison, compare_pairs, undecidable
from pytest_serve_chaos.analysis.trial_figures import Measure, Trial, by_experiment
from pytest_serve_chaos.comparing.child_run import Side, TestRun
from pytest_serve_chaos.comparing.environments import Say
from pytest_serve_chaos.errors import RunFailed
from pytest_serve_chaos.report.comparison_text import finding_line, trial_words

_FAILURES = 3
"""Runs without a result in a row, after which the comparison ends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, and how.

    Attributes:
        sides: The old side and the new one.
        units: What pytest runs each time, one after the other; each is decided by itself.
        measures: What is compared.
        most: The greatest number of pairs.
        seed: Of the first pair; both runs of a pair have the same.
        directory: Where the runs are.
        arguments: Further arguments of pytest.
        deadline: Seconds that a run may take.
        alpha: The probability, at most, of any finding where both sides are equal.
    """

    sides: tuple[Side, Side]
    units: tuple[tuple[str, ...], ...]
    measures: tuple[Measure, ...]
    most: int
    seed: int
    directory: Path
    arguments: tuple[str, ...] = ()
    deadline: float = 1800.0
    alpha: float = ALPHA

    @property
    def names(self) -> tuple[str, str]:
        """What people call the sides."""
        return self.sides[0].name, self.sides[1].name


@dataclass(slots=True)
class PairedComparison:
    """A comparison that goes on.

    Attributes:
        plan: What is compared, and how.
        say: Prints a line of progress.
        pairs: Experiment -> its pairs so far.
        notes: What the reader must know.
    """

    plan: Plan
    say: Say
    pairs: dict[str, list[tuple[Trial, Trial]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _of_unit: dict[int, set[str]] = field(default_factory=dict)
    _failures: int = 0

    def run(self) -> None:
        """Runs pairs until each unit is decided, or there are enough.

        Raises:
            RunFailed: Run after run had no result.
            KeyboardInterrupt: The user, or a signal, ended it; the pairs that were complete are there.
        """
        open_units = list(range(len(self.plan.units)))
        for pair in range(1, self.plan.most + 1):
            for unit in list(open_units):
                self._pair(pair, unit)
                why = self._why_over(unit, pair)
                if why:
                    self.say(why)
                    open_units.remove(unit)
            if not open_units:
                return

    def comparison(self) -> Comparison:
        """What is known so far."""
        plan = self.plan
        of = len(plan.units)
        found = compare_pairs(self.pairs, plan.measures, names=plan.names, experiments=of, alpha=plan.alpha)
        return found.with_notes(self.notes)

    def _pair(self, pair: int, unit: int) -> None:
        """Runs both sides, in the other order than in the pair before."""
        order = (0, 1) if pair % 2 else (1, 0)
        found: dict[int, dict[str, list[Trial]]] = {}
        for side in order:
            found[side] = dict(self._trials(pair, unit, side))
        for name in found[0].keys() & found[1].keys():
            self._of_unit.setdefault(unit, set()).add(name)
            # A run may have several trials of it; those with the same number have made the same choices.
            self.pairs.setdefault(name, []).extend(zip(found[0][name], found[1][name], strict=False))
            for row in self.comparison().of(name):
                self.say(finding_line(row, self.plan.names))

    def _trials(self, pair: int, unit: int, side: int) -> Iterator[tuple[str, list[Trial]]]:
        plan = self.plan
        which = f"-{unit + 1}" if len(plan.units) > 1 else ""
        run = TestRun(
            plan.sides[side],
            plan.units[unit],
            seed=plan.seed + pair,
            directory=plan.directory / f"pair-{pair:02d}{which}-{'old' if side == 0 else 'new'}",
            arguments=plan.arguments,
            deadline=plan.deadline,
        )
        begun = clock.now()
        try:
            trials = run.trials()
        except RunFailed as failed:
            self._failures += 1
            if not failed.again or self._failures >= _FAILURES:
                raise
            self.say(f"pair {pair}: {failed}")
            self.notes.append(f"pair {pair}: {failed.what}; it counts for nothing")
            return
        self._failures = 0
        for name, of_it in by_experiment(trials).items():
            yield name, of_it
            which_pair = f"pair {pair} of {plan.most}, {name} on {plan.sides[side].name}"
            shown = "; ".join(trial_words(trial) for trial in of_it)
            self.say(f"{which_pair}: {shown} ({clock.now() - begun:.0f} s)")

    def _why_over(self, unit: int, pair: int) -> str:
        """Why a unit needs no more pairs; "" where it does."""
        plan = self.plan
        names = self._of_unit.get(unit, set())
        if not names:
            return ""
        decided = names & self.comparison().decided
        if decided == names:
            return f"{', '.join(sorted(names))}: decided after {pair} pairs"
        left = {name: self.pairs[name] for name in names - decided}
        tests = max(len(self.pairs), len(plan.units)) * len(plan.measures)
        if undecidable(left, plan.measures, more=plan.most - pair, alpha=plan.alpha, tests=tests):
            return f"{', '.join(sorted(left))}: {plan.most - pair} more pairs could not decide it"
        return ""


def unit_words(units: Sequence[tuple[str, ...]]) -> str:
    """What is run, for people."""
    return ", ".join(unit[-1].rpartition("::")[2] or unit[-1] for unit in units)
