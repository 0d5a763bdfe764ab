"""Replay: what is said of a stored comparison and its rerun."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from playground.cli import main
from playground.errors import UsageError
from playground.experiments.replay import Replay, Replayer
from playground.records import Column, Comparison, ModelRun, Request
from playground.service import Playground
from playground.ui.html import diff, panel

ASKED = Request("Where is it?")


def answered(playground: Playground, *models: str, request: Request = ASKED) -> Comparison:
    return playground.comparer.start(request, models).result()


def with_run(comparison: Comparison, **changes: Any) -> Comparison:
    return replace(comparison, runs=(replace(comparison.runs[0], **changes), *comparison.runs[1:]))


def report(playground: Playground, stored: Comparison) -> Replay:
    return playground.replayer.start(stored).result()


@pytest.mark.waits
def test_the_same_answers_are_identical_and_nothing_has_changed(playground: Playground) -> None:
    stored = answered(playground, "fast", "base")
    playground.store.save(stored)
    kept = playground.store.get(stored.id)
    assert kept
    assert kept.runs[0].token_ids == stored.runs[0].token_ids
    found = report(playground, kept)
    assert [(model.verdict, model.compared) for model in found.models] == [("identical", "tokens")] * 2
    assert found.models[0].count == stored.runs[0].timings.output_tokens
    assert found.same
    assert found.changes == ()
    assert Replay.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.waits
def test_a_difference_is_told_with_both_tokens_and_what_changed_since(playground: Playground) -> None:
    stored = answered(playground, "fast")
    ids = list(stored.runs[0].token_ids or ())
    ids[3] = ids[0]  # "Paris is the Paris of …"
    stored = with_run(stored, token_ids=tuple(ids), recipe="fused", artifact_sha256="abc")
    there = replace(
        stored.environment, cpu="Other", versions={**stored.environment.versions, "numpy": "1"}, commit=None
    )
    found = report(playground, replace(stored, environment=there))
    model = found.models[0]
    assert model.verdict == "different"
    assert not found.same
    assert model.difference
    assert (model.difference.position, model.difference.one.text) == (3, "Paris ")
    assert (model.difference.other.text, model.difference.before) == ("capital ", "Paris is the ")
    assert [(change.what, change.was) for change in model.changes] == [
        ("export recipe", "fused"),
        ("artifact (sha256)", "abc"),
    ]
    assert [change.what for change in found.changes] == ["processor", "version of numpy"]
    drawn = diff.replay_html(found, panel.labels(playground.catalog, [run.variant for run in stored.runs]))
    assert "3 tokens alike" in drawn
    assert "Paris is the <mark" in drawn


@pytest.mark.waits
def test_an_old_comparison_without_ids_is_compared_by_text_and_says_so(playground: Playground) -> None:
    stored = with_run(answered(playground, "fast"), token_ids=None)
    found = report(playground, stored).models[0]
    assert (found.verdict, found.compared) == ("identical", "text")
    assert found.count == len(stored.runs[0].text)
    assert "before token ids were" in found.detail
    other = report(playground, with_run(stored, text="Paris was")).models[0]
    assert other.difference
    assert (other.difference.position, other.difference.unit) == (6, "character")


@pytest.mark.waits
def test_a_stopped_answer_is_compared_as_far_as_it_went(playground: Playground) -> None:
    whole = answered(playground, "fast")
    run = whole.runs[0]
    assert run.token_ids
    cut = with_run(whole, token_ids=run.token_ids[:3], text="Paris is the ", finish_reason="stopped")
    found = report(playground, cut).models[0]
    assert (found.verdict, found.count) == ("identical", 3)
    assert "stopped" in found.detail


@pytest.mark.waits
def test_models_that_failed_or_are_gone_are_not_called_the_same(playground: Playground) -> None:
    stored = answered(playground, "fast", "fails")
    gone = replace(stored.runs[0], variant=replace(stored.runs[0].variant, model="forgotten"))
    found = report(playground, replace(stored, runs=(*stored.runs, gone)))
    assert [model.verdict for model in found.models] == ["identical", "unknown", "unknown"]
    assert "It failed then" in found.models[1].detail
    assert "Unknown model 'forgotten'" in found.models[2].detail


def test_what_was_drawn_without_a_seed_cannot_be_repeated_but_greedy_can(playground: Playground) -> None:
    stored = answered(playground, "fast", request=replace(ASKED, temperature=0.7, seed=None))
    with pytest.raises(UsageError, match=r"can't be run again.*fast@fake-none drew .*random seed that was not kept"):
        playground.replayer.start(stored)
    gone = replace(stored.runs[0], variant=replace(stored.runs[0].variant, model="forgotten"))
    with pytest.raises(UsageError, match="Unknown model 'forgotten'"):  # greedy passes the other check
        playground.replayer.start(replace(stored, request=replace(ASKED, seed=None), runs=(gone,)))


@pytest.mark.waits
def test_each_column_is_repeated_with_its_own_request_by_its_position(playground: Playground) -> None:
    (fast,) = playground.variants(["fast"])
    short, drawn = replace(ASKED, max_new_tokens=2), replace(ASKED, temperature=0.7, seed=None)
    columns = [Column(fast, drawn), Column(fast), Column(fast, short)]
    stored = playground.comparer.start(ASKED, columns).result()
    found = report(playground, stored)
    assert [model.verdict for model in found.models] == ["unknown", "identical", "identical"]
    assert "random seed" in found.models[0].detail
    assert [model.count for model in found.models[1:]] == [run.timings.output_tokens for run in stored.runs[1:]]
    assert found.rerun.runs[1].request == short


@pytest.mark.waits
def test_a_conversation_and_an_answer_gone_on_with_are_repeated(playground: Playground) -> None:
    (slow,) = playground.variants(["slow"])
    first = playground.compare(replace(ASKED, max_new_tokens=3), [slow]).result()
    longer = playground.go_on(first, 0).result()
    stored = playground.reply(longer, "And then?").result()
    found = report(playground, stored)
    assert found.same
    assert found.rerun.asked(0).messages == stored.asked(0).messages
    again = report(playground, longer)
    assert again.same
    assert again.models[0].count == 6


def test_of_a_served_model_only_texts_are_compared(playground: Playground) -> None:
    replayer: Replayer = playground.replayer
    variant = playground.catalog.resolve("fast")[1]
    run = ModelRun(variant, "remote", "none", "The text.", "stop")
    stored = Comparison("c1", "", ASKED, (run,), _environment())
    found = replayer.report(stored, replace(stored, id="c2")).models[0]
    assert (found.verdict, found.compared, found.detail) == (
        "identical",
        "text",
        "Only texts are known of a model served elsewhere.",
    )


def test_an_unknown_id_is_a_wrong_command(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_HOME", str(make_settings().home))
    assert main(["replay", "nothing", "--json"]) == 2
    assert "No comparison has the id 'nothing'" in json.loads(capsys.readouterr().out)["error"]["message"]


def _environment() -> Any:
    from playground.records import Environment

    return Environment("cpu", 2, 1000.0)
