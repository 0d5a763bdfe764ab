"""Fifty visitors at once through the app's real queue, and what it holds afterwards."""

from __future__ import annotations

import pytest

from benchmarks import load, trust
from benchmarks.load import Asked


def test_fairness_is_one_where_all_have_as_much_and_one_in_n_where_one_has_all() -> None:
    equal = [Asked(number, ended="answered") for number in range(4) for _ in range(3)]
    assert load.fairness(equal, 4) == 1.0
    assert load.fairness([Asked(0, ended="answered")] * 5, 4) == 0.25
    assert load.fairness([Asked(0, ended="failed")], 4) == 0.0


def test_growth_is_told_of_the_last_quarter_beside_the_second() -> None:
    assert load.growth([90.0, 100.0, 103.0, 110.0]) == pytest.approx(0.1)
    assert load.growth([500.0, 100.0, 100.0, 100.0]) == 0.0


def test_a_run_whose_models_failed_is_no_answer() -> None:
    def told(*runs: dict[str, str]) -> dict[str, object]:
        return {"success": True, "output": {"data": [{"runs": list(runs)}]}}

    assert load.ended(told({"text": "Paris."}, {"text": "Rome."})) == ("answered", "")
    assert load.ended(told({"text": "Paris."}, {"text": "", "error": "it died"})) == ("failed", "it died")
    assert load.ended({"success": False, "output": {"error": "no"}}) == ("failed", "no")


def test_waits_are_told_by_the_place_in_the_queue() -> None:
    asked = [Asked(0, place=0, waited_s=1, ended="answered"), Asked(1, place=3, waited_s=5, ended="answered")]
    asked.append(Asked(2, place=3, waited_s=99, ended="failed"))
    assert [(each["from"], each["runs"], each["p50_s"]) for each in load.by_place(asked)] == [(0, 1, 1), (1, 1, 5)]


@pytest.mark.alone
@pytest.mark.waits
def test_fifty_visitors_are_served_evenly_and_nothing_is_lost_or_kept() -> None:
    found = load.measure(visitors=50, seconds=100, runs=60)
    for part in (found["load"], found["soak"]):
        assert part["failed"] == part["lost"] == 0, part["said"]
        assert part["answered"] > 0
    assert found["load"]["left"] > 0
    assert found["soak"]["answered"] == 60, "who is refused waits as long as told and asks again"
    assert found["fairness"] >= load.GOALS["fairness"]
    seen = found["held"]
    middle, last = seen[len(seen) // 2], seen[-1]
    assert last["files"] <= middle["files"] + 4
    assert last["processes"] <= middle["processes"]
    assert last["shared_memory"] <= found["before"]["shared_memory"]
    assert found["growth"] <= load.GOALS["growth"]


def test_tests_of_a_mark_are_counted_as_pytest_reports_them() -> None:
    case = '<testcase classname="tests.a" name="{name}">{inside}</testcase>'
    cases = [("one", ""), ("two", "<failure/>"), ("three", "<error/>"), ("four", "<skipped/>")]
    report = "".join(case.format(name=name, inside=inside) for name, inside in cases)
    found = trust.counted(f"<testsuites><testsuite>{report}</testsuite></testsuites>")
    assert (found.number, found.passed, found.injected) == (4, 1, 3)
    assert found.failed == ("tests.a::two", "tests.a::three")
    assert trust.of(found) == "1 of 3 (1 more can't be tried on this machine)"
