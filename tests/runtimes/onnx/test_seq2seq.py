"""Encoder-decoder models on both runtimes: the prompt is encoded once, the answer is a sequence of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, processors

from playground.catalog.entries import Catalog
from playground.errors import ContextOverflow
from playground.export.weights import import_model
from playground.records import Event, LoadSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.generation.engine import Engine
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.onnx.file import GraphError
from playground.runtimes.onnx.runtime import open_engine
from playground.runtimes.onnx.seq2seq import EncoderDecoderEngine, decoder_start
from tests.support import tiny

CONTEXT = 64
START = 1


def write_tokenizer(folder: Path) -> Path:
    """The tiny tokenizer, which here puts its end token behind a text, as T5's does."""
    tiny.write_tokenizer(folder, template=None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <|eos|>", special_tokens=[("<|eos|>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer T5 with a vocabulary of 384."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = write_tokenizer(tmp_path_factory.mktemp("t5"))
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=tiny.VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        n_positions=CONTEXT,
        decoder_start_token_id=START,
        pad_token_id=2,
        eos_token_id=0,
        initializer_factor=4.0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def load_spec(folder: Path, runtime: str) -> LoadSpec:
    return LoadSpec(tiny.spec("text2text", CONTEXT), tiny.artifact(folder, runtime), threads=1)


def greedy(engine: Engine, ids: list[int], count: int) -> list[int]:
    engine.reset(len(ids) + count)
    found = [int(engine.prefill(ids).argmax())]
    while len(found) < count:
        found.append(int(engine.step(found[-1]).argmax()))
    return found


def test_torch_decodes_what_transformers_generates(t5: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    runtime = create_runtime("torch")
    runtime.load(load_spec(t5, "torch"))
    engine = runtime._loaded.engine  # type: ignore[attr-defined]
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(t5, dtype=torch.float32)
    answers = []
    for prompt in ("the quick brown fox", "jumps over the lazy dog and the capital"):
        ids = list(runtime.inspect(Request(prompt)).token_ids)
        expected = model.generate(torch.tensor([ids]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
        answers.append(expected[0, 1:].tolist())
        engine.reset(0)
        logits = engine.prefill(ids)
        assert engine.starts_with == (START,)
        reference = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[START]])).logits[0, -1]
        np.testing.assert_allclose(logits, reference.detach().numpy(), atol=1e-4)
        free = model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=-1)
        assert greedy(engine, ids, 16) == free[0, 1:].tolist()
    assert answers[0] != answers[1], "the prompt matters"


def test_the_prompt_ends_with_the_tokenizers_end_and_takes_no_room_from_the_answer(t5: Path) -> None:
    prompter = Prompter(t5, tiny.spec("text2text", CONTEXT))
    request = Request("the quick brown fox", max_new_tokens=CONTEXT)
    view = prompter.view(request)
    assert view.token_ids[-1] == 0 and view.rendered == "the quick brown fox<|eos|>"
    assert view.token_ids.count(0) == 1
    assert prompter.view(Request("the quick brown fox<|eos|>")).token_ids.count(0) == 1
    assert not any("cut to" in warning for warning in view.warnings)
    assert prompter.fit(view, request) == CONTEXT
    with pytest.raises(ContextOverflow):
        prompter.fit(prompter.view(Request("日本語" * CONTEXT)), request)


def test_what_the_tokenizer_puts_behind_a_prompt_does_not_depend_on_the_kind(t5: Path) -> None:
    assert Prompter(t5, tiny.spec("base", CONTEXT)).view(Request("the quick brown fox")).token_ids[-1] == 0


def test_an_answer_streams_and_its_text_holds_nothing_of_the_prompt(t5: Path) -> None:
    runtime = create_runtime("torch")
    runtime.load(load_spec(t5, "torch"))
    events: list[Event] = list(runtime.generate(Request("the quick brown fox", max_new_tokens=8), lambda: False))
    run = events[-1].run
    assert run is not None
    assert [event.progress for event in events if event.kind == "prefill"] == [0.0, 1.0]
    assert "".join(event.text for event in events if event.kind == "token") == run.text
    assert run.timings.output_tokens is not None and run.timings.output_tokens <= 8


def test_the_repetition_penalty_looks_at_the_answer_not_at_the_prompt(t5: Path) -> None:
    """As transformers' generate, which penalises what the decoder has written."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    runtime = create_runtime("torch")
    runtime.load(load_spec(t5, "torch"))
    request = Request("the quick brown fox jumps", max_new_tokens=12, repetition_penalty=1.8)
    ids = torch.tensor([runtime.inspect(request).token_ids])
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(t5, dtype=torch.float32)
    expected = model.generate(ids, max_new_tokens=12, do_sample=False, repetition_penalty=1.8)[0, 1:].tolist()
    run = list(runtime.generate(request, lambda: False))[-1].run
    assert run is not None
    prompter = runtime._loaded.prompter  # type: ignore[attr-defined]
    assert run.text == prompter.detokenizer.decode(expected)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.4, "forced_bos_token_id": 40, "forced_eos_token_id": 0},
        {"num_beams": 4, "min_length": 9, "encoder_no_repeat_ngram_size": 2, "suppress_tokens": [41, 99]},
    ],
    ids=["plain", "penalties", "beams"],
)
def test_a_folder_by_any_name_answers_as_generate_on_its_own_files(t5: Path, tmp_path: Path, own: Any) -> None:
    """From ``path:`` to the tokens: kind, prompt ids, decoder start and settings are the files' own."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    source = shutil.copytree(t5, tmp_path / "source")
    written = json.loads((source / "generation_config.json").read_text())
    (source / "generation_config.json").write_text(json.dumps(written | own))
    spec, variant = Catalog(()).resolve(f"path:{source}@torch-fp32")
    assert spec.kind == "text2text"
    imported = tmp_path / "imported"
    imported.mkdir()
    import_model(spec, tuple(sorted(source.iterdir())), imported, lambda *_: None)
    runtime = create_runtime("torch")
    runtime.load(LoadSpec(spec, replace(tiny.artifact(imported, "torch"), variant=variant), threads=1))
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(source, dtype=torch.float32)
    for text in ("the quick brown fox", "jumps over the lazy dog, jumps over the lazy dog", "日本語"):
        view = runtime.inspect(Request(text))
        ids = tokenizer(text, return_tensors="pt")
        assert list(view.token_ids) == ids.input_ids[0].tolist()
        run = list(runtime.generate(Request(text, max_new_tokens=14), lambda: False))[-1].run
        assert run is not None
        wanted = model.generate(**ids, max_new_tokens=14, do_sample=False, num_beams=1)[0, 1:].tolist()
        assert list(run.token_ids or ()) == wanted
        assert any("num_beams 4: beam search is not served" in warning for warning in run.warnings) == (
            "num_beams" in own
        )


@pytest.mark.parametrize(
    ("own", "config", "start"),
    [
        ({"decoder_start_token_id": 7, "bos_token_id": 3}, {"decoder_start_token_id": 9}, 7),
        ({"decoder_start_token_id": [7]}, {}, 7),
        ({"bos_token_id": 3}, {"decoder_start_token_id": 9}, 3),
        (None, {"decoder_start_token_id": 9, "bos_token_id": 3}, 9),
        (None, {"bos_token_id": 3}, 3),
        (None, {"decoder": {"bos_token_id": 4}}, 4),
        ({}, {"decoder_start_token_id": 9}, 9),
    ],
)
def test_the_decoder_starts_with_what_generate_would_take(tmp_path: Path, own: Any, config: Any, start: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if own is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(own))
    assert decoder_start(tmp_path, config) == start


# -- graphs -----------------------------------------------------------------------------------------------------------

WIDTH, VOCAB = 12, tiny.VOCAB


def weights() -> dict[str, Any]:
    random = np.random.default_rng(2)
    shapes = {"embedding": (VOCAB, WIDTH), "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "head": (WIDTH, VOCAB)}
    return {name: random.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


def reference(prompt: list[int], answer: list[int]) -> Any:
    """The decoder below in numpy: the mean of what it wrote asks the encoder's states. Logits behind ``answer``."""
    w = weights()
    states = np.tanh(w["embedding"][prompt])
    x = w["embedding"][answer].mean(0)
    scores = (x @ w["q"]) @ (states @ w["k"]).T
    share = np.exp(scores - scores.max())
    return (x + (share / share.sum()) @ states @ w["k"]) @ w["head"]


def write_graphs(folder: Path, merged: bool) -> Path:
    write_tokenizer(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "t5", "decoder_start_token_id": START, "d_kv": WIDTH})
    )
    encode = [node("Gather", ["embedding", "input_ids"], "x"), node("Tanh", ["x"], "last_hidden_state")]
    masks = [("input_ids", ["batch", "s"], TensorProto.INT64), ("attention_mask", ["batch", "s"], TensorProto.INT64)]
    states = ("last_hidden_state", ["batch", "s", WIDTH], TensorProto.FLOAT)
    save(folder / "encoder_model.onnx", encode, masks, [states])
    if merged:
        save_decoder(folder / "decoder_model_merged.onnx", has_past=True, has_encoder=True)
    else:
        save_decoder(folder / "decoder_model.onnx", has_past=False, has_encoder=True)
        save_decoder(folder / "decoder_with_past_model.onnx", has_past=True, has_encoder=False)
    return folder


def save_decoder(path: Path, has_past: bool, has_encoder: bool) -> None:
    """Its own past is every embedding it read; that of cross-attention the encoder's keys.

    The merged one gives rubbish for the latter in its branch with a past, as optimum's do.
    """
    own, cross = "past_key_values.0.decoder.key", "past_key_values.0.encoder.key"
    cache = ["batch", 1, "past_decoder_sequence_length", WIDTH]
    inputs: list[Any] = [("input_ids", ["batch", "n"], TensorProto.INT64)]
    inputs.append(("encoder_attention_mask", ["batch", "s"], TensorProto.INT64))
    nodes = [node("Gather", ["embedding", "input_ids"], "e"), node("Unsqueeze", ["e", "one"], "new")]
    outputs: list[Any] = [("logits", ["batch", 1, VOCAB], TensorProto.FLOAT)]
    outputs.append(("present.0.decoder.key", cache, TensorProto.FLOAT))
    if has_encoder:
        inputs.append(("encoder_hidden_states", ["batch", "s", WIDTH], TensorProto.FLOAT))
        outputs.append(("present.0.encoder.key", ["batch", 1, "s", WIDTH], TensorProto.FLOAT))
        nodes += [node("MatMul", ["encoder_hidden_states", "k"], "k3"), node("Unsqueeze", ["k3", "one"], "computed")]
    if has_past:
        inputs += [
            (own, cache, TensorProto.FLOAT),
            (cross, ["batch", 1, "encoder_sequence_length", WIDTH], TensorProto.FLOAT),
        ]
    if has_past and has_encoder:
        inputs.append(("use_cache_branch", [1], TensorProto.BOOL))
        nodes += [chosen("keys", "computed", cross), chosen("present.0.encoder.key", "computed", "rubbish")]
    elif has_past:
        nodes.append(node("Identity", [cross], "keys"))
    else:
        nodes += [node("Identity", ["computed"], name) for name in ("keys", "present.0.encoder.key")]
    whole = node("Concat", [own, "new"], "present.0.decoder.key", axis=2)
    nodes += [
        whole if has_past else node("Identity", ["new"], "present.0.decoder.key"),
        node("ReduceMean", ["present.0.decoder.key"], "x", axes=[2], keepdims=1),
        node("MatMul", ["x", "q"], "asked"),
        node("Transpose", ["keys"], "turned", perm=[0, 1, 3, 2]),
        node("MatMul", ["asked", "turned"], "scores"),
        node("Softmax", ["scores"], "share", axis=-1),
        node("MatMul", ["share", "keys"], "mixed"),
        node("Add", ["x", "mixed"], "y"),
        node("MatMul", ["y", "head"], "z"),
        node("Squeeze", ["z", "one"], "logits"),
    ]
    save(path, nodes, inputs, outputs)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def chosen(output: str, without: str, with_past: str) -> onnx.NodeProto:
    """``with_past`` where use_cache_branch is set, else ``without``."""
    branches = []
    for name in (with_past, without):
        made = f"{output}_{name}"
        value = helper.make_tensor_value_info(made, TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node("Identity", [name], made)], "branch", [], [value]))
    return helper.make_node(
        "If", ["use_cache_branch"], [output], then_branch=branches[0], else_branch=branches[1], name=output
    )


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any]) -> None:
    tensors = weights() | {"one": np.array([1]), "rubbish": np.zeros((0, 1, 1, WIDTH), np.float32)}
    used = {name for each in nodes for name in each.input} | {"rubbish"}
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape, kind in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape, kind in outputs],
        [numpy_helper.from_array(array, name) for name, array in tensors.items() if name in used],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "two files"])
def test_decoder_graphs_compute_what_numpy_computes(tmp_path: Path, merged: bool) -> None:
    engine = open_engine(write_graphs(tmp_path, merged), threads=1)
    assert isinstance(engine, EncoderDecoderEngine) and engine.starts_with == (START,)
    for prompt in ([5, 9, 30], [7, 7, 41, 2, 8]):
        engine.reset(20)
        written = [START]
        np.testing.assert_allclose(engine.prefill(prompt), reference(prompt, written), atol=1e-4)
        for token in (3, 17, 44):
            written.append(token)
            np.testing.assert_allclose(engine.step(token), reference(prompt, written), atol=1e-4)
    engine.close()


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "two files"])
def test_an_answer_that_was_cut_is_gone_on_with_from_what_the_decoder_holds(tmp_path: Path, merged: bool) -> None:
    runtime = create_runtime("onnx")
    runtime.load(load_spec(write_graphs(tmp_path, merged), "onnx"))

    def said(request: Request) -> Any:
        return list(runtime.generate(request, lambda: False))[-1].run

    whole = said(Request("a b c", max_new_tokens=12, min_new_tokens=12))
    for at in (1, 5):
        first = said(Request("a b c", max_new_tokens=at, min_new_tokens=at))
        rest = Request("a b c", max_new_tokens=12 - at, min_new_tokens=12 - at, answer_ids=first.token_ids, reuse=True)
        kept, anew = said(rest), said(replace(rest, reuse=False))
        assert kept.token_ids == anew.token_ids == whole.token_ids
        assert kept.timings.reused_tokens == first.timings.prompt_tokens + at - 1
        assert anew.timings.reused_tokens == 0
    other = replace(rest, prompt="a b")
    assert said(other).timings.reused_tokens == 0, "another prompt has other keys and values"
    runtime.close()


def test_the_same_ids_cut_elsewhere_into_prompt_and_answer_are_no_continuation(tmp_path: Path) -> None:
    engine = open_engine(write_graphs(tmp_path, merged=True), threads=1)
    cache = PrefixCache(engine)
    cache.begin([5, 9, 30], 20, reuse=True)
    cache.prefill([5, 9, 30])
    cache.step(3)
    assert cache.begin([5, 9], 20, True, answer=[30, 3, 8]) == 0
    engine.close()


def test_settings_of_the_files_are_obeyed_over_graphs_too(tmp_path: Path) -> None:
    folder = write_graphs(tmp_path, merged=True)
    plain = greedy_run(folder, {})
    banned = plain[1]
    own = {"forced_bos_token_id": 33, "no_repeat_ngram_size": 1, "suppress_tokens": [banned], "min_new_tokens": 8}
    tokens = greedy_run(folder, own)
    assert tokens[0] == 33 and banned not in tokens and len(set(tokens)) == len(tokens) == 10
    assert START not in tokens, "what the decoder starts with is a part of its sequence"


def greedy_run(folder: Path, own: dict[str, Any]) -> list[int]:
    (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": START} | own))
    runtime = create_runtime("onnx")
    runtime.load(load_spec(folder, "onnx"))
    run = list(runtime.generate(Request("a", max_new_tokens=10, min_new_tokens=10), lambda: False))[-1].run
    runtime.close()
    assert run is not None and run.token_ids is not None
    return list(run.token_ids)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("decoder_with_past_model.onnx"), "no decoder_model_merged.onnx, nor decoder_with_past_model.onnx"),
        (lambda folder: (folder / "config.json").write_text("{}"), "which token the decoder starts with"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(write_graphs(tmp_path, merged=False))
    with pytest.raises(GraphError, match=message):
        open_engine(tmp_path, threads=1)
