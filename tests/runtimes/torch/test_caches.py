"""The torch runtime with every kind of memory that a network has: what it answers is what ``generate`` answers.

Tiny random networks of real classes. The judge is always a network that was just made: what one text leaves behind in
another's answer would be seen.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from playground.errors import ContextOverflow, RunError
from playground.records import LoadSpec, ModelRun, Request
from playground.runtimes import create_runtime
from playground.runtimes.generation.answering import READ_AGAIN
from playground.runtimes.generation.engine import Engine, Interrupted
from playground.runtimes.generation.ids_scorer import IdsScorer
from playground.runtimes.generation.logprobs import Row
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.rotary import steady_length
from playground.runtimes.generation.token_scores import ScoreIds
from tests.families.sweep import names, networks, sizes
from tests.support import tiny

SHORT = [(37 * place + 11) % 250 + 20 for place in range(11)]
LONG = [(place * place * 31 + 17 * place + 5) % 250 + 20 for place in range(300)]

KINDS = {
    "llama": "keys and values of every token",
    "gpt2": "positions from a table",
    "bloom": "positions in the attention",
    "doge": "more tokens than a window choose among themselves",
    "ctrl": "a table of positions that is computed",
    "gemma3_text": "windows in some layers",
    "gemma4_text": "layers that use another one's cache",
    "gpt_oss": "windows and sinks",
    "moshi": "a window that no mask knows",
    "glm_moe_dsa": "an index beside keys and values",
    "deepseek_v4": "keys and values that are compressed",
    "mamba": "cache_params",
    "mamba2": "cache_params, read in chunks of a scan",
    "falcon_mamba": "cache_params",
    "rwkv": "state",
    "recurrent_gemma": "states in the network's own modules",
    "bamba": "states beside keys and values",
    "jamba": "states beside keys and values",
    "zamba": "states beside keys and values",
    "zamba2": "both in one layer",
    "lfm2": "convolutions",
    "qwen3_next": "gated delta nets",
    "minimax": "a cache of its own class",
    "cpmant": "the whole text in each call, beside a cache",
    "xlnet": "mems",
    "xlm": "nothing, and a mask at the end",
    "openai-gpt": "nothing",
    "roberta": "positions counted from the tokens",
}

FORCED = ("xlnet", "cpmant", "xlm", "bamba", "zamba", "zamba2")
"""The last row of these is all they give, or a row is not what it was when more of the text stands behind it."""

WINDOWS = {"moshi": "sliding_window", "doge": "keep_window_size"}
"""Numbers that are to lie between the short prompt and the long one."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()


def network(name: str, listed: names.ListName = "causal") -> Any:
    from transformers import AutoModelForCausalLM

    (architecture,) = names.chosen(listed, (name,))
    if name in WINDOWS:
        made = AutoModelForCausalLM.from_config(sizes.configuration(architecture, {WINDOWS[name]: 96}))
    else:
        made = networks.build(architecture)
    networks.randomise(made.float())
    return made.eval()


def judged(made: Any, ids: Sequence[int], count: int) -> list[int]:
    """What ``generate`` says on a network that has read nothing yet; ends are switched off for both."""
    import torch
    from transformers import GenerationConfig

    fresh = copy.deepcopy(made)
    fresh.generation_config = GenerationConfig()
    given = torch.tensor([list(ids)])
    with torch.inference_mode():
        found = fresh.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=count, pad_token_id=0
        )
    return [int(token) for token in found[0, len(ids) :]]


def opened(made: Any) -> Any:
    from playground.runtimes.torch.causal import TorchEngine

    return TorchEngine(copy.deepcopy(made))


def answer(engine: Engine, ids: Sequence[int], count: int) -> list[int]:
    """Greedy, with the prompt handed over as the loop does."""
    engine.reset(len(ids) + count)
    part = engine.chunk if engine.reads_in_parts(len(ids)) else len(ids)
    for start in range(0, len(ids), part):
        logits = engine.prefill(ids[start : start + part])
    said = [int(logits.argmax())]
    while len(said) < count:
        said.append(int(engine.step(said[-1]).argmax()))
    return said


@pytest.mark.parametrize("name", KINDS, ids=[f"{name}: {kind}" for name, kind in KINDS.items()])
def test_greedy_answers_are_those_of_generate_and_of_a_fresh_network_each_time(name: str) -> None:
    made = network(name)
    engine = opened(made)
    short, long = judged(made, SHORT, 8), judged(made, LONG, 8)
    assert answer(engine, SHORT, 8) == short
    assert answer(engine, LONG, 8) == long
    assert answer(engine, SHORT, 8) == short


@pytest.mark.parametrize("name", KINDS, ids=[f"{name}: {kind}" for name, kind in KINDS.items()])
def test_texts_scored_at_once_have_the_figures_of_their_beginnings_or_are_forced_token_by_token(name: str) -> None:
    engine = opened(network(name))
    starts, texts = (30, 0, 0), (tuple(LONG[:40]), (*LONG[:38], 30, 31), tuple(LONG[:20]))
    scored = IdsScorer(PrefixCache(engine)).score(ScoreIds(texts, starts=starts), lambda: False, lambda _: None)
    assert engine.rows_hold() == (name not in FORCED)
    for text, start, found in zip(texts, starts, scored.logprobs, strict=True):
        first = max(start, 1)
        for place in range(first, len(text), 7):
            engine.reset(len(text))
            row = engine.prefill(text[: first if name in FORCED else place])
            for token in text[first:place] if name in FORCED else ():
                row = engine.step(token)
            true = Row(row, 0).of(text[place]).logprob
            assert found[place - start] == pytest.approx(true, abs=2e-3)


@pytest.mark.parametrize("name", ["paligemma", "qwen2_vl", "gemma3"])
def test_a_network_that_also_sees_answers_text_alone_as_generate_does(name: str) -> None:
    made = network(name, "image-text")
    engine = opened(made)
    for ids in (SHORT, LONG, SHORT):
        assert answer(engine, ids, 8) == judged(made, ids, 8)


# -- parts of a prompt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "listed", "short", "long"),
    [
        ("llama", "causal", True, True),
        ("gemma3_text", "causal", True, False),  # beyond the window
        ("recurrent_gemma", "causal", False, False),
        ("xlm", "causal", False, False),
        ("paligemma", "image-text", False, False),  # its prompt looks ahead
    ],
)
def test_a_prompt_is_read_in_parts_only_where_that_changes_nothing(
    name: str, listed: names.ListName, short: bool, long: bool
) -> None:
    engine = opened(network(name, listed))
    assert (engine.reads_in_parts(len(SHORT)), engine.reads_in_parts(len(LONG))) == (short, long)


def test_a_network_that_numbers_each_part_from_0_is_found_out() -> None:
    made = network("llama")
    prepare = type(made).prepare_inputs_for_generation

    class Forgetful(type(made)):  # type: ignore[misc]
        def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> Any:
            inputs = prepare(self, input_ids, **kwargs)
            count = inputs["input_ids"].shape[1]
            if count > 1:
                inputs["position_ids"] = inputs["position_ids"] * 0 + inputs["position_ids"].new_tensor(range(count))
            return inputs

    made.__class__ = Forgetful
    engine = opened(made)
    assert not engine.reads_in_parts(len(LONG))
    assert answer(engine, LONG, 6) == judged(made, LONG, 6)


# -- going back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_what_is_gone_on_from_is_what_was_read(name: str) -> None:
    made = network(name)
    engine = opened(made)
    answer(engine, [*LONG[:200], *SHORT], 5)
    assert engine.rewind(200, 400)
    assert int(engine.prefill(LONG[200:]).argmax()) == judged(made, LONG, 1)[0]


def test_a_window_can_be_gone_back_in_until_it_is_full() -> None:
    made = network("gemma3_text")
    engine = opened(made)
    answer(engine, LONG[:40], 5)
    assert engine.rewind(20, 400)
    assert int(engine.prefill(LONG[100:120]).argmax()) == judged(made, LONG[:20] + LONG[100:120], 1)[0]
    answer(engine, LONG, 5)
    assert not engine.rewind(20, 400)


@pytest.mark.parametrize("name", ["mamba", "bamba", "recurrent_gemma", "xlnet", "openai-gpt", "moshi", "doge"])
def test_what_can_not_go_back_says_no(name: str) -> None:
    engine = opened(network(name))
    answer(engine, LONG, 3)
    assert not engine.rewind(200, 400)


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("reuse", [True, False], ids=["kept", "read again"])
def test_an_answer_that_was_cut_goes_on_as_generate_would_have(name: str, reuse: bool) -> None:
    """Whatever the network keeps: it stands behind the last token it read, and nothing is taken back."""
    made = network(name)
    cache = PrefixCache(opened(made))
    engine, whole = cache.engine, judged(made, SHORT, 10)
    cache.begin(SHORT, len(SHORT) + 4, reuse=False)
    part = engine.chunk if engine.reads_in_parts(len(SHORT)) else len(SHORT)
    for start in range(0, len(SHORT), part):
        logits = cache.prefill(SHORT[start : start + part])
    for token in whole[:3]:
        assert int(logits.argmax()) == token
        logits = cache.step(token)
    kept = cache.begin(SHORT, len(SHORT) + 10, reuse, whole[:4])
    assert kept in (0, len(SHORT) + 3) and (reuse or not kept)
    if name in ("llama", "gemma3_text", "doge", "moshi", "bamba", "lfm2"):
        assert kept == (len(SHORT) + 3 if reuse else 0)
    if not kept:
        logits = cache.prefill(SHORT)
    said = list(whole[:4])
    for token in said[max(0, kept - len(SHORT)) :]:
        logits = cache.step(token)
    while len(said) < len(whole):
        said.append(int(logits.argmax()))
        logits = cache.step(said[-1])
    assert said == whole


# -- Stop -----------------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_read_at_once_is_interrupted_and_leaves_nothing_behind() -> None:
    made = network("bamba")
    engine = opened(made)
    layers = copy.copy(engine._model.model.layers)
    reached: list[int] = []
    layers[1].register_forward_pre_hook(lambda *_: (reached.append(1), engine.interrupt())[0])
    layers[2].register_forward_pre_hook(lambda *_: reached.append(2))
    engine.reset(400)
    with pytest.raises(Interrupted):
        engine.prefill(LONG)
    assert reached == [1]
    for layer in layers:
        layer._forward_pre_hooks.clear()
    assert answer(engine, LONG, 6) == judged(made, LONG, 6)


@pytest.mark.alone
def test_stop_from_another_thread_ends_a_long_prompt_early() -> None:
    engine = opened(network("openai-gpt"))
    engine.reset(400)
    for layer in engine._model.transformer.h:
        layer.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    threading.Timer(0.1, engine.interrupt).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        engine.prefill(LONG)
    assert time.monotonic() - began < 0.2 * len(engine._model.transformer.h)


# -- rotary factors that depend on the length -------------------------------------------------------------------------

FIRST = 160
"""Tokens the networks below were "trained" for."""
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": FIRST,
    "short_factor": [1.0] * 5 + [1.1, 1.2, 1.3],
    "long_factor": [1.0, 1.5, 2.5, 5.0, 9.0, 17.0, 33.0, 60.0],
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
_MIXED = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": _DYNAMIC}
ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope, of the class that computes its cache anew": (
        "phi3",
        {"rope_parameters": _LONGROPE, "original_max_position_embeddings": FIRST, "sliding_window": None},
    ),
    "longrope, of a class that does not": ("llama", {"rope_parameters": _LONGROPE}),
    "dynamic": ("llama", {"rope_parameters": _DYNAMIC, "max_position_embeddings": FIRST}),
    "dynamic in some layers": (
        "gemma3_text",
        {
            "rope_parameters": _MIXED,
            "max_position_embeddings": FIRST,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 50,
            "head_dim": 16,
        },
    ),
}


def rotary(model_type: str, changes: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0, "tie_word_embeddings": False}
    made: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(sizes | heads | ends | changes)))
    torch.manual_seed(1)
    networks.randomise(made.float())
    return made.eval()


@pytest.mark.parametrize("kind", ROPES)
def test_factors_are_those_of_the_same_call_of_generate(kind: str) -> None:
    """Below the first length, across it while answering, beyond it from the start, and below it once more."""
    made = rotary(*ROPES[kind])
    engine = opened(made)
    for prompt, count in ((50, 6), (FIRST - 4, 10), (FIRST, 4), (FIRST + 1, 4), (300, 6), (FIRST - 20, 6)):
        assert answer(engine, LONG[:prompt], count) == judged(made, LONG[:prompt], count), (prompt, count)


def test_a_text_that_crossed_the_length_can_not_be_gone_on_from() -> None:
    engine = opened(rotary(*ROPES["longrope, of the class that computes its cache anew"]))
    answer(engine, LONG[:120], 10)
    assert engine.rewind(100, 400)
    answer(engine, LONG[:120], 60)
    assert not engine.rewind(100, 400)
    assert engine.reads_in_parts(FIRST) and not engine.reads_in_parts(FIRST + 1)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_scaling": None, "max_position_embeddings": 4096}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 8}}, None),
        ({"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 8}}, None),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 4096}}, 4096),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
        (
            {
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default"},
                    "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 512},
                }
            },
            512,
        ),
    ],
)
def test_the_length_up_to_which_factors_are_the_same_is_read_from_the_configuration(
    config: dict[str, Any], length: int | None
) -> None:
    assert steady_length(config) == length


# -- what a reader is told ------------------------------------------------------------------------------------------


def written(made: Any, folder: Path) -> LoadSpec:
    tiny.write_tokenizer(folder, template=None)
    made.save_pretrained(folder)
    return LoadSpec(tiny.spec("base"), tiny.artifact(folder, "torch"), threads=1)


def last(runtime: Any, request: Request) -> ModelRun:
    run = list(runtime.generate(request, lambda: False))[-1].run
    assert run is not None
    return run


@pytest.mark.parametrize(("name", "can"), [("llama", True), ("mamba", False)])
def test_reuse_that_was_asked_for_and_can_not_be_is_said(name: str, can: bool, tmp_path: Path) -> None:
    runtime = create_runtime("torch")
    runtime.load(written(network(name), tmp_path))
    said = [last(runtime, Request("the quick brown fox", max_new_tokens=3, reuse=True)) for _ in range(2)]
    assert said[0].token_ids == said[1].token_ids
    assert [READ_AGAIN in run.warnings for run in said] == [False, not can]
    assert bool(said[1].timings.reused_tokens) == can
    assert READ_AGAIN not in last(runtime, Request("the quick brown fox", max_new_tokens=3)).warnings


def test_a_network_that_needs_an_image_is_refused_in_words(tmp_path: Path) -> None:
    load = written(network("blip-2", "image-text"), tmp_path)
    with pytest.raises(RunError, match=r"tiny@torch-fp32: .*text alone"):
        create_runtime("torch").load(load)


def test_a_graph_says_where_its_context_ends_and_who_reads_more(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import json

    source = tiny.write_model(tmp_path_factory.mktemp("source"))
    folder = tiny.write_fused(source, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = _LONGROPE
    (folder / "config.json").write_text(json.dumps(config))
    runtime = create_runtime("onnx")
    runtime.load(LoadSpec(tiny.spec("base"), tiny.artifact(folder, "onnx"), threads=1))
    told: Callable[[ModelRun], bool] = lambda run: any("torch-fp32" in warning for warning in run.warnings)  # noqa: E731

    assert not told(last(runtime, Request("the fox", max_new_tokens=4)))
    cut = last(runtime, Request("the fox " * 30, max_new_tokens=500))
    assert told(cut) and cut.timings.prompt_tokens + cut.timings.output_tokens <= FIRST
    with pytest.raises(ContextOverflow, match=r"context of 160 tokens.*torch-fp32"):
        list(runtime.generate(Request("the fox " * 300), lambda: False))
