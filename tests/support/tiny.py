"""A tiny random Llama with its own tokenizer and template: real runtimes in seconds, without weights or network."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from playground.records import Artifact, ModelSpec, Variant

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|turn|>system\nBe brief.<|end|>\n{% endif %}"
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
SPECIALS = ("<|eos|>", "<|turn|>", "<|end|>")
VOCAB = 384
CONTEXT = 640


def byte_level_tokenizer() -> Tokenizer:
    """A byte-level BPE, so small that emoji and Japanese are spread over several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(SPECIALS)
    )
    text = "the quick brown fox jumps over the lazy dog and the capital of France is Paris, user system assistant"
    tokenizer.train_from_iterator([text] * 4, trainer)
    return tokenizer


def byte_fallback_tokenizer(strip: bool) -> Tokenizer:
    """Like Gemma's (``strip`` False) or Llama 2's (True): ▁ for a space, unknown characters as ``<0xE3>`` tokens."""
    words = ["<unk>", "<eos>", "▁", "a", "▁a", "b", "▁the", "é", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "a")], unk_token="<unk>", byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True, normalized=False)])
    return tokenizer


def write_tokenizer(folder: Path, template: str | None = TEMPLATE, **config: object) -> Path:
    """tokenizer.json and its configuration, as transformers 5 writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_level_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|eos|>", "tokenizer_class": "TokenizersBackend", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def spec(kind: str = "chat", context_length: int = CONTEXT) -> ModelSpec:
    return ModelSpec("tiny", "Tiny", "path:tiny", "0", "torch", "fp32", context_length, kind)  # type: ignore[arg-type]


def artifact(folder: Path, runtime: str) -> Artifact:
    recipe = "fused" if runtime == "onnx" else "none"
    return Artifact(Variant("tiny", runtime, "fp32"), str(folder), recipe, "0", "", 0)


def write_model(folder: Path) -> Path:
    """A random two-layer Llama saved by transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_fused(source: Path, folder: Path) -> Path:
    """The same model as the fused graph that the onnx runtime runs."""
    import shutil

    from onnxruntime_genai.models import builder

    options = ["hf_token=false", "prune_lm_head=true"]
    extra = builder.parse_extra_options("", str(source), str(folder), "fp32", "cpu", str(folder / "cache"), options)
    builder.create_model("", str(source), str(folder), "fp32", "cpu", str(folder / "cache"), **extra)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, folder / name)
    return folder
