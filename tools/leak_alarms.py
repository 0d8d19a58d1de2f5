"""Simulates healthy processes, and says how many runs find a leak all the same.

``python -m tools.leak_alarms 3000 60`` simulates 3000 runs that are watched for 60 s. A run has nine processes, with
the figures that the plugin watches. Each has noise and what makes those of healthy processes rise: a warm-up that
levels off, memory that is collected now and then (a sawtooth), caches that grow in steps, connections that come and
go. None of them uses more processor time than before the fault, which would count too. The second line shows how many
leaks are found among the same noise.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator

from pytest_serve_chaos.analysis.growth import (
    LEAST_GROWTH,
    LEAST_RISE,
    grows_without_end,
    stays_above,
    usual_level,
)
from pytest_serve_chaos.analysis.statistics import availability_interval

MIB = 2.0**20
SECONDS = 60
"""The scale of warm-ups, sawtooths and steps: how processes are does not depend on how long they are watched."""
PROCESSES = 9

Series = list[tuple[float, float]]


def memory(rng: random.Random) -> Callable[[float], float]:
    """Warm-up, sawtooth and steps on top of each other, each of them more than the least growth that counts.

    A third of the processes is new, ten seconds old at least when they are watched: recovery and its check take longer.
    """
    age, tau = rng.uniform(10, 60), rng.uniform(1, SECONDS / 2)
    warm = rng.choice([0.0, 0.0, rng.uniform(5, 100)]) * math.exp(-age / tau)
    saw, every, phase = rng.choice([0, rng.uniform(0, 40)]), rng.uniform(1, 0.8 * SECONDS), rng.random()
    steps = [(rng.uniform(0, SECONDS), rng.uniform(0, 15)) for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    noise, drift = rng.uniform(0.01, 0.3), [0.0]

    def value(at: float) -> float:
        drift[0] = 0.9 * drift[0] + rng.gauss(0, noise)
        level = 100 + warm * (1 - math.exp(-at / tau)) + saw * ((at / every + phase) % 1)
        return MIB * (level + sum(size for moment, size in steps if moment <= at) + drift[0])

    return value


def processor(rng: random.Random) -> Callable[[float], float]:
    """A level with noise, and seconds in which far more is used."""
    level, noise, busy = rng.uniform(0, 0.8), rng.uniform(0.005, 0.1), rng.uniform(0, 0.1)
    return lambda _: max(0.0, rng.gauss(level, noise)) + (rng.random() < busy) * rng.random()


def number(rng: random.Random) -> Callable[[float], float]:
    """Some stay; others come and go by chance; a pool is filled in the beginning."""
    level, pool, tau = rng.randint(5, 300), rng.choice([0, 0, rng.randint(1, 60)]), rng.uniform(1, 0.5 * SECONDS)
    coming, now = rng.uniform(0, 10), [0]

    def value(at: float) -> float:
        now[0] = sum(rng.random() < 0.7 for _ in range(now[0])) + round(rng.expovariate(1) * coming / 3)
        return level + now[0] + round(pool * (1 - math.exp(-at / tau)))

    return value


KINDS = {
    "memory": memory,
    "processor": processor,
    "descriptors": number,
    "threads": number,
    "connections": number,
}


def healthy_run(rng: random.Random, watched: int) -> Iterator[tuple[str, Series]]:
    """The series of one run in which nothing leaks, each with the figure that it is of; first what was before.

    Args:
        rng: Where chance comes from.
        watched: Seconds for which processes are watched after recovery; a third of that before the fault.
    """
    for _ in range(PROCESSES):
        for figure, kind in KINDS.items():
            value = kind(rng)
            yield figure, [(float(at), value(max(0.0, float(at)))) for at in range(-(watched // 3), watched)]


def alarms(runs: int, watched: int, seed: int = 1) -> int:
    """How many of so many healthy runs find a leak."""
    rng = random.Random(seed)
    return sum(any(_is_found(figure, s, watched // 3) for figure, s in healthy_run(rng, watched)) for _ in range(runs))


def _is_found(figure: str, series: Series, begin: int) -> bool:
    before, after = series[:begin], series[begin:]
    busier = figure in LEAST_RISE and stays_above(after, usual_level(before), LEAST_RISE[figure])
    return busier or grows_without_end(after, LEAST_GROWTH[figure])


def found(figure: str, a_second: float, processes: int, watched: int, seed: int = 1) -> int:
    """How many of so many processes that leak so much in a second are found, among what makes healthy ones rise."""
    rng = random.Random(seed)
    leaking = (_leaking(figure, a_second, rng, watched) for _ in range(processes))
    return sum(grows_without_end(series, LEAST_GROWTH[figure]) for series in leaking)


def _leaking(figure: str, a_second: float, rng: random.Random, watched: int) -> Series:
    value = KINDS[figure](rng)
    return [(float(at), value(float(at)) + math.floor(at * a_second)) for at in range(watched)]


def main(runs: int, watched: int) -> None:
    """Prints both."""
    wrong = alarms(runs, watched)
    low, high = availability_interval(wrong, runs)
    print(f"{wrong} of {runs} healthy runs find a leak: {100 * (1 - high):.2f} % to {100 * (1 - low):.2f} %")
    for figure, a_second in (("memory", MIB), ("memory", 5 * MIB), ("descriptors", 1.0), ("descriptors", 5.0)):
        shown = f"{a_second / MIB:g} MiB" if figure == "memory" else f"{a_second:g}"
        print(
            f"{found(figure, a_second, 500, watched)} of 500 processes are found that leak {shown} ({figure}) a second"
        )


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(1000, SECONDS)[len(given) :])
