"""Runs both sides in turns until it is decided which is worse, or more pairs could not decide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_serve_chaos import clock
from pytest_serve_chaos.analysis.compared import ALPHA, Comparison
from pytest_serve_chaos.analysis.comparison import compare_pairs, is_over
from pytest_serve_chaos.analysis.trial_figures import Measure, Trial, by_experiment, of_one_run
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.comparing.child_run import Side, TestRun
from pytest_serve_chaos.comparing.environments import Say
from pytest_serve_chaos.errors import RunFailed
from pytest_serve_chaos.report.comparison_text import finding_line, trial_words

_FAILURES = 3
"""Runs of one side in a row that showed nothing, after which the comparison ends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared, and how.

    Attributes:
        sides: The old side and the new one.
        units: What pytest runs each time, one after the other; each is decided by itself.
        experiments: How many experiments pytest finds in the units.
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
    experiments: int
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
        pairs: Experiment -> its pairs of runs so far; of a run with several trials, all of them as one.
        notes: What the reader must know.
    """

    plan: Plan
    say: Say
    pairs: dict[str, list[tuple[Trial, Trial]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _of_unit: dict[int, set[str]] = field(default_factory=dict)
    _seen: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    _failures: Counter[tuple[int, int]] = field(default_factory=Counter)

    def run(self) -> None:
        """Runs pairs until each unit is decided, or there are enough.

        Raises:
            RunFailed: Run after run showed nothing.
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
        alone = [sorted(names - self.pairs.keys()) for names in self._seen]
        found = compare_pairs(
            self.pairs,
            plan.measures,
            names=plan.names,
            experiments=plan.experiments,
            alone=(alone[0], alone[1]),
            alpha=plan.alpha,
        )
        return found.with_notes(self.notes)

    def _pair(self, pair: int, unit: int) -> None:
        """Runs both sides, in the other order than in the pair before; the second only if the first has a result."""
        first, second = (0, 1) if pair % 2 else (1, 0)
        found = {first: self._trials(pair, unit, first)}
        found[second] = self._trials(pair, unit, second) if found[first] else {}
        if not found[second]:
            return
        for side, names in enumerate(self._seen):
            names.update(found[side])
        for name in (name for name in found[0] if name in found[1]):
            self._of_unit.setdefault(unit, set()).add(name)
            # However many trials of it a run has, they share one cluster, so that both runs are one pair.
            self.pairs.setdefault(name, []).append((of_one_run(found[0][name]), of_one_run(found[1][name])))
            for row in self.comparison().of(name):
                self.say(finding_line(row, self.plan.names))

    def _trials(self, pair: int, unit: int, side: int) -> dict[str, list[Trial]]:
        """Experiment -> its trials in one run; nothing where the run has no result.

        Raises:
            RunFailed: It showed nothing, as did those before it on this side.
        """
        plan, begun = self.plan, clock.now()
        try:
            found = by_experiment(self._run(pair, unit, side).trials())
        except RunFailed as failed:
            self._showed_nothing(unit, side, failed)
            self.say(f"pair {pair}: {failed}")
            self.notes.append(f"pair {pair}: {failed.what}; it counts for nothing")
            return {}
        for name, of_it in found.items():
            which_pair = f"pair {pair} of {plan.most}, {name} on {plan.sides[side].name}"
            shown = "; ".join(trial_words(trial) for trial in of_it)
            self.say(f"{which_pair}: {shown} ({clock.now() - begun:.0f} s)")
        if any(trial.counts for of_it in found.values() for trial in of_it):
            self._failures[unit, side] = 0
        else:
            what = f"{_FAILURES} runs on {plan.sides[side].name} one after the other were inconclusive"
            self._showed_nothing(
                unit, side, RunFailed(what, fix=[f"see what they lack: {plan.directory}/*.log"], again=True)
            )
        return found

    def _showed_nothing(self, unit: int, side: int, why: RunFailed) -> None:
        """Counts a run that showed nothing, and ends the comparison where the next one would not either.

        Raises:
            RunFailed: That is so.
        """
        self._failures[unit, side] += 1
        if not why.again or self._failures[unit, side] >= _FAILURES:
            raise why

    def _run(self, pair: int, unit: int, side: int) -> TestRun:
        plan = self.plan
        which = f"-{unit + 1}" if len(plan.units) > 1 else ""
        return TestRun(
            plan.sides[side],
            plan.units[unit],
            seed=plan.seed + pair,
            directory=plan.directory / f"pair-{pair:02d}{which}-{'old' if side == 0 else 'new'}",
            arguments=plan.arguments,
            deadline=plan.deadline,
        )

    def _why_over(self, unit: int, pair: int) -> str:
        """Why a unit needs no more pairs; "" where it does."""
        names = sorted(self._of_unit.get(unit, ()))
        if not names:
            return ""
        found, more = self.comparison(), self.plan.most - pair
        if not all(is_over(found, name, self.pairs[name], more=more) for name in names):
            return ""
        open_ones = [name for name in names if name not in found.decided]
        if open_ones:
            return f"{', '.join(open_ones)}: {number(more, 'more pair')} could not decide it"
        return f"{', '.join(names)}: decided after {number(pair, 'pair')}"


def unit_words(units: Sequence[tuple[str, ...]]) -> str:
    """What is run, for people."""
    return ", ".join(unit[-1].rpartition("::")[2] or unit[-1] for unit in units)
