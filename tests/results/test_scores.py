"""Scores are kept with all they depend on, have honest intervals, and are paired only in one setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.errors import StorageError
from playground.records import Environment, Variant
from playground.results.scores import Evaluation, Metric, Scores, pairs
from playground.results.statistics import wilson
from playground.results.store import Store

ENVIRONMENT = Environment("cpu", 2, 1000.0, {"torch": "2.13.0"}, "c" * 40)


def score(id: str, precision: str, outcomes: str, **changes: object) -> Evaluation:
    given: dict[str, object] = {
        "id": id,
        "created_at": f"2026-11-27T01:00:0{id}.000Z",
        "variant": Variant("smollm", "onnx", precision),
        "task": "arc_easy",
        "version": "1.0",
        "metrics": (Metric("acc", "none", outcomes.count("1") / len(outcomes), 0.03, True, outcomes),),
        "questions": len(outcomes),
        "questions_in_task": 2376,
        "harness": "lm-eval 0.4.13",
        "environment": ENVIRONMENT,
        "limit": len(outcomes),
        "data_sha256": "d" * 64,
        "artifact_sha256": "a" * 64,
        "engine": "kernels avx2",
    }
    return Evaluation(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def scores(tmp_path: Path) -> Iterator[Scores]:
    store = Store(tmp_path / "db.sqlite3")
    yield Scores(store)
    store.close()


def test_what_is_kept_comes_back_whole_the_newest_first(scores: Scores) -> None:
    made = [score("1", "int8", "1101"), score("2", "int4", "1000"), score("3", "fp32", "1111")]
    scores.save(made[:2])
    scores.save(made[2:])
    assert scores.newest() == made[::-1]
    assert scores.newest(1) == [made[2]]
    assert scores.delete(["1", "none such"]) == 1
    assert scores.newest() == [made[2], made[1]]


def test_all_of_a_run_are_kept_or_none(scores: Scores) -> None:
    bad = score("2", "int4", "10", metrics=(Metric("acc", "none", float("nan")),))
    with pytest.raises(StorageError, match=r"can.t be written"):
        scores.save([score("1", "int8", "11"), bad])
    assert scores.newest() == []


def test_right_or_wrong_has_wilsons_interval_and_other_figures_the_harness_error() -> None:
    right = Metric("acc", "none", 0.75, 0.01, True, "1110")
    assert right.interval == wilson(3, 4)
    assert right.is_share
    other = Metric("word_perplexity", "none", 20.0, 1.0, False)
    assert other.interval is not None
    assert (other.interval.low, other.interval.high) == pytest.approx((18.04, 21.96), abs=0.001)
    assert Metric("bleu", "none", 20.0).interval is None


def test_the_metric_that_stands_for_a_task_is_the_first_known_one() -> None:
    metrics = (Metric("perplexity", "none", 5.0), Metric("acc_norm", "none", 0.6), Metric("acc", "none", 0.5))
    found = score("1", "int8", "10", metrics=metrics).main
    assert found is not None
    assert found.name == "acc"
    odd = score("1", "int8", "10", metrics=(Metric("mcc", "none", 0.1),)).main
    assert odd is not None
    assert odd.name == "mcc"
    assert score("1", "int8", "10", metrics=()).main is None


def test_two_models_are_paired_question_by_question() -> None:
    one, other = score("1", "fp32", "1" * 12), score("2", "int4", "1" * 4 + "0" * 8)
    ((first, second, seen),) = pairs([one, other])
    assert (first, second) == (one, other)
    assert (seen.better, seen.worse, seen.seen) == (8, 0, "better")
    assert seen.p == pytest.approx(2 / 2**8)


def test_the_p_values_of_several_pairs_are_raised() -> None:
    made = [score("1", "fp32", "1" * 12), score("2", "int4", "1" * 4 + "0" * 8), score("3", "int8", "1" * 12)]
    found = {(a.id, b.id): seen for a, b, seen in pairs(made)}
    assert set(found) == {("1", "2"), ("1", "3"), ("2", "3")}
    assert found["1", "2"].p == pytest.approx(3 * 2 / 2**8)
    assert found["1", "3"].seen == "none"


@pytest.mark.parametrize(
    "changes",
    [
        {"data_sha256": "e" * 64},
        {"data_sha256": ""},
        {"shots": 5},
        {"chat": True},
        {"version": "2.0"},
        {"harness": "lm-eval 0.5.0"},
        {"task": "arc_challenge"},
        {"metrics": (Metric("acc", "none", 0.5, 0.1),)},
    ],
)
def test_other_settings_are_not_held_against_each_other(changes: dict[str, object]) -> None:
    assert pairs([score("1", "fp32", "1" * 12), score("2", "int4", "0" * 12, **changes)]) == []
