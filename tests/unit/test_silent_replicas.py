"""Replicas that live on and answer nobody for a while are named in the text of an issue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_serve_chaos.report.issue import issue_markdown, subject_of
from pytest_serve_chaos.results import result_of
from tests.unit.histories import FAULT, Story


def answered_by(story: Story, silent: Mapping[str, float]) -> str:
    """The text of an issue where four replicas answer in turn, but those that are silent for so long from the fault."""
    names = ["app#D#a", "app#D#b", "app#D#c", "app#D#d"]
    turn = 0
    for number, one in enumerate(story.requests):
        if one.error is None:
            at = one.scheduled - FAULT
            there = [name for name in names if not 0 <= at < silent.get(name, 0.0)]
            turn += 1
            story.requests[number] = replace(one, replica=there[turn % len(there)]) if there else one
    history = story.history()
    return issue_markdown(subject_of(history, result_of(history, story.experiment)))


def test_a_replica_that_was_silent_while_others_answered_is_named() -> None:
    text = answered_by(Story().lose(0.4, 0.6), {"app#D#a": 10.6, "app#D#b": 9.0})
    (line,) = [line for line in text.splitlines() if "lived on" in line]
    assert line.startswith("2 of 4 replicas that lived on were silent while others answered: `app#D#a` for 10.")
    assert line.endswith("s from 0.0 s, `app#D#b` for 9.0 s from 0.0 s.")


def test_an_outage_of_all_of_them_names_none() -> None:
    silent = dict.fromkeys(("app#D#a", "app#D#b", "app#D#c", "app#D#d"), 10.0)
    assert "lived on" not in answered_by(Story().lose(0.0, 10.0), silent)


def test_a_silence_of_some_seconds_names_none() -> None:
    assert "lived on" not in answered_by(Story().lose(0.4, 0.6), {"app#D#a": 4.5})
