"""Diffs through the real pool and its worker processes, on scripted models; and the command."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from playground.cli import main
from playground.errors import PlaygroundError, RunError, Stopped, UsageError
from playground.experiments.diff import VariantDiff
from playground.experiments.teacher_forcing import FOLDER
from playground.records import Request
from playground.service import Playground
from playground.ui.html import diff as drawing
from playground.ui.html import panel

ONE = "fake:text=the+quick+brown+fox&sure=11"
OTHER = "fake:text=the+quick+red+fox&sure=11"
ASKED = Request("Say it.")


def scratch(playground: Playground) -> list[Path]:
    folder = playground.settings.home / FOLDER
    return list(folder.iterdir()) if folder.is_dir() else []


def diff(playground: Playground, one: str, other: str, **more: Any) -> VariantDiff:
    diffing = playground.differ.start(ASKED, one, other, **more)
    assert diffing.wait(60)
    return diffing.result()


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (ONE, ONE, "named twice"),
        ("smollm2-135m-instruct@onnx-int8", "gemma-3-270m@onnx-int8", "are two models"),
        ("smollm2-135m-instruct@onnx-int8", "nothing", "Unknown model"),
        ("remote:far", "smollm2-135m-instruct@onnx-int8", "served elsewhere"),
    ],
)
def test_what_cannot_be_compared_by_tokens_is_refused_before_any_work(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch, one: str, other: str, words: str
) -> None:
    far = '[{"name": "far", "model": "m", "url": "http://127.0.0.1:9/v1"}]'
    settings = make_settings(PLAYGROUND_CATALOG="", PLAYGROUND_REMOTES=far)
    with Playground(settings) as playground:
        monkeypatch.setattr(playground.preparer, "prepare", lambda *_: pytest.fail("work was begun"))
        with pytest.raises(UsageError, match=words):
            playground.differ.start(ASKED, one, other)


@pytest.mark.waits
def test_variants_part_at_the_token_where_their_texts_do_and_flip_there_alone(playground: Playground) -> None:
    found = diff(playground, ONE, OTHER)
    assert found.common_tokens == 2
    assert found.difference
    assert (found.difference.one.text, found.difference.other.text) == ("brown ", "red ")
    assert found.answer.flips == (2,)
    at = found.answer.positions
    assert [position.kl > 1 for position in at] == [False, False, True, False]
    assert found.answer.mean_kl == pytest.approx(sum(position.kl for position in at) / 4)
    assert found.answer.candidate_perplexity > found.answer.reference_perplexity
    assert found.divergence
    assert (found.divergence.reference[0].text, found.divergence.candidate[0].text) == ("brown ", "red ")
    assert found.reference.run.timings.decode_tok_s or found.reference.run.timings.output_tokens == 4
    assert "Nothing here says that the two are the same model" in found.notes[0]
    assert VariantDiff.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert scratch(playground) == []


@pytest.mark.waits
def test_the_same_text_with_other_certainty_diverges_without_a_flip(playground: Playground) -> None:
    found = diff(playground, ONE, ONE.replace("11", "12"), with_prompt=True)
    assert found.difference is None
    assert found.divergence is None
    assert found.answer.flips == ()
    assert found.answer.mean_kl > 0
    assert found.prompt
    assert found.prompt.total == len(found.prompt.positions) > 1


@pytest.mark.waits
@pytest.mark.parametrize(
    ("other", "kind", "words"),
    [
        (f"{OTHER}&tokenizer=letters", UsageError, "different tokenizers"),
        (f"{OTHER}&fail_score=2", RunError, "red.*scoring fails"),
        (f"{OTHER}&fail_at=2", RunError, "red.*token 2 fails"),
        (f"{OTHER}&die_at=2", RunError, "red.*killed by SIGKILL"),
        ("fake:fail_load=1", RunError, "fail_load.*loading fails"),
    ],
)
def test_a_variant_in_trouble_is_named_and_leaves_no_file(
    playground: Playground, other: str, kind: type[PlaygroundError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        diff(playground, ONE, other)
    assert scratch(playground) == []
    assert diff(playground, ONE, OTHER).answer.flips == (2,)


@pytest.mark.waits
@pytest.mark.alone
def test_stop_ends_scoring_within_two_seconds_and_gives_the_machine_back(playground: Playground) -> None:
    slow = "fake:text=a+b+c+d+e+f&step_s=0.3"
    diffing = playground.differ.start(ASKED, slow, f"{slow}&sure=9")
    while "scoring" not in diffing.snapshot().step:
        assert not diffing.wait(0.05)
    waiting = playground.comparer.start(ASKED, ["fast"])
    time.sleep(0.3)
    assert not waiting.done, "scoring holds the machine"
    stopped_at = time.monotonic()
    diffing.stop()
    assert diffing.wait(30)
    assert time.monotonic() - stopped_at < 2
    with pytest.raises(Stopped):
        diffing.result()
    assert waiting.result().runs[0].finish_reason == "stop"
    assert scratch(playground) == []


@pytest.mark.waits
@pytest.mark.alone
def test_a_diff_that_waits_for_its_turn_can_be_stopped(playground: Playground) -> None:
    with playground.pool.turns.hold(lambda: False, lambda _: None):
        diffing = playground.differ.start(ASKED, ONE, OTHER)
        while "ahead" not in diffing.snapshot().step:
            assert not diffing.wait(0.05)
        diffing.stop()
        assert diffing.wait(30)
    assert threading.active_count() < 50


@pytest.mark.waits
def test_the_command_prints_one_document_or_the_marked_texts(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings()
    for name, value in (("HOME", settings.home), ("SPACE", settings.space_file), ("CATALOG", settings.catalog_file)):
        monkeypatch.setenv(f"PLAYGROUND_{name}", str(value))
    assert main(["diff", ONE, OTHER, "Say it.", "--json", "--save"]) == 0
    found = VariantDiff.from_json(json.loads(capsys.readouterr().out))
    assert found.answer.flips == (2,)
    assert main(["replay", found.comparison]) == 0
    assert capsys.readouterr().out.count("identical, 4 tokens") == 2
    assert main(["diff", ONE, OTHER, "Say it."]) == 0
    out = capsys.readouterr().out
    assert "the quick ⟦brown ⟧fox" in out
    assert "the quick ⟦red ⟧fox" in out
    assert "top-1 flips  1 of 4 (25.0%)" in out
    assert "KL(reference ‖ candidate)" in out
    assert main(["diff", ONE, ONE, "Say it.", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


@pytest.mark.waits
def test_the_page_shows_what_models_say_as_text(playground: Playground) -> None:
    wild = "fake:text=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E+end&sure="
    found = diff(playground, f"{wild}9", f"{wild.replace('end', '%3Cb%3E')}8")
    labels = panel.labels(playground.catalog, [found.reference.run.variant, found.candidate.run.variant])
    drawn = drawing.diff_html(found, labels)
    assert "<img" not in drawn
    assert "<b>&lt;" not in drawn
    assert drawn.count('<mark class="parts">') == 3  # one a text, one in the legend
    assert "&lt;img" in drawn
