"""Weights that stay packed in their GGUF file are the numbers that transformers' own loader unpacks: for every family
that it reads, in every type that the package gguf packs, whole, by rows and by the rows of a table."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import modeling_gguf_pytorch_utils as loader
from transformers.integrations.gguf import dequant, reader
from transformers.integrations.gguf import gguf_conversion_mapping as operations
from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS

from playground.paths import ROOT
from playground.runtimes.torch import gguf_vocabulary, gguf_weights
from playground.runtimes.torch.deferred import Deferred, real
from playground.runtimes.torch.gguf_weights import Packed, quick_gguf, unpacked_ahead
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.runtimes.torch.networks import load_network
from playground.runtimes.torch.unpacked import Room
from playground.sources import limits
from tests.families.sweep import names, networks
from tests.support import ggufs

pytestmark = pytest.mark.parallel

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")

FAMILIES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2moe",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "falcon": "falcon",
    "phi3": "phi3",
    "bloom": "bloom",
    "stablelm": "stablelm",
    "gpt2": "gpt2",
    "starcoder2": "starcoder2",
    "mamba": "mamba",
    "nemotron": "nemotron",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
}
"""transformers' name of a family, and llama.cpp's."""


@pytest.fixture(scope="module")
def packed_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("ggufs")


def small(family: str) -> Any:
    (architecture,) = names.chosen("causal", (family,))
    return networks.build(architecture)


def write(path: Path, network: Any, family: str, kinds: tuple[str, ...]) -> None:
    """The network's weights under llama.cpp's names, in types by turns, laid out as in transformers."""
    config = network.config
    heads = getattr(config, "num_attention_heads", None) or getattr(config, "n_head", 4)
    metadata = {
        "attention.head_count": heads,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", heads),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
    }
    writer = gguf.GGUFWriter(path, family)
    for name, value in metadata.items():
        writer.add_uint32(f"{family}.{name}", value)
    processor = loader.TENSOR_PROCESSORS.get(family, loader.TensorProcessor)(config=config.to_dict())
    weights = network.state_dict()
    for number, (place, name) in enumerate(loader.get_gguf_hf_weights_map(network, processor).items()):
        if name not in weights:
            continue
        array = weights[name].float().numpy()
        if "_exps" in place and "gate_up" in name:
            array = array[:, : array.shape[1] // 2]
        if place.endswith("ssm_a"):
            array = -np.exp(array)
        kind = gguf.GGMLQuantizationType[kinds[number % len(kinds)] if array.ndim > 1 else "F32"]
        if array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = gguf.GGMLQuantizationType.F32
        full = f"{place}.weight" if place.endswith("_exps") else place
        writer.add_tensor(full, gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_gets_what_transformers_own_loader_gives_it(family: str, packed_models: Path) -> None:
    network = small(family)
    path = packed_models / f"{family}.gguf"
    write(path, network, FAMILIES[family], TYPES)
    theirs = loader.load_gguf_checkpoint(path, return_tensors=True, model_to_load=network)["tensors"]
    assert len(theirs) > 10
    for deferred in (False, True):
        with quick_gguf(deferred):
            ours = loader.load_gguf_checkpoint(path, return_tensors=True, model_to_load=network)["tensors"]
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            assert ours[name].shape == expected.shape
            assert torch.equal(real(ours[name]), expected), name
            assert isinstance(ours[name], Deferred) <= deferred


@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe"])
def test_an_expert_is_unpacked_without_the_others(
    family: str, packed_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small(family)
    path = packed_models / f"{family}-apart.gguf"
    write(path, network, FAMILIES[family], TYPES)
    theirs = loader.load_gguf_checkpoint(path, return_tensors=True, model_to_load=network)["tensors"]
    with quick_gguf(True):
        ours = loader.load_gguf_checkpoint(path, return_tensors=True, model_to_load=network)["tensors"]
    names_of_experts = [name for name in theirs if ".experts." in name]
    assert {name.rpartition(".")[2] for name in names_of_experts} == {"gate_up_proj", "down_proj"}
    unpacked: list[int] = []
    usual = gguf_weights._unpacked
    monkeypatch.setattr(gguf_weights, "_unpacked", lambda data, kind: unpacked.append(data.ndim) or usual(data, kind))
    for name in names_of_experts:
        assert isinstance(ours[name], Deferred)
        for place, expected in enumerate(theirs[name]):
            assert torch.equal(real(ours[name][place]), expected), name
    assert set(unpacked) == {2}


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q8_0"])
def test_the_newer_reader_leaves_large_tensors_in_the_file_and_gives_the_same_numbers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experts that stand below each other, and rows and columns in another order, as Qwen 3.5 has them."""
    monkeypatch.setattr(gguf_weights, "SMALL", 64)
    number = gguf.GGMLQuantizationType[kind]
    numbers = np.random.default_rng(1)

    def lazy(*shape: int) -> Any:
        data = gguf.quantize(numbers.normal(size=shape).astype(np.float32), number)
        plain = kind in ("F32", "F16", "BF16")
        return reader.LazyGgufTensor(data.view(np.uint8).reshape(-1), int(number), shape if plain else data.shape)

    gate, up, matrix = lazy(3, 64, 64), lazy(3, 64, 64), lazy(64, 64)
    fp32: Any = torch.float32

    def chain(given: dict[str, Any], *steps: Any) -> Any:
        types = {} if kind in ("F32", "F16", "BF16") else {"w": int(number)}
        found = {name: [tensor[...]] for name, tensor in given.items()}
        for step in (operations.Dequantize(types, fp32), *steps, operations.Cast(fp32)):
            found = step.convert(found, source_patterns=list(given), target_patterns=["w"], full_layer_name="w")
        (made,) = found.values()
        return made[0] if isinstance(made, list) else made

    def both() -> Any:
        return chain({"a": gate, "b": up}, operations.ConcatenateRows(dim=1))

    def ordered() -> Any:
        turned = torch.arange(63, -1, -1)
        return chain({"a": matrix}, operations.PermuteRows(turned[8:], 8), operations.PermuteInputFeatures(turned))

    expected = both(), ordered()
    with quick_gguf(True):
        found = both(), ordered()
    assert not any(isinstance(each, Deferred) for each in expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, Deferred)
        assert ours.shape == theirs.shape
        assert torch.equal(real(ours), theirs)
    assert all(torch.equal(real(found[0][place]), expected[0][place]) for place in range(3))
    assert not isinstance(both(), Deferred)  # transformers is as it was


class Tensor:
    """What the package gguf tells of a tensor."""

    def __init__(self, numbers: np.ndarray[Any, Any], kind: str) -> None:
        self.tensor_type = gguf.GGMLQuantizationType[kind]
        self.data = gguf.quantize(numbers, self.tensor_type)
        self.shape = np.array(numbers.shape[::-1])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("room", [0, 1 << 30], ids=["made anew", "kept"])
def test_rows_are_those_of_the_whole_matrix(kind: str, room: int) -> None:
    tensor = Tensor(np.random.default_rng(1).normal(size=(3000, 512)).astype(np.float32), kind)
    expected = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32))
    packed = Packed.of(tensor, Room(room))
    for _ in range(3):  # before it was asked for, before it is kept, and behind that
        assert torch.equal(packed.part(0, 3000), expected)
        assert torch.equal(packed.part(2900, 4000), expected[2900:])
        ids = torch.tensor([[5, 2999, 0], [5, 5, 17]])
        assert torch.equal(packed.at(ids), expected[ids])
        assert torch.equal(packed.whole(), expected)
    assert (packed.whole() is packed.whole()) == bool(room)
    assert (packed.whole.kept is not None) == bool(room)


@pytest.mark.parametrize("kind", [kind for kind in gguf.GGMLQuantizationType if kind in dequant.GGML_BLOCK])
def test_every_kind_of_blocks_is_unpacked_to_the_bits_of_the_package_gguf(kind: gguf.GGMLQuantizationType) -> None:
    """Random bytes, all of them but those of scales that would be no numbers."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = np.random.default_rng(int(kind)).integers(0, 256, (64, 4 * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(data, kind)
    found = gguf_weights._unpacked(data, kind)
    assert found.shape == expected.shape == (64, 4 * block)
    numbers = np.isfinite(expected)
    assert numbers.mean() > 0.5
    assert np.array_equal(found[numbers].view(np.int32), expected[numbers].view(np.int32))


def test_room_is_given_until_there_is_none_and_comes_back_with_the_numbers() -> None:
    room = Room(100)
    first, second = torch.zeros(15), torch.zeros(15)
    assert [room.keep(first), room.keep(second), room.keep(torch.zeros(10))] == [True, False, True]
    gc.collect()
    del first
    assert room.fits(100)
    assert room.keep(second)


def test_what_is_asked_for_once_is_not_kept() -> None:
    packed = Packed.of(Tensor(np.ones((64, 64), np.float32), "Q8_0"), Room(1 << 30))
    packed.whole()
    assert packed.whole.kept is None
    assert packed.whole() is packed.whole()


@pytest.mark.parametrize("room", [0.0, 0.1], ids=["made anew", "kept"])
def test_a_network_computes_the_same_with_packed_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float
) -> None:
    monkeypatch.setattr(gguf_weights, "room_here", lambda: Room(int(room * 1e9)))
    monkeypatch.setattr("playground.runtimes.torch.gguf_weights.SMALL", 64)
    ggufs.write_llama(tmp_path / "m.gguf")
    whole, packed = (load_network(tmp_path, "m.gguf", deferred=deferred).model for deferred in (False, True))
    assert isinstance(packed.model.layers[0].mlp.up_proj.weight.data, Deferred)
    assert isinstance(packed.model.embed_tokens.weight.data, Deferred)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        assert torch.equal(whole(ids).logits, packed(ids).logits)
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12}
    answer = whole.generate(ids, **settings)
    assert torch.equal(answer, packed.generate(ids, **settings))
    with unpacked_ahead(packed):
        assert isinstance(packed.model.layers[0].mlp.up_proj.weight.data, Deferred) != bool(room)
        assert not isinstance(packed.model.norm.weight.data, Deferred)
        assert packed.lm_head.weight is packed.model.embed_tokens.weight or not whole.config.tie_word_embeddings
        with torch.no_grad():
            assert torch.equal(whole(ids).logits, packed(ids).logits)
        assert torch.equal(answer, packed.generate(ids, **settings))
    assert isinstance(packed.model.layers[0].mlp.up_proj.weight.data, Deferred)


@pytest.mark.parametrize("kind", TYPES)
def test_what_has_one_axis_can_be_packed_too(kind: str) -> None:
    tensor = Tensor(np.arange(64, dtype=np.float32), kind)
    expected = gguf.dequantize(tensor.data, tensor.tensor_type)
    assert np.array_equal(Packed.of(tensor, Room(0)).unpacked(), expected)


def test_a_row_that_there_is_not_is_an_error() -> None:
    packed = Packed.of(Tensor(np.ones((8, 32), np.float32), "Q8_0"), Room(0))
    for wrong in (-1, 8):
        with pytest.raises(IndexError):
            packed.at(torch.tensor([0, wrong]))


def test_who_writes_into_parts_of_a_weight_writes_into_their_own() -> None:
    packed = Packed.of(Tensor(np.ones((64, 64), np.float32), "Q8_0"), Room(1 << 30))
    weight = Deferred(packed.whole, torch.empty(64, 64, device="meta"), rows=packed)
    for _ in range(2):
        for part in (*weight.split(16), *weight.unbind()):
            part.mul_(2)
    assert (real(weight) < 1.01).all()


def test_settings_of_generation_beside_a_file_are_not_the_models_but_those_of_an_import_are(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [77, 78], "top_k": 7}')
    ggufs.write_llama(tmp_path / "m.gguf")
    alone = load_network(tmp_path, "m.gguf").model
    assert alone.generation_config.eos_token_id == 0
    alone.config.save_pretrained(tmp_path)
    (tmp_path / "m.gguf").rename(tmp_path / "model.gguf")
    assert load_network(tmp_path).model.generation_config.top_k == 7


def write_qwen35moe(path: Path) -> None:
    """Random weights in the layout of Qwen 3.5 MoE: three layers of linear attention, one of full, four experts."""
    width, inner, experts, head, words = 64, 32, 4, 32, 48
    both = {
        "attn_norm.weight": (width,),
        "post_attention_norm.weight": (width,),
        "ffn_gate_inp.weight": (experts, width),
        "ffn_gate_exps.weight": (experts, inner, width),
        "ffn_up_exps.weight": (experts, inner, width),
        "ffn_down_exps.weight": (experts, width, inner),
        "ffn_gate_inp_shexp.weight": (width,),
        "ffn_gate_shexp.weight": (inner, width),
        "ffn_up_shexp.weight": (inner, width),
        "ffn_down_shexp.weight": (width, inner),
    }
    full = {f"attn_{name}.weight": (head, width) for name in "kv"}
    full |= {"attn_q.weight": (2 * width, width), "attn_output.weight": (width, width)}
    full |= {f"attn_{name}_norm.weight": (head,) for name in "qk"}
    linear = {
        "attn_qkv.weight": (2 * head + width, width),
        "attn_gate.weight": (width, width),
        "ssm_alpha.weight": (2, width),
        "ssm_beta.weight": (2, width),
        "ssm_conv1d.weight": (2 * head + width, 4),
        "ssm_norm.weight": (head,),
        "ssm_out.weight": (width, width),
        "ssm_a": (2,),
        "ssm_dt.bias": (2,),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (words, width), "output.weight": (words, width)}
    shapes["output_norm.weight"] = (width,)
    for layer in range(4):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in (both | (full if layer == 3 else linear)).items()}
    writer = gguf.GGUFWriter(path, "qwen35moe")
    numbers = {
        "context_length": 256, "embedding_length": width, "block_count": 4, "attention.head_count": 2,
        "attention.head_count_kv": 1, "attention.key_length": head, "full_attention_interval": 4, "ssm.conv_kernel": 4,
        "ssm.state_size": head, "ssm.group_count": 1, "ssm.time_step_rank": 2, "ssm.inner_size": width,
        "rope.dimension_count": 8, "expert_feed_forward_length": inner, "expert_shared_feed_forward_length": inner,
        "expert_count": experts, "expert_used_count": 2,
    }  # fmt: skip
    for name, value in numbers.items():
        writer.add_uint32(f"qwen35moe.{name}", value)
    writer.add_float32("qwen35moe.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("qwen35moe.rope.freq_base", 10000.0)
    writer.add_array("qwen35moe.rope.dimension_sections", [2, 1, 1, 0])
    writer.add_token_list([f"t{each}" for each in range(words)])
    drawn = np.random.default_rng(3)
    for name, shape in shapes.items():
        array = drawn.normal(size=shape).astype(np.float32) * 0.2
        if name.endswith("norm.weight"):
            array += 1
        if name.endswith("ssm_a"):
            array = -np.exp(array)
        kind = gguf.GGMLQuantizationType["Q8_0" if array.ndim > 1 and shape[-1] % 32 == 0 else "F32"]
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_mixture_of_the_newer_reader_computes_the_same_with_packed_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.runtimes.torch.gguf_weights.SMALL", 64)
    write_qwen35moe(tmp_path / "m.gguf")
    whole, packed = (load_network(tmp_path, "m.gguf", deferred=deferred).model for deferred in (False, True))
    for layer in packed.model.layers:
        assert isinstance(layer.mlp.experts.gate_up_proj.data, Deferred)
        assert layer.mlp.experts.gate_up_proj.rows is not None
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        assert torch.equal(whole(ids).logits, packed(ids).logits)
    for name, weight in whole.named_parameters():
        assert torch.equal(real(packed.get_parameter(name).detach()), weight), name


def test_whose_experts_stay_in_the_file_is_as_in_transformers() -> None:
    processors = loader.TENSOR_PROCESSORS.items()
    apart = {family for family, processor in processors if hasattr(processor, "_set_moe_expert_tensor")}
    assert set(limits.EXPERTS_ONE_BY_ONE) == apart | {family for family in GGUF_ARCHS if "moe" in family}
    assert not limits.unpacked_whole({"general.architecture": "qwen3moe", "qwen3moe.expert_count": 128})
    assert limits.unpacked_whole({"general.architecture": "gpt_oss", "gpt_oss.expert_count": 32})
    assert not limits.unpacked_whole({"general.architecture": "llama", "llama.expert_count": 0})


def test_what_nobody_reads_is_named(tmp_path: Path) -> None:
    ggufs.write_llama(tmp_path / "m.gguf", {"blk.0.secret.weight": np.ones((4, 4), np.float32)})
    for deferred in (False, True):
        with pytest.raises(IncompleteWeights, match=r"blk\.0\.secret\.weight"):
            load_network(tmp_path, "m.gguf", deferred=deferred)


def test_the_packages_are_as_they_were_behind_it(tmp_path: Path) -> None:
    before = (gguf.GGUFReader, gguf.get_tensor_name_map, loader.load_gguf_checkpoint)
    with pytest.raises(ZeroDivisionError), quick_gguf():
        raise ZeroDivisionError
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, loader.load_gguf_checkpoint) == before


def test_a_files_header_is_read_once_and_anew_where_it_was_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_weights, "_LAST", {})
    ggufs.write_llama(tmp_path / "m.gguf")
    read: list[Path] = []
    kind = gguf_weights._reader()
    begin = kind.__init__

    def counted(self: Any, path: Path, *more: str) -> None:
        read.append(path)
        begin(self, path, *more)

    monkeypatch.setattr(kind, "__init__", counted)
    first = load_network(tmp_path, "m.gguf").model
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "model.gguf").hardlink_to(tmp_path / "m.gguf")
    first.config.save_pretrained(tmp_path / "second")
    again = load_network(tmp_path / "second", deferred=True).model
    assert len(read) == 1
    assert torch.equal(real(again.model.norm.weight), first.model.norm.weight)
    with quick_gguf():
        for changed in (loader.load_gguf_checkpoint(tmp_path / "m.gguf") for _ in range(2)):
            assert changed["config"]["model_type"] == "llama", "what one is given is nobody else's"
            changed["config"]["model_type"] = "another"
            changed["config"].clear()
    ggufs.write_llama(tmp_path / "m.gguf", {"blk.0.secret.weight": np.ones((4, 4), np.float32)})
    with pytest.raises(IncompleteWeights, match="secret"):
        load_network(tmp_path, "m.gguf")
    assert len(read) == 2


@pytest.mark.parametrize("scores", ["places", "level", "no numbers", "none"])
def test_merges_are_those_that_transformers_derives(scores: str) -> None:
    from transformers.tokenization_utils_base import generate_merges

    draw = random.Random(1)
    tokens = list(dict.fromkeys("".join(draw.choices("abc", k=draw.randint(1, 5))) for _ in range(400)))
    vocab = {token: place for place, token in enumerate(tokens)}
    given: dict[str, dict[str, float] | None] = {
        "places": {token: -place for token, place in vocab.items()},
        "level": {token: float(-(place % 7)) for token, place in vocab.items()},
        "no numbers": {token: float("nan") for token in vocab},
        "none": None,
    }
    expected = generate_merges(vocab, given[scores])
    assert len(expected) > 200
    assert gguf_vocabulary.quick_merges(generate_merges)(vocab, given[scores]) == expected


MEASURED = """
import sys, threading, time
from pathlib import Path
import torch
from playground.catalog import footprint
from playground.runtimes.torch.networks import load_network

def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

footprint.UNPACKED = 0.0
torch.set_num_threads(1)
load_network(Path(sys.argv[1]), "m.gguf", deferred=True).model(torch.arange(8)[None])  # what any network takes
before, over, most = held(), threading.Event(), 0

def watch():
    global most
    while not over.wait(0.002):
        most = max(most, held())

watching = threading.Thread(target=watch)
watching.start()
with torch.no_grad():
    model = load_network(Path(sys.argv[2]), "m.gguf", deferred=True).model
    model(torch.arange(8)[None])
over.set()
watching.join()
print(most - before, sum(each.numel() for each in model.parameters()))
"""


PROMPT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "0"}
"""What is freed goes back to the system at once: what glibc keeps of it differs from run to run by 25 MB, more than
a network holds."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_network_takes_the_memory_of_a_few_of_its_matrices(tmp_path: Path) -> None:
    """Eight layers are 300 MB in fp32, the largest matrix is 9."""
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, layers in ((small, 1), (large, 8)):
        folder.mkdir()
        ggufs.write_wide_llama(folder / "m.gguf", layers)
    command = [sys.executable, "-c", MEASURED, str(small), str(large)]
    told = subprocess.run(command, cwd=ROOT, env=os.environ | PROMPT, capture_output=True, text=True, check=True)
    took, parameters = map(int, told.stdout.split())
    assert parameters * 4 > 300e6
    assert took < 3 * 9.5e6
