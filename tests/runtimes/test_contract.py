"""One contract for every runtime: the scripted one, and the two real ones on a tiny random model made on the spot."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from playground.errors import ContextOverflow, RunError, Stopped, UsageError
from playground.records import Artifact, Event, LoadSpec, ModelRun, ModelSpec, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.generation.logprobs import Row
from playground.runtimes.generation.token_scores import ScoreIds
from tests.support import tiny

PROMPT = "the quick brown fox jumps over the lazy dog"
LONG = "日本語 " * 40  # several chunks of prefill


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch = tiny.write_model(tmp_path_factory.mktemp("tiny-torch"))
    return {"torch": torch, "onnx": tiny.write_fused(torch, tmp_path_factory.mktemp("tiny-onnx"))}


def load_spec(name: str, folders: dict[str, Path]) -> LoadSpec:
    if name != "fake":
        return LoadSpec(tiny.spec(), tiny.artifact(folders[name], name), threads=1)
    script = "fake:text=" + "+".join(f"word{n}" for n in range(60))
    spec = ModelSpec("tiny", "Fake", script, "0", "fake", "none", tiny.CONTEXT, "chat")
    return LoadSpec(spec, Artifact(Variant("tiny", "fake", "none"), "", "none", "0", "", 0), threads=1)


@pytest.fixture(scope="module", params=["fake", "onnx", "torch"])
def loaded(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[tuple[Runtime, LoadSpec]]:
    runtime = create_runtime(request.param)
    load = load_spec(request.param, folders)
    runtime.load(load)
    yield runtime, load
    runtime.close()


@pytest.fixture
def runtime(loaded: tuple[Runtime, LoadSpec]) -> Runtime:
    return loaded[0]


def answer(runtime: Runtime, request: Request) -> tuple[list[Event], ModelRun]:
    events = list(runtime.generate(request, cancelled=lambda: False))
    assert events[-1].run is not None
    return events, events[-1].run


def test_events_come_in_order_and_end_with_exactly_one_run(loaded: tuple[Runtime, LoadSpec]) -> None:
    runtime, load = loaded
    events, run = answer(runtime, Request(PROMPT, max_new_tokens=12))
    kinds = [kind for kind, _ in itertools.groupby(event.kind for event in events)]
    assert kinds == ["prefill", "token", "done"]
    assert [event.run for event in events[:-1]] == [None] * (len(events) - 1)
    assert {event.model for event in events} == {str(load.artifact.variant)}
    assert run.variant == load.artifact.variant and run.recipe in (load.artifact.recipe, None)
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_every_token_has_an_event_and_the_pieces_are_the_text(runtime: Runtime) -> None:
    events, run = answer(runtime, Request(PROMPT, max_new_tokens=30))
    tokens = [event for event in events if event.kind == "token"]
    assert [event.n_tokens for event in tokens] == list(range(1, len(tokens) + 1))
    assert "".join(event.text for event in tokens) == run.text != ""


def test_timings_agree_with_the_events(loaded: tuple[Runtime, LoadSpec]) -> None:
    runtime, load = loaded
    request = Request(PROMPT, max_new_tokens=12)
    events, run = answer(runtime, request)
    tokens = [event for event in events if event.kind == "token"]
    figures = run.timings
    assert figures.output_tokens == len(tokens) == len(figures.token_stamps) == 12
    assert figures.prompt_tokens == len(runtime.inspect(request).token_ids)
    assert figures.threads == load.threads and figures.unit == "token"
    assert figures.ttft_s == pytest.approx(figures.token_stamps[0])
    gaps = [event.at - tokens[0].at for event in tokens]
    assert gaps == pytest.approx([stamp - figures.token_stamps[0] for stamp in figures.token_stamps], abs=1e-6)
    assert 0 <= figures.tokenize_s < figures.ttft_s <= figures.total_s
    assert figures.load_s is None and figures.queue_s is None


def test_the_answer_ends_at_max_new_tokens(runtime: Runtime) -> None:
    for most in (1, 5):
        _, run = answer(runtime, Request(PROMPT, max_new_tokens=most))
        assert (run.finish_reason, run.timings.output_tokens) == ("length", most)


def test_a_stop_string_ends_the_answer_and_is_not_shown(runtime: Runtime) -> None:
    text = answer(runtime, Request(PROMPT, max_new_tokens=40))[1].text
    stop = text[len(text) // 2 :][:6]
    events, run = answer(runtime, Request(PROMPT, max_new_tokens=40, stop=(stop,)))
    assert run.finish_reason == "stop"
    assert run.text == text[: text.index(stop)]
    assert "".join(event.text for event in events if event.kind == "token") == run.text


def test_stop_is_heard_between_tokens(runtime: Runtime) -> None:
    seen: list[Event] = []
    for event in runtime.generate(Request(PROMPT, max_new_tokens=40), lambda: len(seen) >= 8):
        seen.append(event)
    run = seen[-1].run
    assert seen[-1].kind == "stopped" and run is not None and run.finish_reason == "stopped"
    assert 0 < run.timings.output_tokens < 10
    assert "".join(event.text for event in seen if event.kind == "token") == run.text


def test_stop_is_heard_between_the_chunks_of_a_long_prompt(runtime: Runtime) -> None:
    seen: list[Event] = []
    for event in runtime.generate(Request(LONG), lambda: len(seen) >= 2):
        seen.append(event)
    assert seen[-1].kind == "stopped"
    run = seen[-1].run
    assert run is not None and run.text == "" and run.timings.output_tokens == 0
    assert run.timings.ttft_s is None and run.timings.prefill_tok_s is None


def test_progress_of_prefill_grows_to_the_whole(runtime: Runtime) -> None:
    events, _ = answer(runtime, Request(LONG, max_new_tokens=1))
    progress = [event.progress for event in events if event.kind == "prefill"]
    assert len(progress) > 2 and progress == sorted(progress) and progress[-1] == 1.0


def test_the_same_request_gives_the_same_text_after_other_requests(runtime: Runtime) -> None:
    request = Request(PROMPT, max_new_tokens=20, temperature=1.0, top_p=0.95, seed=11)
    first = answer(runtime, request)[1].text
    answer(runtime, Request(LONG, max_new_tokens=3))
    assert answer(runtime, request)[1].text == first


def test_an_abandoned_answer_does_not_spoil_the_next(runtime: Runtime) -> None:
    request = Request(PROMPT, max_new_tokens=10)
    expected = answer(runtime, request)[1].text
    events = runtime.generate(Request("fox " * 40, max_new_tokens=50), lambda: False)
    next(events), next(events)
    events.close()  # type: ignore[attr-defined]
    assert answer(runtime, request)[1].text == expected


def test_a_prompt_beyond_the_context_is_refused_with_the_models_name(runtime: Runtime) -> None:
    with pytest.raises(ContextOverflow, match="tiny"):
        list(runtime.generate(Request("日本語 " * tiny.CONTEXT), lambda: False))
    assert answer(runtime, Request(PROMPT, max_new_tokens=2))[1].finish_reason == "length"


def test_the_whole_context_can_be_used(runtime: Runtime) -> None:
    events, run = answer(runtime, Request(LONG, max_new_tokens=tiny.CONTEXT, temperature=1.5, stop=("never",)))
    used = run.timings.prompt_tokens + run.timings.output_tokens
    assert events[-1].kind == "done"
    assert used == tiny.CONTEXT if run.finish_reason == "length" else used < tiny.CONTEXT


def test_inspect_shows_one_readable_token_for_each_id(runtime: Runtime) -> None:
    view = runtime.inspect(Request("Hi 日"))
    assert view.model == "tiny" and "Hi 日" in view.rendered
    assert len(view.tokens) == len(view.token_ids) > 0


# -- what only the real ones can be asked ---------------------------------------------------------------------------


@pytest.fixture(params=["onnx", "torch"])
def real(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Runtime]:
    runtime = create_runtime(request.param)
    runtime.load(load_spec(request.param, folders))
    yield runtime
    runtime.close()


@pytest.mark.parametrize("prompt", [PROMPT, LONG], ids=["one chunk", "several chunks"])
def test_greedy_is_what_transformers_generates(real: Runtime, folders: dict[str, Path], prompt: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    request = Request(prompt, max_new_tokens=30)
    ids = torch.tensor([real.inspect(request).token_ids])
    model = AutoModelForCausalLM.from_pretrained(folders["torch"], dtype=torch.float32)
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False)
    engine = real._loaded.engine  # type: ignore[attr-defined]
    assert generated(engine, ids[0].tolist(), 30) == expected[0, ids.shape[1] :].tolist()


def generated(engine: object, ids: list[int], count: int) -> list[int]:
    """Greedy ids from an engine, read in uneven chunks."""
    engine.reset(len(ids) + count)  # type: ignore[attr-defined]
    for start in range(0, len(ids), 100):
        logits = engine.prefill(ids[start : start + 100])  # type: ignore[attr-defined]
    found = [int(logits.argmax())]
    while len(found) < count and found[-1] != 0:
        found.append(int(engine.step(found[-1]).argmax()))  # type: ignore[attr-defined]
    return found


def test_chunked_prefill_gives_the_logits_of_one_go(real: Runtime) -> None:
    engine = real._loaded.engine  # type: ignore[attr-defined]
    ids = list(range(3, 300))
    engine.reset(len(ids))
    whole = engine.prefill(ids).copy()
    for size in (1, 7, 128):
        engine.reset(len(ids))
        for start in range(0, len(ids), size):
            logits = engine.prefill(ids[start : start + size])
        assert abs(logits - whole).max() < 1e-4


def test_an_end_token_ends_the_answer_and_counts_as_a_token(folders: dict[str, Path], tmp_path: Path) -> None:
    """The model's own fifth token is declared to be its end of text."""
    runtime = create_runtime("onnx")
    runtime.load(load_spec("onnx", folders))
    ids = list(runtime.inspect(Request(PROMPT)).token_ids)
    fifth = generated(runtime._loaded.engine, ids, 5)[4]  # type: ignore[attr-defined]
    whole = answer(runtime, Request(PROMPT, max_new_tokens=5))[1]

    for path in folders["onnx"].iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {fifth}}}')
    runtime.load(replace(load_spec("onnx", folders), artifact=tiny.artifact(tmp_path, "onnx")))
    events, run = answer(runtime, Request(PROMPT, max_new_tokens=50))

    assert run.finish_reason == "stop"
    assert run.timings.output_tokens <= 5 and whole.text.startswith(run.text)
    assert events[-2].kind == "token"


def test_the_cache_grows_for_a_long_request_and_shrinks_again(folders: dict[str, Path]) -> None:
    runtime = create_runtime("onnx")
    runtime.load(load_spec("onnx", folders))
    engine = runtime._loaded.engine  # type: ignore[attr-defined]
    short = Request(PROMPT, max_new_tokens=8)
    before = answer(runtime, short)[1].text
    small = engine._capacity
    engine.reset(8 * small)
    assert engine._capacity == 8 * small
    assert answer(runtime, short)[1].text == before
    assert engine._capacity == small


@pytest.mark.fault
@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_broken_folder_is_an_error_with_the_models_name_and_a_next_step(name: str, tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(RunError, match=rf"tiny@{name}-fp32: .*Prepare the model again"):
        create_runtime(name).load(LoadSpec(tiny.spec(), tiny.artifact(tmp_path, name), threads=1))


def test_logits_that_are_no_numbers_end_in_an_error_that_names_the_model(folders: dict[str, Path]) -> None:
    runtime = create_runtime("onnx")
    runtime.load(load_spec("onnx", folders))
    engine = runtime._loaded.engine  # type: ignore[attr-defined]
    step = engine.step
    engine.step = lambda token: step(token) * math.nan
    with pytest.raises(RunError, match="tiny@onnx-fp32: computing failed"):
        list(runtime.generate(Request(PROMPT), lambda: False))


def test_a_runtime_without_a_model_says_so(folders: dict[str, Path]) -> None:
    runtime = create_runtime("onnx")
    runtime.load(load_spec("onnx", folders))
    runtime.close()
    with pytest.raises(RunError, match="No model is loaded"):
        runtime.inspect(Request(PROMPT))


# -- prefix reuse ---------------------------------------------------------------------------------------------------


def test_without_reuse_every_prompt_is_read_whole(real: Runtime) -> None:
    for _ in range(2):
        timings = answer(real, Request(LONG, max_new_tokens=2))[1].timings
        assert timings.reused_tokens == 0


def test_what_two_prompts_have_in_common_is_read_once_and_changes_no_word(real: Runtime) -> None:
    longer = Request(LONG + " and then", max_new_tokens=20)
    whole = answer(real, longer)[1]
    answer(real, Request(LONG + " but now something else", max_new_tokens=3))
    events, run = answer(real, replace(longer, reuse=True))
    tokens = run.timings.prompt_tokens
    assert tokens and 100 < run.timings.reused_tokens < tokens
    assert run.text == whole.text and run.timings.prompt_tokens == whole.timings.prompt_tokens
    assert events[0].progress == pytest.approx(run.timings.reused_tokens / tokens)


def test_an_answer_can_be_gone_on_from_without_reading_it_again(real: Runtime) -> None:
    ids = real.inspect(Request(PROMPT)).token_ids
    reading = real._loaded.cache  # type: ignore[attr-defined]
    assert reading.begin(ids, 60, reuse=False) == 0
    logits = reading.prefill(ids)
    said = []
    for _ in range(20):
        said.append(int(logits.argmax()))
        logits = reading.step(said[-1])
    turn = [*ids, *said, 5, 6, 7]
    assert reading.begin(turn, 700, reuse=True) == len(turn) - 3  # the cache has to grow, and keeps what it holds
    reused = reading.prefill(turn[-3:]).copy()
    reading.begin(turn, 700, reuse=False)
    assert abs(reading.prefill(turn) - reused).max() < 1e-4


def test_the_same_prompt_again_reads_its_last_two_tokens_and_gives_the_same_text(real: Runtime) -> None:
    asked = Request(PROMPT, max_new_tokens=12, reuse=True)
    first, second = answer(real, asked)[1], answer(real, asked)[1]
    assert second.timings.reused_tokens == first.timings.prompt_tokens - 2
    assert second.text == first.text


def test_after_a_failure_nothing_of_the_cache_is_trusted(real: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Request(PROMPT, max_new_tokens=4, reuse=True)
    whole = answer(real, asked)[1]
    engine = real._loaded.engine  # type: ignore[attr-defined]

    def break_down(token: int) -> None:
        raise RuntimeError("out of order")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "step", break_down)
        with pytest.raises(RunError, match="out of order"):
            answer(real, asked)
    again = answer(real, asked)[1]
    assert again.timings.reused_tokens == 0 and again.text == whole.text


def test_forced_along_its_own_greedy_answer_a_model_holds_each_token_for_the_likeliest(runtime: Runtime) -> None:
    request = Request(PROMPT, max_new_tokens=12)
    _, run = answer(runtime, request)
    assert run.token_ids is not None
    assert len(run.token_ids) == run.timings.output_tokens == 12
    rows = runtime.score(runtime.inspect(request).token_ids, run.token_ids, lambda: False)
    assert tuple(int(row.argmax()) for row in rows if row is not None) == run.token_ids
    spelt = runtime.decode(run.token_ids)
    assert "".join(spelt.pieces) == run.text
    assert len(spelt.names) == 12
    with pytest.raises(Stopped):
        list(runtime.score((1,), run.token_ids, lambda: True))


# -- log-probabilities ------------------------------------------------------------------------------------------------


def test_log_probabilities_are_told_token_by_token_and_change_no_word(runtime: Runtime) -> None:
    free = answer(runtime, Request(PROMPT, max_new_tokens=12))[1]
    events, run = answer(runtime, Request(PROMPT, max_new_tokens=12, logprobs=3))
    assert free.logprobs == () and (run.text, run.token_ids) == (free.text, free.token_ids)
    assert [each.id for each in run.logprobs] == list(run.token_ids or ())
    assert tuple(each for event in events for each in event.logprobs) == run.logprobs
    assert all(len(event.logprobs) == 1 for event in events if event.kind == "token")
    for each in run.logprobs:  # greedy takes the likeliest, and three is what was asked for
        assert each.top_ids[0] == each.id and each.top_logprobs[0] == each.logprob
        assert len(each.top_ids) == 3 and list(each.top_logprobs) == sorted(each.top_logprobs, reverse=True)
    alone = answer(runtime, Request(PROMPT, max_new_tokens=12, logprobs=0))[1]
    assert [each.logprob for each in alone.logprobs] == [each.logprob for each in run.logprobs]
    assert alone.logprobs[0].top_ids == ()


def test_tokens_that_an_answer_begins_with_have_theirs_too(runtime: Runtime) -> None:
    whole = answer(runtime, Request(PROMPT, max_new_tokens=12, logprobs=1))[1]
    ids = whole.token_ids or ()
    for reuse in (False, True):
        events, run = answer(
            runtime, Request(PROMPT, max_new_tokens=7, logprobs=1, answer_ids=tuple(ids[:5]), reuse=reuse)
        )
        assert run.token_ids == ids and len(run.logprobs) == 12
        assert tuple(each for event in events for each in event.logprobs) == run.logprobs
        for one, other in zip(run.logprobs, whole.logprobs, strict=True):
            assert one.id == other.id and one.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_texts_scored_together_have_the_figures_of_each_alone_forced_token_by_token(runtime: Runtime) -> None:
    ids = runtime.encode(PROMPT, special=False) * 30
    texts = (ids[:150], (*ids[:140], *ids[3:9]), ids[:7], (*ids[:149], ids[2]), ids[:1], ids[:150])
    starts = (0, 138, 2, 149, 0, 60)
    task = ScoreIds(texts, top=2, starts=starts)
    told: list[float] = []
    scored = runtime.score_ids(task, lambda: False, told.append)
    assert told[-1] == 1
    for text, start, found in zip(texts, starts, scored.tokens(task), strict=True):
        assert [each.id for each in found] == list(text[start:])
        if start == 0:
            assert found[0].logprob is None and found[0].top_ids == ()
        if len(text) < 2:
            continue
        rows = runtime.score(text[:1], text[1:], lambda: False)
        true = [Row(row.copy(), 2).of(token) for row, token in zip(given(rows), text[1:], strict=True)]
        if type(runtime).__name__ == "FakeRuntime":
            continue  # its rows know no place
        for one, other in zip(found[start == 0 :], true[max(0, start - 1) :], strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=2e-4)
            assert one.top_ids == other.top_ids or one.top_logprobs == pytest.approx(other.top_logprobs, abs=2e-4)


def given(rows: Iterator[Any]) -> Iterator[Any]:
    return (row for row in rows if row is not None)


def test_what_texts_share_is_read_once_and_nothing_of_earlier_ones_where_that_is_not_wanted(real: Runtime) -> None:
    ids = real.encode(PROMPT, special=False) * 30
    texts = tuple((*ids[:150], token, *ids[:3]) for token in (40, 41, 42, 43))

    def read(task: ScoreIds) -> int:
        return real.score_ids(task, lambda: False, lambda _: None).read

    alone = read(ScoreIds(texts[:1], reuse=False))
    assert alone == 153
    together = read(ScoreIds(texts, starts=(150,) * 4, reuse=False))
    assert 153 + 3 * 3 <= together <= 153 + 3 * 5
    assert read(ScoreIds(texts[:1], starts=(150,))) <= 5
    assert read(ScoreIds(texts[:1], reuse=False)) == 153
    # One context, single tokens: all from one row.
    assert read(ScoreIds(tuple((*ids[:80], token) for token in range(30)), reuse=False)) == 80
    answer(real, Request(PROMPT, max_new_tokens=5))  # and an answer is not disturbed, nor disturbs
    assert read(ScoreIds(texts[:1])) >= 4


def test_texts_that_can_not_be_scored_are_refused_before_any_work_and_stop_is_heard(real: Runtime) -> None:
    def score(*texts: tuple[int, ...]) -> object:
        return real.score_ids(ScoreIds(texts), lambda: False, lambda _: None)

    with pytest.raises(UsageError, match="text 2 holds the token 99999"):
        score((1, 2), (1, 99_999))
    with pytest.raises(ContextOverflow):
        score((5,) * (tiny.CONTEXT + 1))
    with pytest.raises(Stopped):
        real.score_ids(ScoreIds(((1, 2, 3),)), lambda: True, lambda _: None)
    assert real.score_ids(ScoreIds(((1, 2, 3),)), lambda: False, lambda _: None).logprobs[0][0] is None


# -- answers held to a schema -----------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "ages": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        "kind": {"enum": ["a", "ü", None]},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.5, "top_p": 0.8}], ids=str)
def test_an_answer_held_to_a_schema_fits_it_and_the_next_one_is_free_again(real: Runtime, how: dict[str, Any]) -> None:
    free = answer(real, Request(PROMPT, max_new_tokens=12))[1].text
    asked = Request(PROMPT, max_new_tokens=300, json_schema=json.dumps(SCHEMA), logprobs=1, **how)
    events, run = answer(real, asked)
    assert run.finish_reason == "stop"
    jsonschema.validate(json.loads(run.text), SCHEMA)
    assert "".join(str(event.text) for event in events if event.kind == "token") == run.text
    assert len(run.logprobs) == len(run.token_ids or ()) == run.timings.output_tokens
    assert answer(real, asked)[1].text == run.text  # the same seed
    assert answer(real, Request(PROMPT, max_new_tokens=12))[1].text == free


def test_a_scripted_model_says_that_it_is_not_held(folders: dict[str, Path]) -> None:
    runtime = create_runtime("fake")
    runtime.load(load_spec("fake", folders))
    run = answer(runtime, Request(PROMPT, json_schema="{}"))[1]
    assert any("not held to a JSON schema" in warning for warning in run.warnings)
