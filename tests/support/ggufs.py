"""Tiny GGUF files as llama.cpp's converter writes them: a random Llama with tiny.py's tokenizer, whole or split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.support import tiny
from tests.support.hub_repos import tiny_llama

NORMAL, CONTROL, UNKNOWN, BYTE = 1, 3, 2, 6

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def llama_weights() -> dict[str, np.ndarray[Any, Any]]:
    """The weights of ``hubrepos.tiny_llama`` under transformers' names."""
    from safetensors.numpy import load

    return load(tiny_llama()["model.safetensors"])


def write_llama(
    path: Path, more: Mapping[str, np.ndarray[Any, Any]] | None = None, without: Sequence[str] = (), parts: int = 1
) -> list[Path]:
    """Write the Llama as ``path``, or as ``path`` with ``-0000N-of-0000M``; the files.

    Args:
        more: Further tensors under GGUF's names.
        without: GGUF's names of tensors that are left out.
        parts: Files. The first has the metadata and no tensor, as ``gguf-split --no-tensor-first-split`` writes it.
    """
    tensors = {name: array for name, array in (_tensors() | dict(more or {})).items() if name not in without}
    if parts == 1:
        _write(path, tensors, _metadata)
        return [path]
    names, files = list(tensors), []
    for number in range(parts):
        file = path.with_name(f"{path.stem}-{number + 1:05d}-of-{parts:05d}.gguf")
        mine = {name: tensors[name] for index, name in enumerate(names) if number and index % (parts - 1) == number - 1}

        def describe(writer: gguf.GGUFWriter, number: int = number) -> None:
            if number == 0:
                _metadata(writer)
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", parts)
            writer.add_int32("split.tensors.count", len(tensors))

        _write(file, mine, describe)
        files.append(file)
    return files


def write_wide_llama(path: Path, layers: int) -> None:
    """A random Llama in Q8_0, 768 wide: of each layer 9.4 million weights."""
    numbers = np.random.default_rng(0)
    width, inner, kind = 768, 3072, gguf.GGMLQuantizationType.Q8_0
    shapes = {f"attn_{name}": (width, width) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    tensors = {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in shapes.items()}
    tensors |= dict.fromkeys(("token_embd", "output"), (tiny.VOCAB, width))
    writer = gguf.GGUFWriter(path, "llama")
    _metadata(writer, layers=layers, width=width, inner=inner, heads=12, kv_heads=12)
    for name in ("output_norm", *(f"blk.{layer}.{part}_norm" for layer in range(layers) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    for name, shape in tensors.items():
        weights = numbers.normal(scale=0.02, size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]], describe: Any) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    describe(writer)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors() -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for name, weights in llama_weights().items():
        array = weights
        base = name.removesuffix(".weight")
        place, _, rest = base.removeprefix("model.layers.").partition(".") if ".layers." in base else ("", "", base)
        short = _NAMES[rest]
        if short in ("attn_q", "attn_k"):
            heads = 4 if short == "attn_q" else 2
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        found[f"blk.{place}.{short}.weight" if place else f"{short}.weight"] = array
    return found


def _metadata(
    writer: gguf.GGUFWriter, *, layers: int = 2, width: int = 64, inner: int = 128, heads: int = 4, kv_heads: int = 2
) -> None:
    writer.add_context_length(tiny.CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(tiny.VOCAB)
    add_byte_level_tokenizer(writer)


def add_byte_level_tokenizer(writer: gguf.GGUFWriter) -> None:
    """tests/support/tiny.py's tokenizer; it has no token ``<|endoftext|>``."""
    raw = json.loads(tiny.byte_level_tokenizer().to_str())
    vocabulary = sorted(raw["model"]["vocab"], key=raw["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    writer.add_token_types([CONTROL if token in tiny.SPECIALS else NORMAL for token in vocabulary])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]])
    writer.add_eos_token_id(0)
    writer.add_chat_template(tiny.TEMPLATE)
