"""lm-eval's results become plain values, whatever a task leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np

from playground.evaluation.outcomes import score_of


def sample(place: int, filter: str = "none", **metrics: Any) -> dict[str, Any]:
    return {"doc_id": place, "doc_hash": f"{place:064}", "filter": filter, **metrics}


RESULTS: dict[str, Any] = {
    "results": {
        "mine": {
            "name": "mine",
            "alias": "mine",
            "sample_len": 3,
            "acc,none": np.float64(2 / 3),
            "acc_stderr,none": 0.33,
            "exact_match,strict": 0.0,
            "exact_match_stderr,strict": "N/A",
            "perplexity,none": 5.5,
            "perplexity_stderr,none": 0.5,
            "odd,none": [1, 2],
            "lost,none": float("nan"),
        },
        "all": {"alias": "all", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_count": {"acc,none": 5}},
    },
    "group_subtasks": {"all": ["mine", "more"], "more": ["deep"]},
    "versions": {"mine": 2.0},
    "n-shot": {"mine": 5},
    "n-samples": {"mine": {"original": 10, "effective": 3}, "deep": {"original": 7, "effective": 2}},
    "higher_is_better": {"mine": {"acc": True, "perplexity": False}},
    "samples": {
        "mine": [
            sample(2, acc=1.0, perplexity=-1.5),
            sample(0, acc=np.float64(1), perplexity=-2.5),
            sample(1, acc=0, perplexity=-0.5),
            sample(0, "strict", exact_match=0),
            sample(1, "strict", exact_match=0),
            sample(2, "strict", exact_match=0),
        ]
    },
}


class Task:
    OUTPUT_TYPE = "multiple_choice"


def test_figures_errors_and_outcomes_are_read_in_the_questions_order() -> None:
    found = score_of("mine", RESULTS, Task())
    assert {name: found[name] for name in ("version", "shots", "questions", "questions_in_task", "kind")} == {
        "version": "2.0",
        "shots": 5,
        "questions": 3,
        "questions_in_task": 10,
        "kind": "multiple_choice",
    }
    acc, match, perplexity = found["metrics"]
    assert (acc["name"], acc["filter"], acc["outcomes"], acc["higher_is_better"]) == ("acc", "none", "101", True)
    assert (match["filter"], match["stderr"], match["outcomes"], match["higher_is_better"]) == (
        "strict",
        None,
        "000",
        None,
    )
    assert (perplexity["stderr"], perplexity["outcomes"], perplexity["higher_is_better"]) == (0.5, "", False)


def test_the_questions_have_a_digest_that_their_order_of_arrival_does_not_change() -> None:
    turned = {**RESULTS, "samples": {"mine": RESULTS["samples"]["mine"][::-1]}}
    other = {**RESULTS, "samples": {"mine": [sample(place, acc=1) for place in (0, 1, 3)]}}
    digest = score_of("mine", RESULTS)["data_sha256"]
    assert len(digest) == 64
    assert score_of("mine", turned)["data_sha256"] == digest
    assert score_of("mine", other)["data_sha256"] != digest


def test_a_group_has_the_questions_of_its_tasks_and_no_outcomes() -> None:
    found = score_of("all", RESULTS)
    assert (found["questions"], found["questions_in_task"], found["kind"]) == (5, 17, "group")
    assert [(each["name"], each["value"], each["outcomes"]) for each in found["metrics"]] == [("acc", 0.5, "")]
    assert found["data_sha256"] == ""
