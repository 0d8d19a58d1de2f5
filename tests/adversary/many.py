"""On how many worlds a property is tried: the same few in each run, or as many others as somebody asks for."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable

from hypothesis import given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.adversary.worlds import World

ASKED = "SERVE_CHAOS_ADVERSARY_EXAMPLES"
"""The environment variable that says on how many worlds each property is tried. They are others in each run."""

SEED = "SERVE_CHAOS_ADVERSARY_SEED"
"""The one that says which ones these are: what an earlier long run has printed."""

_FEW = 150
_TELL_EVERY = 10.0


class Teller:
    """Says how far a long run is; `conftest` gives it a way past pytest's capture."""

    def __init__(self) -> None:
        self.say: Callable[[str], None] = print


TELLER = Teller()


def on_many(worlds: SearchStrategy[World]) -> Callable[[Callable[[World], None]], Callable[[], None]]:
    """Makes a property of a world a test of many worlds."""
    asked = os.environ.get(ASKED)

    def decorate(check: Callable[[World], None]) -> Callable[[], None]:
        if not asked:
            return settings(max_examples=_FEW, print_blob=True)(given(worlds)(check))
        number = int(os.environ.get(SEED) or random.randrange(10**9))
        test = given(worlds)(_telling(check, int(asked), number))
        return seed(number)(settings(max_examples=int(asked), derandomize=False, database=None, print_blob=True)(test))

    return decorate


def _telling(check: Callable[[World], None], of: int, number: int) -> Callable[[World], None]:
    tried, last = 0, time.monotonic()

    @functools.wraps(check)
    def told(world: World) -> None:
        nonlocal tried, last
        if not tried:
            TELLER.say(f"{check.__name__}: {SEED}={number}")
        tried += 1
        if time.monotonic() - last > _TELL_EVERY:
            last = time.monotonic()
            TELLER.say(f"{check.__name__}: {tried} of {of} worlds")
        check(world)

    return told
