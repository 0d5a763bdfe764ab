"""What a model does with a text, from its own small files: answer a chat, continue it, or write another beside it.

The module reads config.json and looks for a chat template. It knows neither weights nor tokens, and asks no network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from playground.catalog.template_files import find_template, read_json
from playground.errors import PlaygroundError
from playground.messages import Translatable, msg
from playground.records import ModelKind

WORDS: dict[ModelKind, Translatable] = {
    "chat": msg("answers (chat model)"),
    "base": msg("continues text (base model)"),
    "text2text": msg("turns a text into another (encoder-decoder)"),
}
"""What a model of each kind does."""

ENCODERS = {
    *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "florence2", "fsmt", "led"),
    *("longt5", "m2m_100", "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "pix2struct", "plbart"),
    *("pp_formulanet", "prophetnet", "seamless_m4t", "seamless_m4t_v2", "switch_transformers", "t5", "t5gemma"),
    *("t5gemma2", "udop", "umt5", "vision-encoder-decoder", "whisper"),
}
"""Types of models whose configuration is that of an encoder and a decoder where it does not say otherwise."""


def has_encoder(config: Mapping[str, Any]) -> bool:
    """Whether the model of this config.json reads the prompt with an encoder and writes with a decoder beside it."""
    said = config.get("is_encoder_decoder")
    return said if isinstance(said, bool) else config.get("model_type") in ENCODERS


def kind_in(folder: Path) -> ModelKind | None:
    """The kind of the model whose files lie in ``folder``; None where they don't tell (there is no config.json)."""
    if _has_template(folder):
        return "chat"
    config = read_json(folder / "config.json", or_empty=True)
    if not config:
        return None
    return "text2text" if has_encoder(config) else "base"


def _has_template(folder: Path) -> bool:
    try:
        return find_template(folder) is not None
    except PlaygroundError:  # there is one, and whoever renders it will say what is wrong with it
        return True


def kind_told(config: Mapping[str, Any], tags: Collection[str]) -> ModelKind | None:
    """The kind of a repository of which config.json and the Hub's tags are known; None where neither tells.

    The Hub calls a model "conversational" that has a chat template.
    """
    if "conversational" in tags:
        return "chat"
    if not config:
        return None
    return "text2text" if has_encoder(config) else "base"
