"""Rounded checkpoints: told from config.json by every name transformers has for them, refused before their weights with
advice that is true, and loaded as the floats they stand for where transformers undoes the rounding on a CPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from playground import sources
from playground.catalog import quantization
from playground.catalog.hub import fetch_model_info
from playground.errors import SourceError
from playground.export.weights import import_model
from playground.records import ModelSpec
from tests.support import tiny
from tests.support.hub_repos import tiny_llama
from tests.support.hub_server import Hub

FLOATS = {"fp8", "mxfp8", "mxfp4", "metal"}


def methods() -> list[str]:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    return sorted(AUTO_QUANTIZATION_CONFIG_MAPPING)


@pytest.mark.parametrize("method", methods())
def test_every_method_of_transformers_is_known_by_name(method: str) -> None:
    found = quantization.quantisation({"quantization_config": {"quant_method": method}})
    assert found is not None
    assert found.becomes_floats == (method in FLOATS)
    assert "unknown" not in found.needs
    assert "does not" not in found.needs


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quantization_config": {"load_in_4bit": True}}, "bitsandbytes, 4 bits"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes, 8 bits"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ, 4 bits"),
        (
            {"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}},
            "MLX, 4 bits",
        ),
        ({"quantization": {"group_size": 64, "bits": 8}}, "MLX, 8 bits"),
        ({"quantization_config": {"quant_method": "exl3"}}, "exl3"),
        ({"quantization_config": {"quant_method": ["x"]}}, "an unknown method"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "AWQ"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    ],
)
def test_a_method_is_found_wherever_it_is_said(config: dict[str, Any], name: str) -> None:
    found = quantization.quantisation(config)
    assert found is not None
    assert found.name == name
    assert not found.becomes_floats


@pytest.mark.parametrize(
    "config", [{}, {"quantization_config": None}, {"quantization_config": {}}, {"quantization": 4}]
)
def test_plain_weights_are_plain(config: dict[str, Any]) -> None:
    assert quantization.quantisation(config) is None
    assert quantization.quantisation(config, ["config.json", "tokenizer.json"]) is None


def test_a_file_of_an_older_program_tells_as_well() -> None:
    found = quantization.quantisation({}, ["config.json", "quantize_config.json"])
    assert found is not None
    assert found.name == "GPTQ"


@pytest.mark.parametrize(
    ("bases", "repo", "words"),
    [
        (("someone/base",), "someone/tiny-AWQ", "names someone/base as what it was made from: take hub:someone/base"),
        ((), "someone/tiny-GPTQ-Int4", "perhaps hub:someone/tiny if there is such a repository"),
        ((), "someone/tiny-unsloth-bnb-4bit", "perhaps hub:someone/tiny if"),
        (("someone/tiny",), "someone/tiny", "Take the unquantised model that it was made from. "),
        ((), "", "Take the unquantised model that it was made from. "),
    ],
)
def test_advice_names_the_cards_base_and_else_only_guesses(bases: tuple[str, ...], repo: str, words: str) -> None:
    said = quantization.advice(bases, repo)
    assert words in said
    assert "GGUF" in said


def with_method(method: str, **files: bytes) -> dict[str, bytes]:
    made = tiny_llama(card="---\nbase_model: someone/base\n---\n# Tiny\n")
    config = json.loads(made["config.json"]) | {"quantization_config": {"quant_method": method}}
    return {**made, "config.json": json.dumps(config).encode(), **files}


def fetch(home: Path, source: str) -> sources.Fetched:
    spec = ModelSpec("tiny", "Tiny", source, "", "onnx", "fp32", 640, "chat")
    return sources.fetch(spec, home / "home", lambda *_: None, lambda: False)


@pytest.mark.waits
def test_on_the_hub_it_is_refused_before_its_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/tiny-AWQ", with_method("awq"), info={"cardData": {"base_model": "someone/base"}})
    with pytest.raises(SourceError) as caught:
        fetch(tmp_path, "hub:someone/tiny-AWQ")
    assert "hub:someone/tiny-AWQ is quantised with AWQ; reading it needs the package gptqmodel" in str(caught.value)
    assert "take hub:someone/base" in str(caught.value)
    assert not hub.seen("GET", "safetensors")
    info = fetch_model_info("someone/tiny-AWQ")
    assert "It is quantised with AWQ" in info.refusal
    assert "take hub:someone/base" in info.refusal


@pytest.mark.waits
def test_what_transformers_turns_into_floats_is_fetched_and_said(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/tiny-FP8", with_method("fp8"))
    assert fetch(tmp_path, "hub:someone/tiny-FP8").files
    info = fetch_model_info("someone/tiny-FP8")
    assert info.refusal == ""
    assert any("FP8" in note and "floats" in note for note in info.notes)


def test_a_folder_is_refused_with_what_its_card_names(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in with_method("gptq").items():
        (folder / name).write_bytes(content)
    with pytest.raises(SourceError, match=r"Tiny is quantised with GPTQ.*take hub:someone/base"):
        fetch(tmp_path, f"path:{folder}")


# What is loaded: the numbers are exactly those that the rounded ones stand for.

Rounded = tuple[dict[str, torch.Tensor], torch.Tensor]
"""What the file holds of one matrix, and the matrix it stands for."""


def fp8(name: str, weight: torch.Tensor) -> Rounded:
    """Blocks of 32 × 32 with a scale each, as fine-grained FP8 checkpoints have them."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows // 32, 32, columns // 32, 32)
    scale = blocks.abs().amax((1, 3)) / 448
    small = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    plain = (small.float() * scale[:, None, :, None]).reshape(rows, columns)
    return {name: small.reshape(rows, columns), f"{name}_scale_inv": scale}, plain


def mxfp8(name: str, weight: torch.Tensor) -> Rounded:
    """Rows of 32 with a power of two, kept as its exponent."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // 32, 32)
    exponent = torch.ceil(torch.log2(blocks.abs().amax(-1) / 448))
    small = (blocks / 2.0 ** exponent[..., None]).to(torch.float8_e4m3fn)
    plain = (small.float() * 2.0 ** exponent[..., None]).reshape(rows, columns)
    return {name: small.reshape(rows, columns), f"{name}_scale_inv": (exponent + 127).to(torch.uint8)}, plain


def metal(name: str, weight: torch.Tensor) -> Rounded:
    """Groups of 64 with a scale and a zero, eight numbers of 4 bits in one of 32."""
    rows, columns = weight.shape
    groups = weight.reshape(rows, columns // 64, 64)
    low, high = groups.amin(-1), groups.amax(-1)
    scale = (high - low) / 15
    digits = torch.round((groups - low[..., None]) / scale[..., None]).clamp(0, 15).to(torch.int64)
    packed = (digits.reshape(rows, -1, 8) << (4 * torch.arange(8))).sum(-1).to(torch.uint32)
    plain = (digits * scale[..., None] + low[..., None]).reshape(rows, columns)
    stem = name.removesuffix("weight")
    return {name: packed, f"{stem}scales": scale, f"{stem}qbiases": low}, plain


def round_llama(folder: Path, settings: dict[str, Any], round_one: Callable[..., Rounded]) -> dict[str, torch.Tensor]:
    """The tiny Llama with rounded matrices; returns the weights it stands for."""
    tiny.write_model(folder)
    held, plain = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        files, plain[name] = round_one(name, weight) if "_proj" in name else ({name: weight}, weight)
        held |= files
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    configure(folder, settings)
    return plain


def configure(folder: Path, settings: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))


def imported(tmp_path: Path, folder: Path) -> Path:
    fetched = fetch(tmp_path, f"path:{folder}")
    target = tmp_path / "import"
    target.mkdir()
    import_model(tiny.spec(), fetched.files, target, lambda *_: None)
    return target


@pytest.mark.parametrize(
    ("settings", "round_one"),
    [
        ({"quant_method": "fp8", "weight_block_size": [32, 32], "activation_scheme": "dynamic"}, fp8),
        ({"quant_method": "mxfp8", "weight_block_size": [1, 32], "scale_fmt": "ue8m0"}, mxfp8),
        ({"quant_method": "metal", "bits": 4, "group_size": 64}, metal),
    ],
)
def test_a_rounded_llama_becomes_the_floats_it_stands_for(
    tmp_path: Path, settings: dict[str, Any], round_one: Callable[..., Rounded]
) -> None:
    from transformers import AutoModelForCausalLM

    plain = round_llama(tmp_path / "rounded", settings, round_one)
    target = imported(tmp_path, tmp_path / "rounded")
    found = load_file(target / "model.safetensors")
    assert found.keys() == plain.keys()
    for name, weight in plain.items():
        assert found[name].dtype == torch.float32
        assert torch.allclose(found[name], weight, rtol=1e-6, atol=1e-7), name
    assert "quantization_config" not in json.loads((target / "config.json").read_text())
    shutil.copytree(tmp_path / "rounded", tmp_path / "plain")
    configure(tmp_path / "plain", {})
    save_file(plain, tmp_path / "plain" / "model.safetensors", metadata={"format": "pt"})
    ids = torch.arange(3, 40)[None]
    ours: Any = AutoModelForCausalLM.from_pretrained(target)
    config = json.loads((target / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-4)


def test_gpt_oss_of_mxfp4_becomes_the_floats_it_stands_for(tmp_path: Path) -> None:
    from transformers import GptOssConfig, GptOssForCausalLM

    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    table = torch.cat([values, -values])
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": tiny.VOCAB, "hidden_size": 64, "intermediate_size": 64, "head_dim": 32}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 96}
    sizes |= {"num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": tiny.CONTEXT}
    folder = tmp_path / "oss"
    GptOssForCausalLM(GptOssConfig(**sizes, initializer_range=0.2)).save_pretrained(folder)
    tiny.write_tokenizer(folder)
    held, plain = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            held[name] = plain[name] = weight
            continue
        experts, inner, outer = weight.shape
        blocks = weight.transpose(1, 2).reshape(experts, outer, inner // 32, 32)
        exponent = torch.ceil(torch.log2(blocks.abs().amax(-1) / 6))
        digits = ((blocks / 2.0 ** exponent[..., None])[..., None] - table).abs().argmin(-1)
        held[f"{name}_blocks"] = (digits[..., 0::2] | (digits[..., 1::2] << 4)).to(torch.uint8)
        held[f"{name}_scales"] = (exponent + 127).to(torch.uint8)
        plain[name] = (table[digits] * 2.0 ** exponent[..., None]).reshape(experts, outer, inner).transpose(1, 2)
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    configure(folder, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    found = load_file(imported(tmp_path, folder) / "model.safetensors")
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], weight) for name, weight in plain.items())


@pytest.mark.parametrize(
    ("shape", "scales", "wrong"),
    [
        ((256, 128), (2, 1), False),
        ((960, 128), (8, 1), True),  # 8 × 120 divides evenly, and wrongly
        ((576, 128), (5, 1), True),
        ((100, 128), (1, 1), False),
    ],
)
def test_blocks_that_do_not_fill_a_matrix_are_refused(shape: Any, scales: Any, wrong: bool) -> None:
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    said = quantization.uneven_blocks(config, {"a.weight": shape, "a.weight_scale_inv": scales})
    assert ("a.weight of" in said) == wrong


def test_packed_numbers_are_counted_as_what_they_stand_for() -> None:
    metal_4 = quantization.quantisation({"quantization_config": {"quant_method": "metal", "bits": 4}})
    assert metal_4 is not None
    assert metal_4.values({"U32": 100, "F32": 30}) == 830
    mxfp4 = quantization.quantisation({"quantization_config": {"quant_method": "mxfp4"}})
    assert mxfp4 is not None
    assert mxfp4.values({"U8": 100, "BF16": 30}) == 230
