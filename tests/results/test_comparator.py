"""LLM Comparator's JSON and public votes: what was judged is a score, what was not is none."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from playground.errors import UsageError
from playground.messages import msg
from playground.records import (
    Cell,
    CheckResult,
    Column,
    Environment,
    Message,
    ModelRun,
    Request,
    SuiteRow,
    SuiteRun,
    Timings,
    Variant,
)
from playground.results.comparator import arena_jsonl, comparison_json, write_suite
from playground.results.export_files import file_name, text_of
from playground.results.figures import Measurement
from playground.results.votes import Vote
from tests.support.votes import BASE, FAST, SLOW, answered

ONE = answered("one", FAST, SLOW, BASE, texts=("a", "b", "c"))
FIELDS = {"input_text", "tags", "output_text_a", "output_text_b", "score", "individual_rater_scores", "custom_fields"}
KINDS = {
    *("number", "string", "category", "text", "url", "image_path", "image_byte", "per_model_boolean"),
    *("per_model_number", "per_model_category", "per_model_text"),
}
"""Of the tool's own types (client/lib/types.ts), those for values of an example."""


def vote(outcome: str, best: int | None, *, blind: bool = True) -> Vote:
    at = "2026-11-26T10:00:00.000Z"
    return Vote("one", (FAST, SLOW, BASE), (0, 1, 2), outcome, best, at, tag="maths", blind=blind)  # type: ignore[arg-type]


def valid(text: str) -> Any:
    """The document, if it is one that the tool takes."""
    document = json.loads(text)
    assert set(document) == {"metadata", "models", "examples"}
    assert isinstance(document["metadata"]["source_path"], str)
    assert len(document["models"]) == 2 and all(model["name"] for model in document["models"])
    schema = {each["name"]: each["type"] for each in document["metadata"]["custom_fields_schema"]}
    assert set(schema.values()) <= KINDS
    for example in document["examples"]:
        assert set(example) == FIELDS
        assert example["score"] is None or -1.5 <= example["score"] <= 1.5
        assert set(example["custom_fields"]) <= set(schema)
        for name, value in example["custom_fields"].items():
            assert isinstance(value, list) and len(value) == 2 if schema[name].startswith("per_model") else True
    return document


def test_a_comparison_nobody_voted_on_has_no_score() -> None:
    (example,) = valid(comparison_json(ONE))["examples"]
    assert (example["input_text"], example["output_text_a"], example["output_text_b"]) == ("Hi?", "a", "b")
    assert example["score"] is None


@pytest.mark.parametrize(
    ("outcome", "best", "score"),
    [("best", 0, 1.5), ("best", 1, -1.5), ("best", 2, None), ("tie", None, 0), ("bad", None, 0)],
)
def test_a_vote_is_the_score(outcome: str, best: int | None, score: float | None) -> None:
    (example,) = valid(comparison_json(ONE, vote=vote(outcome, best)))["examples"]
    assert example["score"] == score
    assert example["tags"] == ["maths"]


def test_the_other_way_round_the_score_turns_too() -> None:
    (example,) = valid(comparison_json(ONE, 1, 0, vote("best", 0)))["examples"]
    assert (example["output_text_a"], example["score"]) == ("b", -1.5)


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (-1, 0)])
def test_what_is_no_pair_is_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="no pair"):
        comparison_json(ONE, *pair)
    with pytest.raises(UsageError, match="one column"):
        comparison_json(replace(ONE, runs=ONE.runs[:1]))


def test_it_is_one_of_the_files_of_a_comparison_and_of_no_measurement() -> None:
    assert valid(text_of(ONE, "comparator", vote=vote("best", 0)))["examples"][0]["score"] == 1.5
    assert file_name(ONE, "comparator") == "comparison-one.comparator.json"
    measurement = Measurement("m", "2026", Request("x"), 1, (), Environment("cpu", 2, 1e3))
    with pytest.raises(UsageError, match="no answers"):
        text_of(measurement, "comparator")


def suite() -> tuple[SuiteRun, list[Cell]]:
    rows = (
        SuiteRow("r1", "one", prompt="1+1?", metadata={"kind": "maths"}),
        SuiteRow("r2", "two", messages=(Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Bye"))),
        SuiteRow("r3", "three", prompt="unfinished"),
    )
    run = SuiteRun("s1", "2026", "sums", rows, (Column(FAST), Column(BASE), Column(SLOW)), Environment("cpu", 2, 1e3))

    def cell(row: int, column: int, score: float | None, text: str) -> Cell:
        checks = (CheckResult("equals", score == 1, score, msg("why"), value="2"),) if score is not None else ()
        variant = run.columns[column].variant
        answer = ModelRun(variant, "fake", "none", text, "stop", timings=Timings(output_tokens=len(text)))
        return Cell(row, column, 0, answer, checks, None if score is None else score == 1, score)

    cells = [
        cell(0, 0, 1.0, "2"),
        cell(0, 1, 0.0, "x"),
        cell(0, 2, 0.5, "two"),
        cell(1, 0, None, "?"),
        cell(1, 2, None, "!"),
    ]
    return run, [*cells, cell(2, 0, 1.0, "alone")]


def written(run: SuiteRun, cells: list[Cell], pair: tuple[int, int] = (0, 2)) -> Any:
    file = io.StringIO()
    write_suite(run, ["fast", "base", "slow"], pair, iter(cells), file)
    return valid(file.getvalue())


def test_a_suite_is_an_example_a_prompt_that_both_answered_with_the_checks_as_raters() -> None:
    document = written(*suite())
    assert [model["name"] for model in document["models"]] == ["fast", "slow"]
    first, second = document["examples"]
    assert (first["input_text"], first["tags"], first["score"]) == ("1+1?", ["maths"], 0.75)
    assert first["custom_fields"]["kind"] == "maths"
    assert first["custom_fields"]["output_tokens"] == [1, 3]
    (rater,) = first["individual_rater_scores"]
    assert rater["score"] == 0.75 and rater["rationale"].startswith("equals 2\nA: why")
    assert second["input_text"] == "user: Hi\nassistant: Ho\nuser: Bye"
    assert second["score"] is None


def test_an_empty_suite_is_a_document_too() -> None:
    run, _ = suite()
    assert written(run, [])["examples"] == []


def test_votes_are_lines_with_both_conversations() -> None:
    lines = [
        json.loads(line) for line in arena_jsonl([vote("best", 0), vote("tie", None, blind=False)], {"one": ONE}.get)
    ]
    assert [(line["model_a"], line["model_b"], line["winner"]) for line in lines[:2]] == [
        (str(FAST), str(SLOW), "model_a"),
        (str(FAST), str(BASE), "model_a"),
    ]
    assert [line["winner"] for line in lines[2:]] == ["tie"] * 3
    assert lines[0]["conversation_b"] == [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "b"}]
    assert (lines[0]["turn"], lines[0]["anony"], lines[-1]["anony"]) == (1, True, False)
    assert lines[0]["tstamp"] == 1795687200.0


def test_a_vote_whose_comparison_was_deleted_is_left_out() -> None:
    assert not list(arena_jsonl([vote("best", 0)], lambda _: None))
    other = answered("one", Variant("x"), Variant("y"))
    assert not list(arena_jsonl([vote("best", 0)], lambda _: other)), "not the comparison that was voted on"
