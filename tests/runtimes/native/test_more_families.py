"""Families whose operators came later: by the kernels they are what torch computes of the original, and what ONNX
Runtime computes of the same graph, however their tokens come in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playground.export import kernels as own_kernels
from playground.export import pipeline
from playground.kernels import building
from playground.kernels.building import Built
from playground.kernels.layout import LATER
from playground.kernels.library import Kind
from playground.records import Artifact, ModelSpec, Variant
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.own_library import recorded
from playground.runtimes.native.program import Program
from playground.runtimes.onnx.runtime import open_engine
from tests.families.bank import Bank
from tests.families.builders import write
from tests.families.table import FAMILIES as SERVED
from tests.families.table import WINDOW, Family
from tests.support import kernel_graphs, kernel_sets, tiny

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("more-families"),
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]

Array = NDArray[Any]
IDS = [(11 * place + 3) % tiny.VOCAB for place in range(400)]
STEPS = 60

FACTORS = {
    "key_multiplier": 12.0, "ssm_multipliers": [0.7, 1.5, 0.8, 1.2, 0.9], "ssm_in_multiplier": 1.2,
    "ssm_out_multiplier": 0.8, "attention_in_multiplier": 0.9, "attention_out_multiplier": 0.7,
    "mlp_multipliers": [0.8, 0.65], "embedding_multiplier": 2.0, "lm_head_multiplier": 0.5,
}  # fmt: skip
"""Keys by so much that it shows: by numbers around one these random weights look at all tokens alike."""
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_expand": 2, "mamba_n_groups": 1}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16, "linear_value_head_dim": 32,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
"""A gated delta rule whose keys serve two heads of values each, and a layer of attention."""
EXPERTS = {
    "num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
}  # fmt: skip
"""All of them for each token: where few random experts are chosen from, one choice that falls otherwise moves much."""
BY_POSITION = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 11.0, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.5,
}  # fmt: skip
"""Angles and a factor of queries that change every 64 positions."""

FAMILIES = {
    each.name: each
    for each in (
        Family("gemma-2", "Gemma 2 2B", "scores and logits that are capped", "gemma2",
               {"head_dim": 32, "num_key_value_heads": 1, "sliding_window": WINDOW, "query_pre_attn_scalar": 32,
                "layer_types": ["sliding_attention", "full_attention"], "tie_word_embeddings": True,
                "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0},
               loud=True),
        Family("phi", "Phi-1.5, Phi-2", "norms around the mean, biases everywhere, angles of a part of a head", "phi",
               {"hidden_size": 128, "num_key_value_heads": 4, "pad_token_id": 0, "partial_rotary_factor": 0.5}),
        Family("hunyuan", "HunYuan 0.5B", "norms of queries and keys that were turned", "hunyuan_v1_dense",
               {"head_dim": 16, "pad_token_id": 0,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
        Family("ministral-3", "Ministral 3", "queries multiplied by a number of their position", "ministral3",
               {"head_dim": 16, "pad_token_id": 0, "rope_parameters": BY_POSITION}),
        next(each for each in SERVED if each.name == "lfm-2"),
        Family("granite-hybrid", "Granite 4.0 H", "Mamba 2 beside attention, norms behind a gate", "granitemoehybrid",
               {**MAMBA, "num_local_experts": 0, "shared_intermediate_size": 128, "pad_token_id": 0,
                "layer_types": ["mamba", "attention"], "position_embedding_type": "nope", "logits_scaling": 3.0,
                "embedding_multiplier": 4.0, "residual_multiplier": 0.6, "attention_multiplier": 0.2}),
        Family("falcon-h1", "Falcon H1", "attention and Mamba 2 in each layer, factors of everything", "falcon_h1",
               {**MAMBA, **FACTORS, "mamba_d_ssm": 128, "pad_token_id": 0}),
        Family("falcon-h1-norm", "Falcon H1 1.5B", "norms in front of a gate", "falcon_h1",
               {**MAMBA, "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_rms_norm": True,
                "pad_token_id": 0}),
        Family("qwen-3.5", "Qwen 3.5", "a delta rule, and each head's queries beside its gate in one product",
               "qwen3_5_text", {**DELTA, "head_dim": 64}),
        Family("qwen-3.5-moe", "Qwen 3.5 35B A3B", "the same with experts, one of them shared", "qwen3_5_moe_text",
               {**DELTA, **EXPERTS, "head_dim": 64}),
        Family("qwen-3-next", "Qwen 3 Next", "queries, keys, values and gates by turns in one product", "qwen3_next",
               {**DELTA, **EXPERTS, "head_dim": 64}),
        Family("nemotron-h", "Nemotron H", "steps of time that are not shorter than one", "nemotron_h",
               {"layers_block_type": ["mamba", "attention", "mlp"], "num_hidden_layers": 3, "mamba_num_heads": 8,
                "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "head_dim": 16, "pad_token_id": 0,
                "time_step_limit": [0.6, float("inf")]}),
        Family("olmo-hybrid", "OLMo hybrid", "a delta rule of three products side by side", "olmo_hybrid",
               {**DELTA, "head_dim": 32, "pad_token_id": 0}),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A family's model, what was made of it, and torch's logits behind each of ``IDS`` but the first 200."""

    source: Path
    artifact: Artifact
    expected: Array

    @property
    def folder(self) -> Path:
        return Path(self.artifact.path)

    def engine(self, change: Callable[[Program], None] = lambda _: None, threads: int = 2) -> KernelEngine:
        library = own_kernels.built(self.folder) or recorded(self.folder)
        assert library is not None
        program = read_program(self.folder / "model.onnx")
        change(program)
        return open_kernels(library, program, threads)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, bank: Bank) -> Callable[[str], Made]:
    """Each family once, in whatever order tests ask for them."""
    import torch
    from transformers import AutoModelForCausalLM

    @cache
    def made(name: str) -> Made:
        if FAMILIES[name] in SERVED:
            source, artifact = bank.model(FAMILIES[name]), bank.artifact(FAMILIES[name], "int8")
        else:
            source = write(FAMILIES[name], tmp_path_factory.mktemp("model"))
            spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
            home = tmp_path_factory.mktemp("home")
            artifact = pipeline.make(spec, Variant("tiny", "onnx", "int8"), home, lambda *_: None, lambda: False)
        network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        with torch.no_grad():
            expected = network(torch.tensor([IDS])).logits[0, 200:].numpy()
        return Made(source, artifact, expected)

    return made


@pytest.fixture(scope="module", params=list(FAMILIES))
def made(request: pytest.FixtureRequest, make: Callable[[str], Made]) -> Made:
    return make(request.param)


def logits(engine: Any, parts: list[int]) -> Array:
    """Behind a prompt of 201 tokens that is read in ``parts``, and behind each of the rest, one by one."""
    engine.reset(len(IDS))
    start = 0
    for part in parts:
        row = engine.prefill(IDS[start : start + part])
        start += part
    rows = [row.copy()]
    rows += [engine.step(token).copy() for token in IDS[start : start + STEPS]]
    return np.stack(rows)


def divergence(expected: Array, found: Array) -> float:
    pairs = zip(expected.astype(np.float64), found.astype(np.float64), strict=False)
    return float(np.mean([kl_divergence(one, other) for one, other in pairs]))


def test_the_kernels_compute_it_and_it_is_faithful(made: Made) -> None:
    assert made.artifact.engine.startswith("kernels"), made.artifact.engine_note
    assert made.artifact.fidelity is not None and made.artifact.fidelity.verdict == "faithful"


def test_logits_and_tokens_are_torchs_as_far_as_int8_goes(made: Made) -> None:
    engine = made.engine()
    found = logits(engine, [201])
    assert divergence(made.expected, found) < 8e-3
    assert np.mean(found.argmax(-1) == made.expected[: len(found)].argmax(-1)) > 0.88
    engine.close()


def test_logits_are_onnxruntimes_on_the_same_graph(made: Made) -> None:
    engine, theirs = made.engine(), open_engine(made.folder, 1)
    assert theirs.name == "onnxruntime"
    assert divergence(logits(theirs, [128, 73]), logits(engine, [201])) < 3e-3
    engine.close()


@pytest.mark.parametrize("parts", [[1] * 201, [100, 101], [7] * 28 + [5], [64, 64, 64, 9]])
def test_a_prompt_gives_the_same_bits_however_it_is_cut(made: Made, parts: list[int]) -> None:
    engine = made.engine()
    assert np.array_equal(logits(engine, [201]), logits(engine, parts))
    engine.close()


def test_three_threads_give_the_bits_of_one(made: Made) -> None:
    one, three = made.engine(threads=1), made.engine(threads=3)
    assert np.array_equal(logits(one, [201]), logits(three, [201]))
    one.close()
    three.close()


def test_a_text_is_gone_on_with_and_gone_back_in(made: Made) -> None:
    engine = made.engine()
    expected = logits(engine, [201])
    if engine._program.recurrences:  # whose state is that behind the last token
        assert not engine.rewind(150, 700)
        engine.reset(160)
        engine.prefill(IDS[:150])
    else:
        assert engine.rewind(150, 700)
        engine.prefill(IDS[300:340])  # another text behind the first 150 tokens
    assert engine.rewind(150, 700)
    assert np.array_equal(engine.prefill(IDS[150:201]), expected[0])
    assert np.array_equal(engine.step(IDS[201]), expected[1])
    engine.close()


def test_rows_of_many_positions_are_the_bits_of_one_after_the_other(made: Made) -> None:
    engine = made.engine()
    expected = logits(engine, [201])
    engine.reset(len(IDS))
    rows = [row.copy() for row in engine.rows(IDS[: 201 + STEPS], STEPS + 1)]
    assert np.array_equal(np.stack(rows), expected)
    engine.close()


# -- each of a family's operators counts -----------------------------------------------------------------------------


def uncap_scores(program: Program) -> None:
    program.layers[:] = [replace(layer, softcap=0.0) for layer in program.layers]
    for step in program.steps:
        if step.heads:
            step.heads = replace(step.heads, softcap=0.0)
            step.number = 0.0


def uncap_logits(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.SOFTCAP:
            step.number = 1000.0


def without_biases(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.LAYER_NORM:
            step.tensors = (step.tensors[0], None)


def unturned(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.ROTATE:
            cosine, sine = step.tensors
            assert cosine is not None and sine is not None
            step.tensors = (np.ones_like(cosine), np.zeros_like(sine))


def as_at_first(program: Program) -> None:
    """Each query multiplied by the first position's number."""
    for step in program.steps:
        if step.kind == Kind.GET_ROWS_POS and step.tensors[0] is not None:
            step.tensors = (np.ones_like(step.tensors[0]) * step.tensors[0][0],)


def without_the_last_tokens(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.CAUSAL_CONV and step.tensors[0] is not None:
            table = step.tensors[0].copy()
            table[:-1] = 0
            step.tensors = (table, *step.tensors[1:])


def without_decays(program: Program) -> None:
    """States keep all that ever came into them."""
    for step in program.steps:
        if step.kind == Kind.MUL_ROW and step.tensors[0] is not None and (step.tensors[0] < 0).all():
            step.tensors = (np.zeros_like(step.tensors[0]),)


def without_states(program: Program) -> None:
    """Values are added to what recurrences would have given of them."""
    for step in program.steps:
        if step.kind == Kind.MUL_HEADS:
            step.kind, step.extra, step.inputs, step.number = Kind.SCALE, 0, step.inputs[:1], 0.0


def keys_as_they_are(program: Program) -> None:
    for step in program.steps:
        if step.kind == Kind.SCALE and step.number == 12.0:
            step.number = 1.0


@pytest.mark.parametrize(
    ("made", "change"),
    [
        ("gemma-2", uncap_scores),
        ("gemma-2", uncap_logits),
        ("phi", without_biases),
        ("hunyuan", unturned),
        ("ministral-3", as_at_first),
        ("lfm-2", without_the_last_tokens),
        ("granite-hybrid", without_states),
        ("falcon-h1", without_decays),
        ("falcon-h1", without_states),
        ("falcon-h1-norm", without_states),
        ("falcon-h1", keys_as_they_are),
    ],
    indirect=["made"],
)
def test_without_one_of_its_operators_it_is_another_model(made: Made, change: Callable[[Program], None]) -> None:
    engine = made.engine(change)
    assert divergence(made.expected, logits(engine, [201])) > 0.016
    engine.close()


# -- libraries that were compiled before there were such steps -----------------------------------------------------


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A library without the steps that came later, and which doesn't tell of numbers that are none."""
    folder = tmp_path_factory.mktemp("older")
    source = folder / "source"
    shutil.copytree(building.SOURCE, source)
    for file, right, wrong in (
        *(("constants.h", f"NUMBER({name}),", "") for name in LATER),
        ("constants.h", "NUMBER(KINDS),", f'{{"KINDS", KINDS - {len(LATER)}}},'),
        ("program.c", "long pg_clamped(", "long pg_unknown("),
    ):
        text = (source / file).read_text(encoding="utf-8")
        assert text.count(right) == 1
        (source / file).write_text(text.replace(right, wrong), encoding="utf-8")
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    isa = kernel_sets.sets()[0]
    return Built.of(kernel_sets.compile_c(isa, [*options, "-O1"], source / building.UNIT, folder / building.LIBRARY))


def test_an_older_library_runs_what_it_was_made_for_and_refuses_later_steps(
    older: Built, made: Made, tmp_path: Path
) -> None:
    path = kernel_graphs.write(kernel_graphs.GRAPHS["eight bits"](), tmp_path) / "model.onnx"
    library = own_kernels.built(made.folder) or recorded(made.folder)
    assert library is not None
    one, other = (open_kernels(each, read_program(path), 2) for each in (older, library))
    ids = list(range(60))
    for engine in (one, other):
        engine.reset(61)
    assert np.array_equal(one.prefill(ids), other.prefill(ids)) and np.array_equal(one.step(3), other.step(3))
    assert one.warnings == ()
    one.close()
    other.close()
    with pytest.raises(ValueError, match="an older version's: it has no "):
        open_kernels(older, read_program(made.folder / "model.onnx"), 2)
