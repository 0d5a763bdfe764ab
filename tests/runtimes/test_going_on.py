"""An answer that begins with given tokens: cut anywhere and gone on with, it is the answer that was never cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from playground.errors import ContextOverflow, RunError
from playground.records import Artifact, Event, LoadSpec, ModelRun, ModelSpec, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine, Logits
from tests.support import tiny

PROMPT = "the quick brown fox jumps over the lazy dog"
WHOLE = 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch = tiny.write_model(tmp_path_factory.mktemp("torch"))
    onnx = tiny.write_fused(torch, tmp_path_factory.mktemp("onnx"))
    return {"torch": torch, "onnx": onnx, "t5": write_t5(tmp_path_factory.mktemp("t5"))}


def write_t5(folder: Path) -> Path:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tiny.write_tokenizer(folder, template=None)
    torch.manual_seed(3)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    ids = {"decoder_start_token_id": 1, "pad_token_id": 2, "eos_token_id": 0}
    config = T5Config(vocab_size=tiny.VOCAB, n_positions=64, initializer_factor=4.0, **sizes, **ids)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def load_spec(name: str, folders: dict[str, Path]) -> LoadSpec:
    if name == "fake":
        script = "fake:text=" + "+".join(f"word{n}" for n in range(60))
        spec = ModelSpec("tiny", "Fake", script, "0", "fake", "none", tiny.CONTEXT, "chat")
        return LoadSpec(spec, Artifact(Variant("tiny", "fake", "none"), "", "none", "0", "", 0), threads=1)
    if name == "t5":
        return LoadSpec(tiny.spec("text2text", 64), tiny.artifact(folders["t5"], "torch"), threads=1)
    return LoadSpec(tiny.spec(), tiny.artifact(folders[name], name), threads=1)


@pytest.fixture(scope="module", params=["fake", "onnx", "torch", "t5"])
def runtime(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Runtime]:
    made = create_runtime(request.param) if request.param != "t5" else create_runtime("torch")
    made.load(load_spec(request.param, folders))
    yield made
    made.close()


@pytest.fixture(scope="module", params=["onnx", "torch", "t5"])
def real(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Runtime]:
    made = create_runtime("torch" if request.param == "t5" else request.param)
    made.load(load_spec(request.param, folders))
    yield made
    made.close()


def answer(runtime: Runtime, request: Request, cancelled: Callable[[], bool] = lambda: False) -> ModelRun:
    events = list(runtime.generate(request, cancelled))
    run = events[-1].run
    assert run is not None and run.token_ids is not None
    assert "".join(event.text for event in events if event.kind == "token") == run.text
    return run


ASKED = Request(PROMPT, max_new_tokens=WHOLE, min_new_tokens=WHOLE)
"""However sure a model is that it has ended: so every cut has something to go on with."""


def gone_on(run: ModelRun, at: int, asked: Request = ASKED) -> Request:
    assert run.token_ids is not None
    left = asked.max_new_tokens - at
    return replace(asked, answer_ids=run.token_ids[:at], max_new_tokens=left, min_new_tokens=left)


@pytest.mark.parametrize("at", [1, 7, WHOLE - 1])
@pytest.mark.parametrize("reuse", [False, True])
def test_cut_and_gone_on_with_it_is_the_answer_that_was_not_cut(runtime: Runtime, at: int, reuse: bool) -> None:
    whole = answer(runtime, ASKED)
    answer(runtime, replace(ASKED, max_new_tokens=at, min_new_tokens=at))
    rest = answer(runtime, replace(gone_on(whole, at), reuse=reuse))
    assert rest.token_ids == whole.token_ids and rest.text == whole.text
    assert rest.timings.output_tokens == len(rest.timings.token_stamps) == WHOLE - at
    assert rest.timings.prompt_tokens == whole.timings.prompt_tokens + at
    assert rest.timings.prefill_tok_s is None, "an answer read again is no prompt"


@pytest.mark.parametrize("at", [1, 7])
def test_of_an_answer_that_is_gone_on_with_only_its_last_token_is_read(real: Runtime, at: int) -> None:
    """Which was chosen and not read yet, as when the answer is not cut."""
    first = answer(real, replace(ASKED, max_new_tokens=at, min_new_tokens=at))
    rest = answer(real, replace(gone_on(first, at), reuse=True))
    assert rest.timings.reused_tokens == first.timings.prompt_tokens + at - 1
    again = answer(real, gone_on(first, at))
    assert again.timings.reused_tokens == 0 and again.token_ids == rest.token_ids


def test_an_answer_can_be_gone_on_with_several_times(real: Runtime) -> None:
    whole = answer(real, ASKED)
    run = answer(real, replace(ASKED, max_new_tokens=5, min_new_tokens=5))
    while len(run.token_ids or ()) < WHOLE:
        already = len(run.token_ids or ())
        more = min(6, WHOLE - already)
        asked = replace(ASKED, answer_ids=run.token_ids or (), max_new_tokens=more, min_new_tokens=more, reuse=True)
        run = answer(real, asked)
        assert run.timings.reused_tokens == run.timings.prompt_tokens - 1
    assert run.token_ids == whole.token_ids and run.text == whole.text


def test_another_token_can_be_taken_in_the_middle(real: Runtime) -> None:
    """Here the model's second choice at the fifth place; what follows is what it says behind that, read anew."""
    whole = answer(real, ASKED)
    prompt = real.inspect(ASKED).token_ids
    rows = [row.copy() for row in real.score(prompt, (whole.token_ids or ())[:5], lambda: False) if row is not None]
    other = next(int(token) for token in rows[4].argsort()[::-1][1:] if token not in (0, 1, 2))
    begun = (*(whole.token_ids or ())[:4], other)
    answer(real, ASKED)
    asked = replace(ASKED, answer_ids=begun, max_new_tokens=6, min_new_tokens=6)
    kept, anew = answer(real, replace(asked, reuse=True)), answer(real, asked)
    assert kept.token_ids == anew.token_ids and (kept.token_ids or ())[:5] == begun


def test_drawn_by_a_seed_an_answer_goes_on_as_if_it_had_not_been_cut(real: Runtime) -> None:
    """Another temperature would hide a seed that begins anew: what is drawn is nearly uniform."""
    drawn = Request(PROMPT, max_new_tokens=WHOLE, temperature=3.0, seed=5)
    whole = answer(real, drawn)
    at = min(9, len(whole.token_ids or ()) - 1)
    asked = replace(drawn, answer_ids=(whole.token_ids or ())[:at], max_new_tokens=WHOLE - at)
    assert answer(real, asked).token_ids == whole.token_ids


def test_a_repetition_penalty_sees_what_the_answer_begins_with(real: Runtime) -> None:
    penalised = replace(ASKED, repetition_penalty=1.8)
    whole = answer(real, penalised)
    assert whole.token_ids != answer(real, ASKED).token_ids, "the penalty makes a difference"
    assert answer(real, gone_on(whole, 8, penalised)).token_ids == whole.token_ids


def test_stopped_before_the_first_token_the_answer_is_what_it_began_with(runtime: Runtime) -> None:
    whole = answer(runtime, ASKED)
    run = answer(runtime, gone_on(whole, 6), cancelled=lambda: True)
    assert run.finish_reason == "stopped" and run.timings.output_tokens == 0
    assert run.token_ids == (whole.token_ids or ())[:6] and whole.text.startswith(run.text.rstrip("�"))


# -- text across the border, with a model that says what it is told to -----------------------------------------------


class Speaking(Engine):
    """Says the scripted ids one after the other, whatever it reads."""

    def __init__(self, ids: Sequence[int], read: int) -> None:
        self._script, self._read, self._done = ids, read, 0

    def reset(self, length: int) -> None:
        self._done = 0

    def prefill(self, ids: Sequence[int]) -> Logits:
        self._done += len(ids)
        logits = np.zeros(tiny.VOCAB, np.float32)
        place = self._done - self._read
        logits[self._script[place] if 0 <= place < len(self._script) else 0] = 1
        return logits

    def step(self, token: int) -> Logits:
        return self.prefill((token,))


class SpeakingRuntime(DecodingRuntime):
    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__()
        self._ids = ids

    def open_engine(self, load: LoadSpec) -> Engine:
        return Speaking(self._ids, len(tiny.byte_level_tokenizer().encode("abc").ids))


def speaking(folder: Path, text: str) -> tuple[SpeakingRuntime, list[int]]:
    tiny.write_tokenizer(folder, template=None)
    ids = tiny.byte_level_tokenizer().encode(text).ids
    runtime = SpeakingRuntime(ids)
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(folder, "onnx"), threads=1))
    return runtime, ids


def test_a_character_that_is_spread_over_the_border_is_whole(tmp_path: Path) -> None:
    text = "日本👍 ok"
    runtime, ids = speaking(tmp_path, text)
    assert len(ids) > len(text), "some characters take several tokens"
    for at in range(1, len(ids)):
        asked = Request("abc", max_new_tokens=40, answer_ids=tuple(ids[:at]))
        events: list[Event] = list(runtime.generate(asked, lambda: False))
        pieces = [event.text for event in events if event.kind == "token"]
        assert "".join(pieces) == text and "�" not in "".join(pieces)
        assert events[-1].run is not None and events[-1].run.token_ids == (*ids, 0)


def test_a_stop_string_that_is_spread_over_the_border_ends_the_answer(tmp_path: Path) -> None:
    runtime, ids = speaking(tmp_path, "xyz STOP more")
    for at in range(1, len(ids)):
        asked = Request("abc", max_new_tokens=40, answer_ids=tuple(ids[:at]), stop=("STOP",))
        if "STOP" in tiny.byte_level_tokenizer().decode(ids[:at]):
            with pytest.raises(RunError, match=r"already holds a stop string.*go on from before it"):
                list(runtime.generate(asked, lambda: False))
            continue
        run = answer(runtime, asked)
        assert (run.text, run.finish_reason) == ("xyz ", "stop")


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ((70, tiny.VOCAB), f"token 2 of the answer to go on with is {tiny.VOCAB}; it has 329 tokens"),
        ((70, 0, 71), r"token 2 of the answer to go on with is <\|eos\|>, which ends an answer"),
    ],
)
def test_tokens_that_no_answer_begins_with_are_refused(tmp_path: Path, ids: tuple[int, ...], problem: str) -> None:
    runtime, _ = speaking(tmp_path, "x")
    with pytest.raises(RunError, match=f"^tiny: {problem}"):
        list(runtime.generate(Request("abc", answer_ids=ids), lambda: False))


def test_the_context_holds_prompt_and_answer_so_far(tmp_path: Path) -> None:
    runtime, _ = speaking(tmp_path, "x")
    full = tiny.CONTEXT - len(runtime.inspect(Request("abc")).token_ids)
    view = runtime.inspect(Request("abc", answer_ids=(70,) * (full - 3), max_new_tokens=10))
    assert (view.room, len(view.answer), view.context_length) == (3, full - 3, tiny.CONTEXT)
    assert any("cut to 3 tokens instead of 10" in note for note in view.warnings)
    run = answer(runtime, Request("abc", answer_ids=(70,) * (full - 3), max_new_tokens=10, min_new_tokens=10))
    assert (run.finish_reason, run.timings.output_tokens) == ("length", 3)
    with pytest.raises(ContextOverflow, match=rf"answer so far \({full}\) fill its context of {tiny.CONTEXT}"):
        list(runtime.generate(Request("abc", answer_ids=(70,) * full), lambda: False))
