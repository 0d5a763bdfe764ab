"""The two real starter models in the real runtimes: right text, right ids, small enough, stopped in time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from playground.config.settings import load_settings
from playground.paths import ROOT
from playground.records import Event, LoadSpec, ModelRun, Request
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.generation.text_stream import Detokenizer, TextStream
from playground.service import Playground

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SMOLLM2, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
MAX_MB = 400

Load = Callable[[str], LoadSpec]


@pytest.fixture(scope="session")
def load() -> Iterator[Load]:
    """Prepares a variant where the environment says, once for all tests."""
    with Playground(load_settings()) as playground:

        @cache
        def prepared(name: str) -> LoadSpec:
            spec, variant = playground.catalog.resolve(name)
            artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
            return LoadSpec(spec, artifact, threads=2)

        yield prepared


@pytest.fixture(scope="module")
def smollm2(load: Load) -> Iterator[Runtime]:
    yield from opened(load(f"{SMOLLM2}@onnx-int8"))


@pytest.fixture(scope="module")
def gemma(load: Load) -> Iterator[Runtime]:
    yield from opened(load(f"{GEMMA}@onnx-int8"))


def opened(spec: LoadSpec) -> Iterator[Runtime]:
    runtime = create_runtime(spec.artifact.variant.runtime)
    runtime.load(spec)
    yield runtime
    runtime.close()


def answer(runtime: Runtime, request: Request) -> tuple[list[Event], ModelRun]:
    events = list(runtime.generate(request, cancelled=lambda: False))
    assert events[-1].run is not None
    return events, events[-1].run


def test_the_chat_model_answers_and_ends_its_turn_by_itself(smollm2: Runtime) -> None:
    _, run = answer(smollm2, Request("Hi", max_new_tokens=200))
    assert run.finish_reason == "stop" and run.text.strip()
    assert "<|im_end|>" not in run.text
    assert any("helpful AI assistant named SmolLM" in warning for warning in run.warnings), "the template's own prompt"


def test_the_base_model_continues_text_behind_exactly_one_bos(gemma: Runtime) -> None:
    request = Request("The capital of France is", system="Be brief.", max_new_tokens=12)
    view = gemma.inspect(request)
    assert view.token_ids == (2, 818, 5279, 529, 7001, 563)
    assert view.rendered == "<bos>The capital of France is"
    _, run = answer(gemma, request)
    assert run.text.startswith(" ")
    assert any("base model" in warning for warning in run.warnings)


@pytest.mark.parametrize("model", ["smollm2", "gemma"])
def test_sampled_text_streams_whole_characters(model: str, request: pytest.FixtureRequest) -> None:
    runtime: Runtime = request.getfixturevalue(model)
    for seed in (1, 2):
        asked = Request(
            "日本語で🙂🎉👨‍👩‍👧：東京は", max_new_tokens=60, temperature=1.0, top_p=0.98, min_p=0.01, seed=seed
        )
        events, run = answer(runtime, asked)
        pieces = [event.text for event in events if event.kind == "token"]
        assert "".join(pieces) == run.text
        assert not any("\ufffd" in piece for piece in pieces[:-1])
        assert len(pieces) == run.timings.output_tokens
        assert answer(runtime, asked)[1].text == run.text, "the same seed gives the same text"


@pytest.mark.parametrize("model", ["smollm2", "gemma"])
def test_a_stop_string_over_several_tokens_never_leaks(model: str, request: pytest.FixtureRequest) -> None:
    runtime: Runtime = request.getfixturevalue(model)
    text = answer(runtime, Request("Tell me about the sea.", max_new_tokens=40))[1].text
    stop = text[len(text) // 2 - 5 : len(text) // 2 + 5]
    events, run = answer(runtime, Request("Tell me about the sea.", max_new_tokens=40, stop=(stop,)))
    assert run.finish_reason == "stop" and run.text == text[: text.index(stop)]
    assert "".join(event.text for event in events if event.kind == "token") == run.text


@pytest.mark.parametrize("model", ["smollm2", "gemma"])
def test_chunks_of_a_long_prompt_give_the_logits_of_one_go(model: str, request: pytest.FixtureRequest) -> None:
    """700 tokens: beyond Gemma's sliding window of 512."""
    runtime: Runtime = request.getfixturevalue(model)
    engine = runtime._loaded.engine  # type: ignore[attr-defined]
    ids = list(range(1000, 1700))
    engine.reset(len(ids))
    whole = engine.prefill(ids).copy()
    engine.reset(len(ids))
    for start in range(0, len(ids), 128):
        logits = engine.prefill(ids[start : start + 128])
    assert int(logits.argmax()) == int(whole.argmax())
    assert abs(logits - whole).max() < 1e-2


@pytest.mark.alone
def test_stop_is_heard_within_two_seconds_of_a_long_prompt(smollm2: Runtime) -> None:
    pressed: list[float] = []
    events = smollm2.generate(Request("All work and no play. " * 900), lambda: bool(pressed))
    for event in events:
        if event.kind == "prefill" and (event.progress or 0) > 0 and not pressed:
            pressed.append(time.monotonic())
    assert event.kind == "stopped" and event.run is not None and event.run.timings.ttft_s is None
    assert time.monotonic() - pressed[0] < 2


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA])
def test_torch_decodes_what_transformers_generates(model: str, load: Load) -> None:
    import torch

    runtime = next(opened(load(f"{model}@torch-fp32")))
    request = Request("The capital of France is", max_new_tokens=16)
    tokens = [event for event in answer(runtime, request)[0] if event.kind == "token"]
    ids = torch.tensor([runtime.inspect(request).token_ids])
    reference = runtime._loaded.engine._model  # type: ignore[attr-defined]
    expected = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    text = runtime._loaded.prompter.detokenizer.decode(expected[0, ids.shape[1] :].tolist())  # type: ignore[attr-defined]
    runtime.close()
    assert "".join(event.text for event in tokens) == text
    assert len(tokens) == expected.shape[1] - ids.shape[1]


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA])
def test_pieces_of_any_ids_joined_are_the_text_decoded_at_once(model: str, load: Load) -> None:
    tokenizer = Tokenizer.from_file(str(Path(load(f"{model}@onnx-int8").artifact.path) / "tokenizer.json"))
    detokenizer = Detokenizer(tokenizer)
    fallback = [index for index in range(1000) if (tokenizer.id_to_token(index) or "").startswith("<0x")]
    byte_tokens = fallback or list(range(17, 273))
    ids = st.one_of(st.integers(0, tokenizer.get_vocab_size() + 5), st.sampled_from(byte_tokens))

    @given(st.lists(ids, max_size=40))
    @settings(max_examples=400, deadline=None)
    def holds(ids: list[int]) -> None:
        stream = TextStream(detokenizer)
        pieces = [*(stream.push(token) for token in ids), stream.finish()]
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)

    holds()


SCRIPT = """
import json, sys
from playground.records import Request
from playground.runtimes import create_runtime
from playground.runtimes.base import LoadSpec
load = LoadSpec.from_json(json.load(sys.stdin))
runtime = create_runtime("onnx")
runtime.load(load)
for _ in range(2):
    asked = Request("Write a story about the sea. " * 20, max_new_tokens=200, temperature=0.8, top_p=0.9)
    tokens = [event for event in runtime.generate(asked, lambda: False)][-1].n_tokens
fields = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({"peak_mb": int(fields["VmHWM"].split()[0]) * 1024 / 1e6, "tokens": tokens,
                  "modules": [name for name in ("torch", "gradio") if name in sys.modules]}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_int8_smollm2_process_stays_small_and_loads_neither_torch_nor_gradio(load: Load) -> None:
    given_load = json.dumps(load(f"{SMOLLM2}@onnx-int8").to_json())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=given_load,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    seen = json.loads(done.stdout)
    assert seen["modules"] == []
    assert seen["tokens"] > 20
    assert seen["peak_mb"] < MAX_MB
