"""Token views: figures against closed forms, refusals, and the way through the pool with scripted models."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.errors import RunError, Stopped, UsageError
from playground.experiments.token_view import TOP, TokenView
from playground.records import Comparison, LoadSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.fake import VOCABULARY
from playground.runtimes.generation.scoring import Task, score
from playground.service import Playground
from tests.support import tiny

SURE = 11
SCRIPT = f"fake:text=the+quick+brown+fox&sure={SURE}"
ASKED = Request("Say it.")


class Rows:
    """A runtime of given rows."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self._rows = rows

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: object) -> Iterator[Any]:
        yield None
        for row in self._rows:
            yield np.asarray(row, np.float32)


def looked_at(rows: Sequence[Sequence[float]], task: Task) -> Any:
    return score(Rows(rows), "toy", task, lambda: False, lambda _: None)  # type: ignore[arg-type]


def test_probability_rank_and_entropy_are_those_of_the_closed_form() -> None:
    thirds = [math.log(weight) for weight in (1, 2, 4, 1)]  # p = 1/8, 1/4, 1/2, 1/8
    found = looked_at([thirds, [5.0] * 4, [100.0, 0, 0, 0]], Task((1,), (3, 2, 0), top=4))
    assert found.logprobs == pytest.approx([math.log(1 / 8), math.log(1 / 4), 0], abs=1e-6)
    assert found.ranks == (4, 3, 1), "of equal ones the lower id is before"
    assert found.entropies == pytest.approx([1.75 * math.log(2), math.log(4), 0], abs=1e-6)
    assert found.top_ids[0] == (2, 1, 0, 3)
    assert found.top_probabilities[0] == pytest.approx([0.5, 0.25, 0.125, 0.125])


def compared(playground: Playground, model: str, request: Request = ASKED) -> Comparison:
    job = playground.comparer.start(request, [model], "fair")
    assert job.wait(60)
    return job.result()


def viewed(playground: Playground, stored: Comparison, column: int = 0) -> TokenView:
    job = playground.token_view(stored, column)
    assert job.wait(60)
    return job.result()


@pytest.mark.waits
def test_an_answer_is_seen_token_by_token_and_the_view_travels_as_json(playground: Playground) -> None:
    stored = compared(playground, SCRIPT)
    view = viewed(playground, stored)
    assert (view.comparison, view.column, view.variant) == (stored.id, 0, stored.runs[0].variant)
    assert view.text == stored.runs[0].text == "the quick brown fox"
    assert [token.rank for token in view.tokens] == [1] * 4
    likely = math.exp(SURE) / (math.exp(SURE) + VOCABULARY - 1)
    assert [token.probability for token in view.tokens] == pytest.approx([likely] * 4)
    assert view.perplexity == pytest.approx(1 / likely)
    assert view.vocabulary == VOCABULARY and len(view.tokens[0].alternatives) == TOP >= 5
    assert view.tokens[1].alternatives[0].text == "quick "
    assert "temperature 1 over the whole vocabulary" in view.how
    assert TokenView.from_json(json.loads(json.dumps(view.to_json(), allow_nan=False))) == view


@pytest.mark.waits
def test_what_an_answer_began_with_is_marked_as_given(playground: Playground) -> None:
    first = compared(playground, SCRIPT, replace(ASKED, max_new_tokens=2))
    ids = first.runs[0].token_ids or ()
    view = viewed(playground, compared(playground, SCRIPT, replace(ASKED, answer_ids=ids)))
    assert [token.given for token in view.tokens] == [True, True, False, False]
    assert [token.rank for token in view.tokens] == [1] * 4, "read behind the prompt once, not behind itself"


@pytest.mark.waits
def test_what_cannot_be_looked_at_is_refused_with_a_reason(playground: Playground) -> None:
    stored = compared(playground, SCRIPT)
    (run,) = stored.runs
    with pytest.raises(UsageError, match="no column 2"):
        playground.token_view(stored, 1)
    without = replace(stored, runs=(replace(run, token_ids=None),))
    with pytest.raises(UsageError, match=r"were not kept\. Ask the model again"):
        playground.token_view(without, 0)
    with pytest.raises(UsageError, match="gave no token"):
        playground.token_view(replace(stored, runs=(replace(run, token_ids=()),)), 0)


def test_an_answer_of_other_files_is_refused(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = compared(playground, SCRIPT)
    prepare = playground.preparer.prepare
    monkeypatch.setattr(playground.preparer, "prepare", lambda *a: replace(prepare(*a), sha256="new"))
    old = replace(stored, runs=(replace(stored.runs[0], artifact_sha256="old"),))
    job = playground.token_view(old, 0)
    assert job.wait(60)
    with pytest.raises(RunError, match="prepared anew since it gave this answer"):
        job.result()


def test_a_served_model_is_refused_before_any_work(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    far = '[{"name": "far", "model": "m", "url": "http://127.0.0.1:9/v1"}]'
    with Playground(make_settings(PLAYGROUND_CATALOG="", PLAYGROUND_REMOTES=far)) as playground:
        stored = compared(playground, SCRIPT)
        _, variant = playground.resolve("remote:far")
        monkeypatch.setattr(playground.preparer, "prepare", lambda *_: pytest.fail("work was begun"))
        with pytest.raises(UsageError, match="its server gives texts, not probabilities"):
            playground.token_view(replace(stored, runs=(replace(stored.runs[0], variant=variant),)), 0)


@pytest.mark.waits
@pytest.mark.alone
def test_it_waits_for_its_turn_of_the_machine_and_can_be_stopped(playground: Playground) -> None:
    stored = compared(playground, SCRIPT)
    with playground.pool.turns.hold(lambda: False, lambda _: None):
        job = playground.token_view(stored, 0)
        deadline = time.monotonic() + 20
        while "waiting for the machine" not in job.snapshot().step:
            assert time.monotonic() < deadline and not job.done
            time.sleep(0.01)
        job.stop()
        assert job.wait(30)
        with pytest.raises(Stopped):
            job.result()


@pytest.mark.waits
@pytest.mark.alone
def test_stop_ends_it_while_it_reads(playground: Playground) -> None:
    slow = "fake:text=" + "+".join(f"w{n}" for n in range(60))
    stored = compared(playground, slow)
    run = replace(stored.runs[0], variant=playground.resolve(f"{slow}&step_s=0.5")[1])
    job = playground.token_view(replace(stored, runs=(run,)), 0)
    deadline = time.monotonic() + 20
    while not job.snapshot().progress:
        assert time.monotonic() < deadline and not job.done
        time.sleep(0.01)
    job.stop()
    assert job.wait(30)
    with pytest.raises(Stopped):
        job.result()


def test_a_real_network_holds_what_its_logits_say_and_characters_stay_whole(tmp_path: Path) -> None:
    """Forced along text whose characters take several tokens each."""
    runtime = create_runtime("torch")
    runtime.load(LoadSpec(tiny.spec(), tiny.artifact(tiny.write_model(tmp_path), "torch"), threads=1))
    text = "日本👍 ok"
    ids = tuple(tiny.byte_level_tokenizer().encode(text).ids)
    prompt = runtime.inspect(Request("Hi")).token_ids
    found = score(runtime, "tiny", Task(prompt, ids, top=5), lambda: False, lambda _: None)
    rows = [row.astype(np.float64) for row in runtime.score(prompt, ids, lambda: False) if row is not None]
    for place, row in enumerate(rows):
        shares = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert found.entropies[place] == pytest.approx(-(shares * np.log(shares)).sum())
        assert found.ranks[place] == 1 + (row > row[ids[place]]).sum()
        assert math.exp(found.logprobs[place]) == pytest.approx(shares[ids[place]])
        assert len(found.top_ids[place]) == 5
    decoded = runtime.decode(ids)
    assert "".join(decoded.pieces) == text and len(decoded.pieces) == len(ids) > len(text)
    runtime.close()
