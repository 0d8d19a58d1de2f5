"""What the checks that a test brings do to a verdict, and how they are judged again from a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_serve_chaos.analysis.measure import measure_record
from pytest_serve_chaos.analysis.record import read_record
from pytest_serve_chaos.analysis.result import Result
from pytest_serve_chaos.checks.availability import Availability
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.checks.own import accepted, load_class, spec_of, together
from pytest_serve_chaos.checks.registry import checks_for
from pytest_serve_chaos.checks.verdict import judge, judge_record
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import CheckDone, Demanded
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import NO_DEMANDS, Checked, CheckSpec, Expectations, Verdict
from pytest_serve_chaos.results import result_of, results_of
from tests.unit.histories import Story, head_failure, idle_worker, node_failure, request
from tests.unit.test_verdict import only


@dataclass(frozen=True)
class Says:
    """A check that says what it is told to say."""

    lacks: tuple[str, ...] = ()
    finds: tuple[Objection, ...] = ()
    on_requests: bool = True
    name: ClassVar[str] = "says"

    def needs(self, seen: Observation) -> Iterable[str]:
        return self.lacks

    def judge(self, seen: Observation) -> Iterable[Objection]:
        return self.finds


@dataclass(frozen=True)
class MostLost:
    """A check that can be made again from a history."""

    allowed: int
    name: str = "most_lost"
    seconds: Sequence[float] = ()
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterable[str]:
        return seen.missing_requests()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        lost = sum(one.lost for one in seen.requests)
        if lost > self.allowed:
            yield Missed(f"{lost} lost of {len(seen.requests)}")


def verdict(story: Story, *checks: Check) -> Verdict:
    record = read_record(story.history(), story.experiment)
    return judge_record(record, measure_record(record), checks).verdict


# -- which comes first


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (Says(), Verdict("passed")),
        (Says(finds=(Missed("too slow"),)), Verdict("failed", ("too slow",))),
        (Says(finds=(Unknown("who knows"),)), Verdict("inconclusive", ("who knows",))),
        (Says(lacks=("no log",)), Verdict("inconclusive", ("no log",))),
        (Says(lacks=("no log",), finds=(Missed("too slow"),)), Verdict("inconclusive", ("no log",))),
        (Says(finds=(Unknown("who knows"), Missed("too slow"))), Verdict("failed", ("too slow", "who knows"))),
    ],
)
def test_a_check_of_a_test_counts_as_the_others(check: Says, found: Verdict) -> None:
    assert verdict(head_failure(), check) == found


def test_its_reasons_come_after_those_of_the_demands() -> None:
    story = node_failure(only(longest_outage=5.0))
    assert verdict(story, Says(finds=(Missed("too slow"),))).reasons == (*verdict(story).reasons, "too slow")
    assert verdict(idle_worker(), Says(lacks=("no log",))).reasons == (*verdict(idle_worker()).reasons, "no log")


def test_without_evidence_of_the_fault_nobody_is_asked() -> None:
    found = verdict(head_failure().without("landed"), Says(finds=(Missed("too slow"),)))
    assert found.outcome == "inconclusive"
    assert "too slow" not in "".join(found.reasons)


def test_only_a_demand_on_the_requests_makes_it_more_than_measured() -> None:
    assert verdict(Story(expectations=NO_DEMANDS), Says(on_requests=False)) == Verdict("measured")
    assert verdict(Story(expectations=NO_DEMANDS), Says(on_requests=True)) == Verdict("passed")


def test_a_check_on_requests_needs_a_generator_that_is_punctual_to_a_tenth_of_a_second() -> None:
    late = Story(lag=0.15, expectations=only(longest_outage=5.0))
    assert verdict(late).outcome == verdict(late, Says(on_requests=False)).outcome == "passed"
    assert verdict(late, Says()).reasons[0].startswith("the load generator was late")
    late.expectations = only(longest_outage=5.0, send_lag_limit=0.2)
    assert verdict(Story(lag=0.15, expectations=late.expectations), Says()).outcome == "passed"


def test_what_it_misses_only_because_of_unsent_requests_fails_nobody() -> None:
    story = Story(expectations=only(longest_outage=20.0))
    for i in range(600, 603):
        story.requests[i] = replace(request(story.requests[i].scheduled, "NotSent"), sent=None)
    found = verdict(story, MostLost(2))
    assert found.outcome == "inconclusive"
    assert found.reasons[0].endswith("did not send 3 of 3501 requests: 3 lost of 1001")


def test_reasons_that_several_checks_give_stand_once() -> None:
    story = Story(traffic_until=5.0)
    (reason,) = verdict(story).reasons
    assert verdict(story, MostLost(0)).reasons == (reason,)


# -- exceptions


class Raises(Says):
    def judge(self, seen: Observation) -> Iterator[Objection]:
        yield Missed("too slow")
        raise ZeroDivisionError("in the\nmiddle")


class RaisesInNeeds(Says):
    def needs(self, seen: Observation) -> Iterable[str]:
        raise KeyError("no such log")


class GivesText(Says):
    def judge(self, seen: Observation) -> Iterable[Objection]:
        return ["too slow"]  # type: ignore[list-item]


class GivesNothing(Says):
    def needs(self, seen: Observation) -> Iterable[str]:
        return None  # type: ignore[return-value]


class GivesNumbers(Says):
    def needs(self, seen: Observation) -> Iterable[str]:
        return [17]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("check", "error"),
    [
        (Raises(), "ZeroDivisionError: in the"),
        (RaisesInNeeds(), "KeyError: 'no such log'"),
        (GivesText(), "TypeError: `judge` gave 'too slow', which is neither Missed nor Unknown"),
        (GivesNothing(), "TypeError: 'NoneType' object is not iterable"),
        (GivesNumbers(), "TypeError: `needs` gave 17, which is not a sentence"),
    ],
)
def test_an_exception_in_a_check_is_inconclusive_and_has_its_traceback(check: Says, error: str) -> None:
    found = verdict(head_failure(), check)
    assert found.outcome == "inconclusive"
    assert found.reasons == (f"the check says raised {error}, so it is unknown whether its demands are met",)
    (traceback,) = found.tracebacks
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert error in traceback


def test_an_exception_in_a_check_of_this_package_is_inconclusive_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge_badly(self: Availability, seen: Observation) -> Iterable[Objection]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Availability, "judge", judge_badly)
    found = verdict(head_failure())
    assert found.outcome == "inconclusive"
    assert found.reasons[0].startswith("the check availability raised ZeroDivisionError: oops")
    assert len(found.tracebacks) == 1


def test_a_demand_that_another_check_missed_still_fails() -> None:
    found = verdict(node_failure(only(longest_outage=5.0)), RaisesInNeeds())
    assert found.outcome == "failed"
    assert [reason.split()[:3] for reason in found.reasons] == [["the", "longest", "outage"], ["the", "check", "says"]]
    assert len(found.tracebacks) == 1


# -- which are checks


class Nameless:
    def needs(self, seen: Observation) -> Iterable[str]:
        return ()


@pytest.mark.parametrize("wrong", [Says, Nameless(), "p999", None])
def test_what_is_no_check_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match="is not a check"):
        accepted([wrong])


def test_one_check_without_a_list_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"checks: Says\(.*\) is not a list"):
        accepted(Says())


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="checks: two are called 'says'"):
        accepted([Says(), Says(lacks=("another",))])


def test_a_check_of_a_test_takes_the_place_of_one_of_all_tests() -> None:
    other, own = MostLost(3, name="other"), MostLost(5)
    assert together([MostLost(3), other], [own]) == (other, own)


def test_each_demand_has_a_check_of_this_package() -> None:
    everything = Expectations(lost_beyond_in_flight=0, p99_ratio=3.0, replaced=("head",), kept=("worker",))
    checks = checks_for(everything)
    assert accepted(checks) == checks
    names = [check.name for check in checks]
    for demand in ("availability", "longest_outage", "lost_beyond_in_flight", "p99_ratio", "traffic_back"):
        assert demand in names
    assert {check.name for check in checks if check.on_requests} == set(names[names.index("availability") :][:5])
    assert not any(check.on_requests for check in checks_for(NO_DEMANDS))


# -- judged again


def written(story: Story, *checks: Check, path: Path | None = None, judged: bool = True) -> History:
    """A history as an experiment with these checks leaves it."""
    specs = tuple(spec_of(check) for check in checks)
    story.events = [replace(event, checks=specs) if isinstance(event, Demanded) else event for event in story.events]
    if judged:
        record = read_record(story.history(), story.experiment)
        for found in judge_record(record, measure_record(record), checks).own:
            story.add(60.0, CheckDone(found.check, found=found))
        story.event(60.0, "verdict", "whatever")
    history = story.history(path)
    return history if path is None else History.load(path)


def lossy() -> Story:
    return head_failure(only(longest_outage=5.0))


def test_a_check_is_made_again_from_its_history(tmp_path: Path) -> None:
    history = written(lossy(), MostLost(5, seconds=(1.0, 2.0)), path=tmp_path / "history.jsonl")
    (result,) = results_of(history, known=[MostLost])
    assert (result.outcome, result.remarks) == ("passed", ())
    assert result.checks == (Checked("most_lost", on_requests=True),)


def test_it_is_asked_again_and_may_find_something_else() -> None:
    class Stricter(MostLost):
        def judge(self, seen: Observation) -> Iterator[Objection]:
            yield Missed(f"more than {self.allowed - 5}")

    Stricter.__qualname__ = "MostLost"
    (result,) = results_of(written(lossy(), MostLost(5)), known=[Stricter])
    assert (result.outcome, result.reasons) == ("failed", ("more than 0",))


NOT_AGAIN = "the check most_lost (tests.unit.test_checks:MostLost) is not judged again{}: "


@pytest.mark.parametrize(("allowed", "outcome", "reasons"), [(2, "failed", ("3 lost of 1003",)), (3, "passed", ())])
def test_without_its_code_counts_what_it_found_then(
    allowed: int, outcome: str, reasons: tuple[str, ...], tmp_path: Path
) -> None:
    (result,) = results_of(written(lossy(), MostLost(allowed), path=tmp_path / "history.jsonl"))
    assert (result.outcome, result.reasons) == (outcome, reasons)
    assert result.remarks == (NOT_AGAIN.format("") + "what it found when the experiment ran counts",)


def test_what_it_found_then_counts_also_if_requests_were_not_sent() -> None:
    story = Story(expectations=only(longest_outage=20.0))
    for i in range(600, 603):
        story.requests[i] = replace(request(story.requests[i].scheduled, "NotSent"), sent=None)
    (result,) = results_of(written(story, MostLost(2)))
    assert result.outcome == "inconclusive"
    assert result.reasons[0].endswith("did not send 3 of 3501 requests: 3 lost of 1001")


def test_a_check_that_was_never_asked_is_unknown() -> None:
    found = judge_of(written(lossy(), MostLost(5), judged=False))
    assert found.outcome == "inconclusive"
    assert found.reasons == ("the check most_lost (tests.unit.test_checks:MostLost) was not judged",)


def judge_of(history: History, *checks: Check) -> Result:
    return result_of(history, "head_failure", checks=checks)


def test_a_history_can_be_judged_by_a_check_that_it_does_not_have() -> None:
    assert judge(lossy().history(), "head_failure").outcome == "passed"
    assert judge_of(lossy().history(), MostLost(2)).reasons == ("3 lost of 1003",)
    assert judge_of(written(lossy(), MostLost(5)), MostLost(2)).reasons == ("3 lost of 1003",)


@dataclass(frozen=True)
class Picky(MostLost):
    """One that a newer version of its author may refuse to make."""


def test_a_check_that_cannot_be_made_again_says_why() -> None:
    history = written(lossy(), Picky(3))
    assert results_of(history, known=[Picky])[0].remarks == ()

    @dataclass(frozen=True)
    class Newer(Picky):
        def __post_init__(self) -> None:
            raise ValueError("less than 3")

    Newer.__qualname__ = "Picky"
    (remark,) = results_of(history, known=[Newer])[0].remarks
    assert "is not judged again, because it cannot be created: ValueError: less than 3: what it found" in remark
    (remark,) = results_of(written(lossy(), Says(finds=(Unknown("hm"),))), known=[Says])[0].remarks
    assert "is not judged again, because its history does not say how to create it: what it found" in remark


def test_only_a_dataclass_of_plain_values_has_arguments() -> None:
    code = "tests.unit.test_checks:"
    assert spec_of(MostLost(3, seconds=(1.0,))) == CheckSpec(
        "most_lost", code + "MostLost", {"allowed": 3, "name": "most_lost", "seconds": [1.0]}
    )
    assert spec_of(Says(finds=(Missed("x"),))) == CheckSpec("says", code + "Says", None)


def test_a_class_is_loaded_by_its_name() -> None:
    assert load_class("tests.unit.test_checks:MostLost") is MostLost


@pytest.mark.parametrize(
    "path", ["MostLost", "tests.unit.no_such:MostLost", f"{__name__}:NoSuch", f"{__name__}:judge_of"]
)
def test_what_is_no_class_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=r"does not name a check|cannot be loaded|is not a class"):
        load_class(path)


def test_a_class_of_something_else_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(SettingsError, match="json:JSONDecoder is not a class of checks") as refused:
        load_class("json:JSONDecoder")
    assert refused.value.checked == ("its members: it has no needs and no judge",)
