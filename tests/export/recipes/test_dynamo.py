"""transformers' own modules, traced with operators in place of attention, norms and rotary angles."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from playground.errors import ExportError
from playground.export.quantization.graph import ROUNDED
from playground.export.recipes.base import Work
from playground.export.recipes.dynamo import build_dynamo, exported
from playground.messages import Translatable
from tests.families.builders import write
from tests.families.table import WINDOW, Family
from tests.support import tiny

torch = pytest.importorskip("torch")
operators = pytest.importorskip("playground.export.recipes.operators")
reasons = pytest.importorskip("playground.export.recipes.reasons")

pytestmark = [pytest.mark.integration, pytest.mark.parallel, pytest.mark.xdist_group("dynamo")]

IDS = np.array([[(11 * place + 3) % tiny.VOCAB for place in range(3 * WINDOW)]])
PIECES = (7, 1, 1, WINDOW, 1, 20)

LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "pad_token_id": 0,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_expand": 2, "mamba_n_groups": 1}

FAMILIES = {
    each.name: each
    for each in (
        Family("olmo-2", "OLMo 2", "norms behind the blocks", "olmo2", {}),
        Family("olmo-3", "OLMo 3", "windows in some layers", "olmo3",
               {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
        Family("phi", "Phi-2", "a part of each head turned", "phi",
               {"hidden_size": 128, "num_key_value_heads": 4, "pad_token_id": 0, "partial_rotary_factor": 0.5}),
        Family("cohere", "Command R", "neighbours turned together", "cohere", {"pad_token_id": 0}),
        Family("ministral-3", "Ministral 3", "queries scaled behind their turn", "ministral3",
               {"pad_token_id": 0, "rope_parameters": {
                   "rope_type": "yarn", "rope_theta": 10000.0, "factor": 11.0, "beta_fast": 32.0, "beta_slow": 1.0,
                   "original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.5}}),
        Family("qwen3-moe", "Qwen 3 30B A3B", "weights of experts that do not add up to one", "qwen3_moe",
               {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "norm_topk_prob": False}),
        Family("starcoder-2", "StarCoder2", "biases everywhere", "starcoder2", {"sliding_window": WINDOW}),
        Family("granite-hybrid", "Granite 4.0 H", "Mamba 2 beside attention, without rotary angles", "granitemoehybrid",
               {**MAMBA, "num_local_experts": 0, "shared_intermediate_size": 128, "pad_token_id": 0,
                "layer_types": ["mamba", "attention"], "position_embedding_type": "nope"}),
        Family("falcon-h1", "Falcon H1", "attention and Mamba 2 in each layer", "falcon_h1",
               {**MAMBA, "mamba_d_ssm": 128, "pad_token_id": 0}),
        Family("qwen-3.5", "Qwen 3.5", "gated delta rules beside gated attention", "qwen3_5_text",
               {"layer_types": ["linear_attention", "full_attention"], "head_dim": 64, "linear_key_head_dim": 16,
                "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}),
        Family("qwen-3-next", "Qwen 3 Next", "queries, keys, values and gates by turns in one product", "qwen3_next",
               {"layer_types": ["linear_attention", "full_attention"], "head_dim": 64, "linear_key_head_dim": 16,
                "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "num_experts": 4,
                "num_experts_per_tok": 2, "moe_intermediate_size": 96, "shared_expert_intermediate_size": 96}),
        Family("minicpm-3", "MiniCPM3 4B", "values narrower than keys, a part of which is turned", "minicpm3",
               {**LATENT, "head_dim": 16, "scale_emb": 2, "dim_model_base": 32}),
        Family("kimi-linear", "Kimi Linear", "a decay for each number of a key, beside latent attention", "kimi_linear",
               {**LATENT, "head_dim": 16, "linear_head_dim": 16, "linear_num_heads": 4, "moe_intermediate_size": 64,
                "layer_types": ["linear_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse"],
                "num_experts": 4, "num_experts_per_token": 2, "model_max_length": tiny.CONTEXT, "topk_group": 1,
                "num_expert_group": 1, "num_shared_experts": 1}),
        Family("flint", "Flint", "sinks, in layers with a window and without", "flint",
               {"head_dim": 16, "sliding_window": WINDOW, "layer_types": ["full_attention", "sliding_attention"],
                "mlp_only_layers": [0, 1]}),
        Family("gemma-3n", "Gemma 3n E2B", "activations cut at a quantile, keys and values of another layer",
               "gemma3n_text",
               {"num_hidden_layers": 6, "head_dim": 16, "activation_sparsity_pattern": [0.95] * 2 + [0.0] * 4,
                "intermediate_size": [128] * 6, "laurel_rank": 8, "hidden_size_per_layer_input": 16,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
                "num_kv_shared_layers": 2, "sliding_window": WINDOW, "vocab_size_per_layer_input": tiny.VOCAB}),
        Family("exaone-4", "EXAONE 4", "heads normed behind a turn of axes", "exaone4",
               {"sliding_window": WINDOW, "sliding_window_pattern": 2, "pad_token_id": 0}),
        Family("mamba", "Mamba", "no attention at all", "mamba", {"state_size": 8, "pad_token_id": 0}),
        Family("gemma-4", "Gemma 4 E2B", "keys and values of another layer", "gemma4_text",
               {"num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 2, "head_dim": 16, "pad_token_id": 0,
                "global_head_dim": 16, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": tiny.VOCAB}),
    )
}  # fmt: skip


def built(family: Family, folder: Path, precision: str = "fp32") -> Path:
    model, target = folder / "model", folder / "graph"
    if not model.exists():
        write(family, model)
    target.mkdir()
    build_dynamo(Work(model, model, target, precision, ROUNDED[precision], folder, lambda *_: None))
    return target / "model.onnx"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The fp32 graph of a family; its network lies in ``model`` beside the graph's folder. Each is traced once."""

    @cache
    def path(name: str) -> Path:
        return built(FAMILIES[name], tmp_path_factory.mktemp(name))

    return path


def logits(path: Path) -> list[NDArray[Any]]:
    """Behind each of ``PIECES``, what is kept between them given back."""
    session = ort.InferenceSession(str(path))
    kept = {each.name: each for each in session.get_inputs() if each.name.startswith("past")}
    state = {name: np.zeros([size if isinstance(size, int) else 0 for size in each.shape], np.float32)
             for name, each in kept.items()}  # fmt: skip
    names = [each.name for each in session.get_outputs()]
    found, done = [], 0
    for size in PIECES:
        given = {
            "input_ids": IDS[:, done : done + size],
            "attention_mask": np.ones((1, done + size), np.int64),
            "position_ids": np.arange(done, done + size)[None],
        }
        known = {each.name for each in session.get_inputs()}
        made = dict(zip(names, session.run(names, {k: v for k, v in given.items() if k in known} | state), strict=True))
        state = {name: made[name.replace("past_key_values", "present")] for name in kept}
        found.append(made["logits"][0, -1])
        done += size
    return found


def expected(folder: Path) -> list[NDArray[Any]]:
    from playground.runtimes.torch.networks import load_network

    with torch.no_grad():
        whole = load_network(folder).model(input_ids=torch.tensor(IDS)).logits[0].numpy()
    return [whole[place - 1] for place in np.cumsum(PIECES)]


STATES = ["granite-hybrid", "falcon-h1", "qwen-3.5", "qwen-3-next", "kimi-linear", "mamba"]


# The others are in docs/families.md, and so run with it.
@pytest.mark.parametrize(
    "name",
    [
        *("olmo-3", "phi", "cohere", "ministral-3", "qwen3-moe", "starcoder-2", "gemma-4", "exaone-4"),
        *("minicpm-3", "flint", "gemma-3n", *STATES),
    ],
)
def test_a_traced_network_is_the_network_however_its_tokens_come_in(name: str, traced: Callable[[str], Path]) -> None:
    path = traced(name)
    for got, want in zip(logits(path), expected(path.parents[1] / "model"), strict=True):
        assert np.abs(got - want).max() <= 2e-5 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("name", STATES)
def test_a_layer_that_keeps_a_state_is_an_operator_and_its_state_never_grows(
    name: str, traced: Callable[[str], Path]
) -> None:
    import onnx

    graph = onnx.load(traced(name), load_external_data=False).graph
    counted = Counter(node.op_type for node in graph.node)
    states = [each for each in graph.input if each.name.endswith((".conv", ".recurrent"))]
    assert len(states) == counted["CausalConvWithState"] + counted["LinearAttention"] > 0
    assert all(size.dim_value for each in states for size in each.type.tensor_type.shape.dim)
    assert not {"Loop", "Scan", "If", "Conv"} & set(counted)


@pytest.mark.parametrize("name", ["granite-hybrid", "falcon-h1", "qwen-3.5"])
def test_what_is_around_a_recurrence_is_a_few_operators(name: str, traced: Callable[[str], Path]) -> None:
    import onnx

    nodes = onnx.load(traced(name), load_external_data=False).graph.node
    counted = Counter(node.op_type for node in nodes)
    assert counted["Softplus"] == counted["LinearAttention"] > 0
    assert not {"Where", "Greater", "Expand", "Pow", "ReduceMean", "Reciprocal", "Exp"} & counted.keys()


@pytest.mark.parametrize("name", ["qwen-3.5", "qwen-3-next"])
def test_what_heads_have_in_one_product_is_taken_apart(name: str, traced: Callable[[str], Path]) -> None:
    """Each head's queries and gate stand one behind the other in one product, and so on."""
    import onnx

    nodes = onnx.load(traced(name), load_external_data=False).graph.node
    assert not {"Slice", "Gather"} & {node.op_type for node in nodes if node.input[0].startswith("linear")}
    # What a convolution gives is split into columns that lie side by side.
    assert all({each.name: each.i for each in node.attribute}["axis"] == 2 for node in nodes if node.op_type == "Split")


def test_softplus_is_one_operator_where_it_is_the_plain_one() -> None:
    numbers = torch.ones(3)
    assert operators._is_plain_softplus(numbers) and operators._is_plain_softplus(input=numbers, beta=1.0)
    for named in ({"beta": 2}, {"threshold": 5}, {"out": torch.empty(3)}):
        assert not operators._is_plain_softplus(numbers, **named)
    assert not operators._is_plain_softplus(numbers.double())


def test_keys_that_are_multiplied_are_so_right_before_attention(tmp_path: Path) -> None:
    family = FAMILIES["falcon-h1"]
    path = built(replace(family, config={**family.config, "key_multiplier": 0.5}), tmp_path)
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    makers = {node.output[0]: node for node in graph.node}
    factors = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer if not each.external_data}
    for node in [node for node in graph.node if node.op_type == "GroupQueryAttention"]:
        product = makers[node.input[1]]
        assert product.op_type == "Mul" and factors[product.input[1]] == 0.5
        queries = makers[node.input[0]]
        while queries.op_type == "Reshape":
            queries = makers[queries.input[0]]
        assert queries.op_type == "MatMul" == makers[product.input[0]].op_type, "keys alone are multiplied"
    for got, want in zip(logits(path), expected(tmp_path / "model"), strict=True):
        assert np.abs(got - want).max() <= 2e-5 * max(1.0, np.abs(want).max())


def test_queries_that_are_made_larger_behind_their_turn_are_turned_by_the_operator(
    traced: Callable[[str], Path],
) -> None:
    import onnx

    nodes = onnx.load(traced("ministral-3"), load_external_data=False).graph.node
    attention = [node for node in nodes if node.op_type == "GroupQueryAttention"]
    assert all(any(each.name == "do_rotary" and each.i for each in node.attribute) for node in attention)
    assert not {"Cos", "Sin"} & {node.op_type for node in nodes}
    # What they are multiplied by is looked up, once for all layers.
    makers = {node.output[0]: node.op_type for node in nodes}
    assert {makers[each.input[0]] for each in attention} == {"Mul"}
    assert sum(node.op_type == "Gather" and node.input[1] == "position_ids" for node in nodes) == 1
    assert not {"Log", "Floor", "Div"} & {node.op_type for node in nodes}
    assert all("weight" in node.input[0] for node in nodes if node.op_type == "Transpose")


def test_heads_are_normed_as_they_lie_in_a_row(traced: Callable[[str], Path]) -> None:
    import onnx

    nodes = onnx.load(traced("exaone-4"), load_external_data=False).graph.node
    assert "Transpose" not in {node.op_type for node in nodes if not node.input[0].endswith("weight")}


def test_what_is_traced_is_attention_norms_and_products_and_little_else(traced: Callable[[str], Path]) -> None:
    import onnx

    model = onnx.load(traced("olmo-3"), load_external_data=False)
    counted = Counter(node.op_type for node in model.graph.node)
    layers = len([each for each in model.graph.input if each.name.endswith(".key")])
    assert counted["GroupQueryAttention"] == layers
    windows = [
        attribute.i
        for node in model.graph.node
        if node.op_type == "GroupQueryAttention"
        for attribute in node.attribute
        if attribute.name == "local_window_size"
    ]
    assert 0 < len(windows) < layers
    assert set(windows) == {WINDOW}
    assert not {"Softmax", "Slice", "Cos", "ReduceMean", "Transpose", "Identity"} & counted.keys()
    assert counted["Gather"] == 2  # the embedding, and the last row
    text = model.SerializeToString()
    assert str(traced("olmo-3").parents[1]).encode() not in text
    assert b"site-packages" not in text


def test_large_weights_are_not_there_while_the_network_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.export.recipes import dynamo

    monkeypatch.setattr(dynamo, "SMALL", 64)
    seen: list[int] = []
    traced = operators.Operators.run

    def run(self: Any, *given: Any) -> Any:
        seen.extend(each.numel() for each in self._model.parameters() if each.numel() > 64)
        return traced(self, *given)

    monkeypatch.setattr(operators.Operators, "run", run)
    # An embedding of NaN shows wherever the numbers of a place were used and not those of the file.
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **more: empty(*shape, **more).fill_(float("nan")))
    path = built(FAMILIES["olmo-2"], tmp_path)
    monkeypatch.undo()
    assert seen
    for got, want in zip(logits(path), expected(tmp_path / "model"), strict=True):
        assert np.abs(got - want).max() <= 2e-5 * max(1.0, np.abs(want).max())


def test_the_network_is_as_it_was_behind_a_trace(tmp_path: Path) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from playground.export.recipes import dynamo
    from playground.runtimes.torch.networks import load_network

    write(FAMILIES["olmo-3"], tmp_path)
    model = load_network(tmp_path, deferred=True).model
    before = ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    with torch.no_grad():
        want = model(input_ids=torch.tensor(IDS)).logits
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, at tracing
            dynamo.exported(model)
        assert torch.equal(model(input_ids=torch.tensor(IDS)).logits, want)
    assert (ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]) == before
    assert not any("forward" in vars(module) for module in model.modules())


def words_of(error: pytest.ExceptionInfo[ExportError]) -> Translatable:
    return error.value.what


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Family("bloom", "BLOOM", "", "bloom", {}), "positions"),
        (Family("falcon-alibi", "Falcon RW", "", "falcon", {"alibi": True, "multi_query": False}), "mask or a bias"),
        (Family("aria", "Aria", "", "aria_text", {}), "laid out in another way"),
    ],
    ids=lambda each: each.name if isinstance(each, Family) else "",
)
def test_what_no_operator_says_is_refused_in_words(family: Family, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        built(family, tmp_path)
    assert words in words_of(caught)
    assert str(tmp_path) not in words_of(caught)


Sees = Callable[[Any, Any, Any, Any], Any]


@pytest.mark.parametrize(
    ("sees", "window"),
    [
        (lambda _batch, _head, query, key: key <= query, -1),
        (lambda _batch, _head, query, key: (key <= query) & (key > query - 1), 1),
        (lambda _batch, _head, query, key: (key <= query) & (key > query - 96), 96),
        (lambda _batch, _head, query, key: (key <= query) & (key > query - 4096), 4096),
    ],
)
def test_a_window_is_found_by_asking_the_mask(sees: Sees, window: int) -> None:
    assert operators.window_of(sees) == window


@pytest.mark.parametrize(
    "sees",
    [
        lambda _batch, _head, query, key: key <= query + 1,
        lambda _batch, _head, query, key: key >= 0,
        lambda _batch, _head, query, key: key < query,
        lambda _batch, _head, query, key: (key <= query) & (key // 128 == query // 128),
        lambda _batch, _head, query, key: (key <= query) & ((key > query - 64) | (key < 4)),
        lambda _batch, _head, query, key: (key <= query) & (key % 2 == 0),
    ],
    ids=["a token ahead", "everything", "not itself", "chunks", "a window and the first", "every second"],
)
def test_a_mask_of_another_kind_is_refused(sees: Sees) -> None:
    with pytest.raises(reasons.NoOperator):
        operators.window_of(sees)


class TestTurns:
    """Which of the operator's two ways a family turns heads in, found with numbers."""

    def heads(self) -> Any:
        return torch.randn(1, 2, 6, 64, generator=torch.Generator().manual_seed(0))

    def angles(self, size: int) -> Any:
        angles = torch.arange(6)[:, None] / 100 ** (torch.arange(size) / size)[None]
        return angles[None]

    def turn(self, angles: Any, made: Any) -> Any:
        tables = angles.cos(), angles.sin()
        here = tuple(each.unsqueeze(1) for each in tables)
        return operators._turn([self.heads()], (made,), here, tuple(each[0] for each in tables))

    @pytest.mark.parametrize("interleaved", [0, 1])
    @pytest.mark.parametrize("size", [16, 32])
    def test_each_way_is_known_by_what_it_gives(self, interleaved: int, size: int) -> None:
        angles = self.angles(size)
        cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        made = operators._rotated(self.heads(), cos, sin, interleaved)
        for twice in (angles, torch.cat((angles, angles), -1), torch.stack((angles, angles), -1).flatten(-2)):
            found = self.turn(twice, made)
            assert found.interleaved == interleaved
            assert torch.equal(found.cosines, angles[0].cos())

    def test_another_turn_is_none(self) -> None:
        assert self.turn(self.angles(32), self.heads() * 1.01) is None

    def test_what_onnxruntime_would_not_turn_is_none(self) -> None:
        angles = self.angles(12)
        cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        assert self.turn(angles, operators._rotated(self.heads(), cos, sin, 0)) is None


def test_what_a_network_writes_out_of_gelu_and_norms_around_the_mean_are_operators() -> None:
    """GPT-2 has its own GELU and shapes its tokens before they are looked up, Cohere its own norm."""
    from transformers import CohereConfig, CohereForCausalLM, GPT2Config, GPT2LMHeadModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    other = CohereConfig(vocab_size=64, num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0, **sizes)
    small = GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, at tracing
        nodes, others = (
            list(exported(model.eval()).model.graph.node)
            for model in (GPT2LMHeadModel(small), CohereForCausalLM(other))
        )
    kinds = {node.op_type for node in nodes}
    assert "FastGelu" in kinds and not kinds & {"Tanh", "Pow"}
    assert any(node.op_type == "Gather" and node.input[1] == "input_ids" for node in nodes)
    kinds = {node.op_type for node in others}
    assert "LayerNormalization" in kinds and "ReduceMean" not in kinds
