"""Votes are kept once a comparison, are blind or not, and are exported as pairs; what is blind names nobody."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Comparison, Environment, Fidelity, ModelRun, Request, Timings, Variant
from playground.results.blind import blinded
from playground.results.store import Store
from playground.results.votes import COLUMNS, Vote, Votes, cast, to_csv, to_jsonl

NAMES = ("gemma", "qwen", "llama")
AT = "2026-11-26T10:00:00.000Z"


def run(name: str, text: str = "Paris.", **more: object) -> ModelRun:
    made = ModelRun(
        Variant(name, "onnx", "int8"),
        "onnx",
        "int8",
        text,
        "stop",
        Timings(ttft_s=0.123, decode_tok_s=45.6, output_tokens=7, token_stamps=(0.1, 0.2)),
        warnings=(msg("{model} has no system prompt", model=name),),
        fidelity=Fidelity(msg("transformers"), 1, 1.0, 0.0, 0.0, "exact"),
        tokenizer=msg("that of {model}", model=name),
        token_ids=(4711, 4712),
        revision=f"revision-of-{name}",
        artifact_sha256=f"checksum-of-{name}",
        request=Request("Capital of France?", system=f"You are {name}.", temperature=0.77),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def comparison(*runs: ModelRun, id: str = "c1") -> Comparison:
    return Comparison(
        id, AT, Request("Capital of France?"), runs or (run("gemma"), run("qwen")), Environment("cpu", 2, 1e3)
    )


def vote(
    outcome: str = "best", best: int | None = 0, *, on: Comparison | None = None, owner: str = "", **more: str
) -> Vote:
    return cast(
        on or comparison(), outcome, best, at=AT, owner=owner, tag=more.get("tag", ""), note=more.get("note", "")
    )


@pytest.fixture
def votes(tmp_path: Path) -> Iterator[Votes]:
    store = Store(tmp_path / "playground.sqlite3")
    yield Votes(store)
    store.close()


def test_what_is_blind_names_nobody_and_has_no_figure() -> None:
    broken = run("llama", "One two", error=msg("{model} broke", model="llama"), finish_reason="error")
    shown = json.dumps(blinded(comparison(run("gemma"), run("qwen"), broken)).to_json())
    told = (*NAMES, "onnx", "int8", "4711", "0.123", "45.6", "checksum", "revision-of", "0.77", "One two", "exact")
    assert [word for word in told if word in shown] == []
    assert shown.count("Paris.") == 2
    assert blinded(comparison()).runs[1].variant == Variant("B")


def test_a_blind_comparison_waits_for_its_owners_vote(votes: Votes) -> None:
    assert votes.awaited("c1") is None
    votes.begin("c1", "me", AT)
    assert (votes.awaited("c1"), votes.all_awaited(), votes.all_awaited("other")) == (
        "me",
        frozenset({"c1"}),
        frozenset(),
    )
    kept = votes.put(vote("tie", owner="me", tag="  Facts ", note=" hm "))
    assert votes.awaited("c1") is None
    assert votes.get("c1") == kept
    assert (kept.tag, kept.note, kept.blind, kept.best) == ("facts", "hm", True, None)
    assert (votes.kept("me"), votes.kept("other"), votes.kept()) == ([kept], [], [kept])


def test_nobody_votes_on_what_was_not_blind_or_is_not_theirs(votes: Votes) -> None:
    with pytest.raises(UsageError, match="not run for a blind vote"):
        votes.put(vote())
    votes.begin("c1", "me", AT)
    with pytest.raises(UsageError, match="not run for a blind vote"):
        votes.put(vote(owner="other"))
    assert votes.awaited("c1") == "me"


def test_another_choice_replaces_the_first_and_is_no_longer_blind(votes: Votes) -> None:
    votes.begin("c1", "", AT)
    votes.put(vote("best", 0))
    assert votes.put(vote("best", 0, tag="code")).blind
    assert not votes.put(vote("best", 1)).blind
    assert not votes.put(vote("best", 1, note="sure")).blind, "once the names were known they stay known"
    assert [(each.best, each.note) for each in votes.kept()] == [(1, "sure")]


def test_a_comparison_that_begins_again_keeps_its_vote(votes: Votes) -> None:
    votes.begin("c1", "", AT)
    votes.put(vote())
    votes.begin("c1", "", AT)
    assert votes.awaited("c1") is None


def test_no_more_are_kept_than_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "playground.sqlite3")
    few = Votes(store, most=2)
    for number in range(4):
        few.begin(f"c{number}", "", f"2026-11-26T10:00:0{number}.000Z")
    assert few.all_awaited() == {"c2", "c3"}
    store.close()


@pytest.mark.parametrize(
    ("outcome", "best", "words"),
    [("best", None, "names no column"), ("best", 2, "names no column"), ("better", 0, "no outcome")],
)
def test_a_vote_that_means_nothing_is_refused(outcome: str, best: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vote(outcome, best)


def test_a_column_without_an_answer_is_not_voted_on() -> None:
    broken = run("llama", "", error=msg("broke"))
    cast_on = vote("best", 2, on=comparison(run("gemma"), broken, run("qwen")))
    assert cast_on.voted_on == (0, 2)
    assert cast_on.judgement("model").pairs() == [("qwen", "gemma", "win")]
    with pytest.raises(UsageError, match="no two answers"):
        vote(on=comparison(run("gemma"), broken))


def test_long_tags_and_notes_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 40"):
        vote(tag="x" * 41)
    with pytest.raises(UsageError, match=r"At most 1,000"):
        vote(note="x" * 1001)


def test_a_note_is_no_formula_in_a_spreadsheet() -> None:
    text = to_csv([vote("tie", tag="@sum(1)", note='=HYPERLINK("http://x.example")')])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["tag"], row["note"]) == ("'@sum(1)", '\'=HYPERLINK("http://x.example")')


def test_votes_are_exported_as_pairs_in_the_words_of_the_field() -> None:
    three = comparison(run("gemma"), run("qwen"), run("llama"), id="c3")
    all_votes = [
        vote("best", 1, tag="code"),
        vote("tie"),
        vote("bad", note='a "quote",\nand a line'),
        vote("best", 2, on=three),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(all_votes), newline="")))
    g, q, m = (f"{name}@onnx-int8" for name in NAMES)
    assert [(row["model_a"], row["model_b"], row["winner"]) for row in rows] == [
        (g, q, "model_b"),
        (g, q, "tie"),
        (g, q, "tie (bothbad)"),
        (g, m, "model_b"),
        (q, m, "model_b"),
    ]
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["tag"], rows[0]["blind"], rows[2]["note"], rows[3]["columns"]) == (
        "code",
        "true",
        'a "quote",\nand a line',
        "3",
    )
    lines = [json.loads(line) for line in to_jsonl(all_votes).splitlines()]
    assert [line["winner"] for line in lines] == [row["winner"] for row in rows]


def test_a_vote_comes_back_from_json_as_it_was() -> None:
    one = vote("best", 1, tag="日本語", note="\ud800 odd")
    assert Vote.from_json(json.loads(json.dumps(one.to_json()))) == one
