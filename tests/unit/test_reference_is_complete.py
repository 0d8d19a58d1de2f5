"""The reference has all that a user can name: fixtures, markers, commands, options, classes, errors and hooks."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

import pytest_serve_chaos
from pytest_serve_chaos import errors, hookspecs, plugin
from pytest_serve_chaos.backends.registry import BUILT_IN as BACKENDS
from pytest_serve_chaos.cli import make_parser
from pytest_serve_chaos.faults.chaos import Chaos
from pytest_serve_chaos.fixtures import MakeTraffic
from pytest_serve_chaos.load import Load
from pytest_serve_chaos.markers import CLUSTER_KEYWORDS, CLUSTER_MARKER, TRIALS_KEYWORDS, TRIALS_MARKER
from pytest_serve_chaos.report.registry import BUILT_IN as REPORTERS
from tests.unit.test_docs import PAGES, REFERENCE, first_column


def section(page: str, title: str, level: int = 2) -> str:
    """What stands below a heading, up to the next one of that level."""
    below = PAGES[page].split(f"\n{'#' * level} {title}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", below, maxsplit=1, flags=re.M)[0]


# -- contents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["how-to.md", "reference.md"])
def test_the_contents_name_every_section_in_its_order(page: str) -> None:
    before, _, _ = PAGES[page].partition("\n## ")
    sections = [title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", PAGES[page], re.M)]
    assert [link for link in re.findall(r"\]\(#([\w-]+)\)", before) if link in sections] == sections


# -- what tests use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plugin.__all__)
def test_each_fixture_has_a_section(name: str) -> None:
    assert section("reference.md", f"`{name}`", 3).strip()


def test_the_arguments_of_traffic_are_there() -> None:
    taken = list(inspect.signature(MakeTraffic.__call__).parameters)[1:]
    assert sorted(first_column(REFERENCE, "argument")) == sorted(taken)


def test_all_that_sending_can_change_is_there() -> None:
    (line,) = re.findall(r"^\| `sending\(\*\*changes\)` \|.*$", REFERENCE, re.M)
    can_change = {"app", *(field.name for field in fields(Load))} - {"apps", "seed"}
    assert [name for name in sorted(can_change) if f"`{name}`" not in line] == []


def test_the_arguments_of_a_custom_fault_are_there() -> None:
    text = section("reference.md", "Targets and verbs")
    assert [
        name for name in list(inspect.signature(Chaos.custom).parameters)[1:] if not re.search(rf"\b{name}\b", text)
    ] == []


@pytest.mark.parametrize(("marker", "keywords"), [(CLUSTER_MARKER, CLUSTER_KEYWORDS), (TRIALS_MARKER, TRIALS_KEYWORDS)])
def test_the_keywords_of_a_marker_that_is_no_fault_are_there(marker: str, keywords: tuple[str, ...]) -> None:
    _, _, below = section("reference.md", "Markers").partition(f"\n`{marker}` says ")
    assert sorted(first_column(below, "keyword")) == sorted(keywords)


# -- commands ----------------------------------------------------------------------------------------------------------


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """The commands of `serve-chaos` by name."""
    (found,) = (
        action for action in make_parser(BACKENDS, REPORTERS)._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found.choices)


def arguments() -> Iterator[tuple[str, str]]:
    """Each command with each of its options."""
    for name, command in subcommands().items():
        for action in command._actions:
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                yield name, action.option_strings[-1]


@pytest.mark.parametrize("command", list(subcommands()))
def test_each_command_is_there(command: str) -> None:
    assert f"`serve-chaos {command}" in section("reference.md", "Command line")


@pytest.mark.parametrize(("command", "option"), list(arguments()))
def test_each_option_of_a_command_is_there(command: str, option: str) -> None:
    about = section("reference.md", "Comparisons") + section("reference.md", "Command line")
    assert re.search(rf"`(?:[^`]*\s)?{option}\b", about), f"serve-chaos {command}"


# -- names in Python ---------------------------------------------------------------------------------------------------

ERRORS = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]


def test_each_error_is_there_with_its_base() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)`", section("reference.md", "Errors"), re.M))
    bases = {name: getattr(errors, name).__bases__[0].__name__ for name in ERRORS}
    assert rows == bases


@pytest.mark.parametrize("name", pytest_serve_chaos.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert f"`{name}`" in section("reference.md", "Public names") + section("reference.md", "Errors")


@pytest.mark.parametrize("name", [name for name in vars(hookspecs) if name.startswith("pytest_")])
def test_each_hook_is_there(name: str) -> None:
    assert f"`{name}`" in section("reference.md", "Public names")


@pytest.mark.parametrize("name", sorted({*pytest_serve_chaos.__all__} - {*ERRORS} - {"events"}))
def test_the_api_page_has_each_public_name(name: str) -> None:
    assert re.search(rf"auto\w+:: pytest_serve_chaos\.{name}$", PAGES["api.md"], re.M)
