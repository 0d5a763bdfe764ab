"""Teacher forcing: rows of every runtime, their comparison through a file, and the figures, against closed forms."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.errors import ContextOverflow, RunError, Stopped, StorageError
from playground.experiments.teacher_forcing import FOLDER, perplexity, rows_file
from playground.experiments.token_diff import first_difference, first_text_difference, same_vocabulary
from playground.records import DecodedTokens, LoadSpec, Request
from playground.runtimes.fake import VOCABULARY, FakeRuntime
from playground.runtimes.generation.scoring import Task, score
from playground.runtimes.generation.vocabulary import vocabulary_digests
from playground.runtimes.onnx.runtime import OnnxRuntime
from tests.support import tiny
from tests.support.graphs import Layout, reference, write_graph
from tests.support.scripted_models import scripted

PROMPT, ANSWER = tuple(range(20, 49)), (3, 70, 70, 5, 250)


def never() -> bool:
    return False


class Rows:
    """A runtime of given rows."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self._rows = rows

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: object) -> Iterator[Any]:
        yield None
        for row in self._rows:
            yield np.asarray(row, np.float32)


def forced(rows: Sequence[Sequence[float]], task: Task, model: str = "toy") -> Any:
    return score(Rows(rows), model, task, never, lambda _: None)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rows.f32"
    path.touch()
    return str(path)


@pytest.mark.parametrize("layout", [Layout("shared"), Layout("shared", last_only=True), Layout(), Layout("none")])
@pytest.mark.parametrize("reuse", [False, True])
def test_rows_are_those_numpy_computes_whatever_the_cache_held(layout: Layout, reuse: bool, tmp_path: Path) -> None:
    runtime = OnnxRuntime()
    tiny.write_tokenizer(write_graph(tmp_path, layout), template=None)
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(tmp_path, "onnx"), threads=1))
    request = Request("the quick brown fox", max_new_tokens=6, reuse=reuse)
    list(runtime.generate(request, never))  # leaves a cache that must not be taken for this text's
    expected = reference([*PROMPT, *ANSWER], layout)[len(PROMPT) - 1 : -1]
    rows = [row.copy() for row in runtime.score(PROMPT, ANSWER, never) if row is not None]
    np.testing.assert_allclose(rows, expected, atol=2e-4)
    runs = [event.run for event in runtime.generate(request, never) if event.run]
    fresh = [event.run for event in runtime.generate(Request(request.prompt, max_new_tokens=6), never) if event.run]
    assert runs[0].token_ids == fresh[0].token_ids


def test_a_greedy_answer_is_the_likeliest_token_at_each_of_its_rows(tmp_path: Path) -> None:
    runtime = OnnxRuntime()
    tiny.write_tokenizer(write_graph(tmp_path, Layout("shared")), template=None)
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(tmp_path, "onnx"), threads=1))
    request = Request("the quick brown fox", max_new_tokens=9)
    run = next(event.run for event in runtime.generate(request, never) if event.run)
    assert run.token_ids
    rows = runtime.score(runtime.inspect(request).token_ids, run.token_ids, never)
    assert tuple(int(row.argmax()) for row in rows if row is not None) == run.token_ids
    assert "".join(runtime.decode(run.token_ids).pieces) == run.text


def test_scoring_stops_and_refuses_what_the_context_cannot_hold(tmp_path: Path) -> None:
    runtime = OnnxRuntime()
    tiny.write_tokenizer(write_graph(tmp_path, Layout("shared")), template=None)
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(tmp_path, "onnx"), threads=1))
    with pytest.raises(Stopped):
        list(runtime.score(PROMPT, ANSWER, lambda: True))
    with pytest.raises(ContextOverflow, match=r"tiny.*exceed its context"):
        list(runtime.score(PROMPT * 20, ANSWER * 20, never))


def test_divergence_and_perplexity_of_scripted_models_are_those_of_the_formula(file: str) -> None:
    scores = []
    for sure in (9.0, 8.0):
        runtime = FakeRuntime()
        load = scripted(f"fake:text=one+two+three&sure={sure}")
        runtime.load(load)
        run = next(event.run for event in runtime.generate(Request("x"), never) if event.run)
        width = scores[0].width if scores else 0
        task = Task((1,), run.token_ids or (), file, width=width, most_bytes=10**9)
        scores.append(score(runtime, "toy", task, never, lambda _: None))
    log_p, log_q = ([sure - math.log(math.exp(sure) + VOCABULARY - 1), -math.log(math.exp(sure) + VOCABULARY - 1)]
                    for sure in (9.0, 8.0))  # fmt: skip
    kl = math.exp(log_p[0]) * (log_p[0] - log_q[0]) + (VOCABULARY - 1) * math.exp(log_p[1]) * (log_p[1] - log_q[1])
    assert scores[0].divergence == ()
    assert scores[1].divergence == pytest.approx([kl] * 3, rel=1e-6)
    assert perplexity(scores[0].logprobs) == pytest.approx(math.exp(-log_p[0]), rel=1e-9)
    assert [top[0] for top in scores[1].top_ids] == list(run.token_ids or ())


def test_rows_of_different_width_are_compared_over_the_ids_both_have(file: str) -> None:
    one = forced([[1.0, 2.0, 3.0, 9.0]], Task((1,), (0,), file, most_bytes=100))
    other = forced([[1.0, 2.0, 3.0]], Task((1,), (0,), file, width=one.width))
    assert other.divergence == pytest.approx((0.0,), abs=1e-12)
    assert other.top_ids == ((2, 1, 0),)


def test_of_equally_likely_tokens_the_lower_id_comes_first_as_greedy_takes_it(file: str) -> None:
    scored = forced([[5.0, 7.0, 7.0, 7.0, 7.0]], Task((1,), (0,), file, most_bytes=100))
    assert scored.top_ids == ((1, 2, 3),)


def test_what_would_not_fit_on_the_disk_is_left_out_and_nothing_at_all_is_an_error(file: str) -> None:
    rows = [[0.0] * 10] * 5
    scored = forced(rows, Task((1,), (0,) * 5, file, most_bytes=100))
    assert len(scored.logprobs) == 2
    assert Path(file).stat().st_size == 80
    with pytest.raises(StorageError, match="toy: the logits of one token"):
        forced(rows, Task((1,), (0,) * 5, file, most_bytes=39))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_numbers_name_the_model_and_the_token(file: str, bad: float) -> None:
    with pytest.raises(RunError, match="toy: its logits for token 2"):
        forced([[0.0, 1.0], [0.0, bad]], Task((1,), (0, 0), file, most_bytes=100))


def test_a_file_that_ends_early_is_no_divergence(file: str) -> None:
    forced([[0.0, 1.0]], Task((1,), (0,), file, most_bytes=100))
    with pytest.raises(StorageError, match=r"toy: .*ends before token 2"):
        forced([[0.0, 1.0]] * 2, Task((1,), (0, 0), file, width=2))


@pytest.mark.fault
def test_the_file_is_gone_afterwards_and_so_is_what_a_killed_process_left(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    left, busy = folder / "logits-999999999-a.f32", folder / f"logits-{os.getpid()}-b.f32"
    left.touch()
    busy.touch()
    with pytest.raises(RuntimeError), rows_file(tmp_path) as (path, room):
        assert path.exists()
        assert room > 0
        raise RuntimeError
    assert list(folder.iterdir()) == [busy]


def spelt(*words: str, digests: tuple[str, ...] = ("a",)) -> DecodedTokens:
    return DecodedTokens(words, words, digests)


def test_the_first_token_that_differs_is_shown_with_the_text_around_it() -> None:
    found = first_difference((1, 2, 3), spelt("the ", "cat ", "sat"), (1, 9, 3), spelt("the ", "dog ", "sat"))
    assert found
    assert (found.position, found.one.id, found.other.text) == (1, 2, "dog ")
    assert (found.before, found.one_after, found.other_after) == ("the ", "sat", "sat")


def test_an_answer_that_goes_on_where_the_other_ended_differs_there() -> None:
    found = first_difference((1,), spelt("the "), (1, 2), spelt("the ", "cat"))
    assert found
    assert (found.position, found.one.id, found.other.id) == (1, -1, 2)
    assert first_difference((1,), spelt("the "), (1,), spelt("the ")) is None
    text = first_text_difference("the cat", "the")
    assert text
    assert (text.position, text.unit, text.one.text, text.other.text) == (3, "character", " ", "")


def test_vocabularies_are_the_same_but_for_fillers_and_what_one_has_at_its_end() -> None:
    tokenizer = tiny.byte_level_tokenizer()
    plain = vocabulary_digests(tokenizer)
    tokenizer.add_tokens([f"[PAD{place}]" for place in range(2000)])
    assert vocabulary_digests(tokenizer) == plain
    tokenizer.add_tokens(["<extra>"])
    assert vocabulary_digests(tokenizer)[: len(plain)] == plain
    assert same_vocabulary(spelt(digests=("a", "b")), spelt(digests=("a", "b", "c")))
    assert not same_vocabulary(spelt(digests=("a", "b")), spelt(digests=("a", "c")))
    assert not same_vocabulary(spelt(digests=()), spelt(digests=()))
