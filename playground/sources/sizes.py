"""How large a network a configuration may claim: what is refused, so that no number in a file takes all memory.

A bound stands only where a number decides how much is allocated: lists as long as the network is deep, modules, tables,
matrices. None (or 0) is how a family says that it has no such part: no experts, no feed-forward part of its own, a head
size that follows from the others. Unknown fields are left alone. The numbers are looked for in every part of the
configuration, whatever that part is called. The module reads values; files are the business of ``limits.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from playground.catalog.config_names import (
    ATTENTION_HEADS,
    CONTEXT_LENGTH,
    HEAD_DIM,
    HIDDEN_SIZE,
    INTERMEDIATE_SIZE,
    KEY_VALUE_HEADS,
    LAYERS,
    VOCAB_SIZE,
)
from playground.messages import NOTHING, Translatable, msg

Config = Mapping[str, Any]

_BOUNDS = {
    4_000_000: VOCAB_SIZE,
    65_536: (*HIDDEN_SIZE, "dim", "emb_dim", "embed_dim", "word_embed_proj_dim", "lru_width"),
    1_024: (
        *(*LAYERS, "num_blocks", "depth"),
        *("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"),
        *(*ATTENTION_HEADS, *KEY_VALUE_HEADS, "encoder_attention_heads", "decoder_attention_heads"),
    ),
    4_096: (*HEAD_DIM, "global_head_dim"),
    1 << 20: (
        *(*INTERMEDIATE_SIZE, "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size"),
        *("encoder_ffn_dim", "decoder_ffn_dim", "d_inner"),
    ),
    65_535: ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    1 << 24: CONTEXT_LENGTH,
}
"""Largest believable values, several times what published models have, and the fields they are for: the sizes of the
text's own network under all their names, and those of parts that are not it (towers, experts, encoders).
"""

_MOST = {field: most for most, fields in _BOUNDS.items() for field in fields}

_NEVER_ZERO = (*VOCAB_SIZE, *HIDDEN_SIZE, *LAYERS)
"""Where the text's own part of a configuration states them, there must be something."""

_TEXT_PARTS = ("text_config", "language_config", "llm_config", "thinker_config", "decoder")


def complaint(config: Config) -> Translatable:
    """What is unbelievable about the sizes, with the field, its value and why; "" where nothing is."""
    text = text_part(config)
    for place, block in blocks(config):
        for field in _MOST.keys() & block.keys():
            least = 1 if block is text and field in _NEVER_ZERO else 0
            most = _MOST[field]
            for value in _values(block[field]):
                if not _believable(value, least, most):
                    return msg(
                        "{place}{field} is {value}; a whole number from {least} to {most:,} is believable, and memory "
                        "is taken by it",
                        place=place,
                        field=field,
                        value=str(value)[:40],
                        least=least,
                        most=most,
                    )
    return NOTHING


def _values(value: Any) -> Iterator[Any]:
    """The value, or those of each layer; parts that bear the name of a size are looked into by themselves."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
        elif not isinstance(item, dict):
            yield item


def _believable(value: Any, least: int, most: int) -> bool:
    if value is None:
        return True
    # A few files write 1200.0 for a whole number.
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most and value % 1 == 0


def blocks(config: Config) -> Iterator[tuple[str, Config]]:
    """The configuration and every part of it, each with the path to it, such as ``text_config.``."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, Mapping):
            yield place, item
            waiting.extend((f"{place}{name}.", part) for name, part in item.items() if isinstance(part, dict | list))
        elif isinstance(item, list):
            waiting.extend((place, part) for part in item if isinstance(part, dict | list))


def text_part(config: Config) -> Config:
    """The part that describes the network which writes text."""
    for name in _TEXT_PARTS:
        inner = config.get(name)
        if isinstance(inner, dict):
            return text_part(inner)
    return config


def more_than(config: Config, parameters: int) -> Translatable:
    """Why the network of ``config`` is larger than its weights, in words; "" where it may well fit.

    transformers makes up what is missing from the weights, at its full size. Each product below is a part of every
    network with these sizes, with much room: layers may share their weights, matrices may be of low rank, experts may
    stand in a few layers only, embeddings may be narrower than the layers. An exact count needs the network itself.

    Args:
        parameters: What the weights hold.
    """
    text = text_part(config)
    hidden, hidden_name = _size(text, HIDDEN_SIZE)
    vocab, vocab_name = _size(text, VOCAB_SIZE)
    layers, layers_name = _size(text, LAYERS)
    wide, wide_name = _size(text, INTERMEDIATE_SIZE)
    narrow = min([hidden, *_embedding_widths(text)])
    depth = {"layers_name": layers_name, "layers": layers, "hidden_name": hidden_name, "hidden": hidden}
    described = {
        msg(
            "{vocab_name} {vocab:,} with embeddings of {width:,}", vocab_name=vocab_name, vocab=vocab, width=narrow
        ): vocab * narrow,
        msg("{layers_name} {layers:,} with {hidden_name} {hidden:,}", **depth): layers * hidden * hidden // _ROOM,
        msg(
            "{layers_name} {layers:,} with {hidden_name} {hidden:,} and {wide_name} {wide:,}",
            **depth,
            wide_name=wide_name,
            wide=wide,
        ): layers * hidden * wide // _ROOM,
    }
    said, least = max(described.items(), key=lambda each: each[1])
    if least <= 2 * parameters:
        return NOTHING
    return msg(
        "{sizes} need at least {least:,} parameters, its weights hold {parameters:,}",
        sizes=said,
        least=least,
        parameters=parameters,
    )


_ROOM = 32
"""How many times smaller than layers × matrices a network may be."""


def _size(config: Config, names: tuple[str, ...]) -> tuple[int, str]:
    """The first of the fields that holds a plain number, 0 without one."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value, name
    return 0, names[0]


def _embedding_widths(config: Config) -> list[int]:
    return [
        value
        for name, value in config.items()
        if "emb" in name and "position" not in name and isinstance(value, int) and not isinstance(value, bool)
        if value > 1
    ]
