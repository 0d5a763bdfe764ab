"""A tiny network of an architecture's real class, with weights that make every part of it count, written to disk."""

from __future__ import annotations

import copy
import itertools
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.families.sweep.names import Architecture, architectures
from tests.families.sweep.shapes import DECODERS, LANGUAGE_PARTS
from tests.families.sweep.sizes import HEADS, PLACEHOLDERS, WIDTH, configuration
from tests.support import tiny

MOST = 40_000_000
"""Parameters; whatever is larger has a size that ``sizes.py`` does not know by name."""

SPREAD = 3.0
"""Standard deviation of the logits, about what trained models have; flat ones would leave every choice to rounding."""

_ONLY_MOVED = re.compile(r"a_log|dt_|time_|inv_freq|conv_weights|\bscale|tid2eid|hash|freqs", re.IGNORECASE)
"""Parameters whose usual values mean something: they are shaken a little instead of drawn."""

_POSITIONS = re.compile(r"position|wpe|relative_attention_bias", re.IGNORECASE)


class NotSmall(ValueError):
    """No network that can be computed here was found for an architecture."""


def write(architecture: Architecture, folder: Path) -> None:
    """Config, safetensors and tokenizer as a publisher puts them; the same bytes each time.

    Raises:
        Exception: Whatever transformers says of the configuration that was tried first.
    """
    network = build(architecture)
    randomise(network)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    _save(network, part)
    if architecture.model_type in LANGUAGE_PARTS:
        _save(network, alone(folder))
        _make_composite(architecture, part)
    part.rename(folder)


def alone(folder: Path) -> Path:
    """Where the language part of a composite lies by itself, for the judge, if it does."""
    return folder.with_name(f"{folder.name}.language")


def _save(network: Any, folder: Path) -> None:
    tiny.write_tokenizer(folder, template=None, bos_token=tiny.SPECIALS[1], pad_token=tiny.SPECIALS[2])
    network.save_pretrained(folder)


def _make_composite(architecture: Architecture, folder: Path) -> None:
    """Give a language part the names and the configuration of the whole checkpoint that it is published in."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {
        name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name: weight
        for name, weight in load_file(folder / "model.safetensors").items()
    }
    weights["model.vision_tower.stem.weight"] = torch.zeros(4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    configuration(architecture).save_pretrained(folder)


def build(architecture: Architecture) -> Any:
    """A network that has computed something, or else the first that could be made."""
    import torch

    first: Any = None
    problem: Exception | None = None
    for changes in _attempts():
        try:
            torch.manual_seed(1)
            network = _network(architecture, configuration(architecture, changes))
            first = first or network
            probe(network)
        except Exception as error:  # transformers raises whatever happens to break; the first says most
            problem = problem or error
            continue
        return network
    if first is not None:
        return first
    assert problem is not None
    raise problem


def _attempts() -> Iterator[dict[str, Any]]:
    """Sizes of heads that some architectures insist on."""
    for head, key_values in itertools.product((None, WIDTH // HEADS), (None, HEADS)):
        changes = {"head_dim": head, "num_key_value_heads": key_values}
        yield {name: value for name, value in changes.items() if value is not None}


def _network(architecture: Architecture, config: Any) -> Any:
    import torch
    import transformers

    cls: Any = getattr(transformers, LANGUAGE_PARTS.get(architecture.model_type, architecture.classes[0]))
    if architecture.model_type in LANGUAGE_PARTS:
        config = config.get_text_config()
    if not isinstance(config, cls.config_class):
        # Of a composite checkpoint the class reads the language part; it is published whole all the same.
        whole = architectures("image-text").get(architecture.model_type)
        if whole is not None:
            cls = getattr(transformers, whole.classes[0])
        else:
            config = config.get_text_config()
    if architecture.listed == "causal" and architecture.model_type in DECODERS:
        config.is_decoder = True
    with torch.device("meta"):
        try:
            size = sum(weight.numel() for weight in cls(copy.deepcopy(config)).parameters())
        except (NotImplementedError, RuntimeError):  # some compute with their weights while they are made
            size = 0
    if size > MOST:
        raise NotSmall(f"{size / 1e6:.0f} million parameters are left")
    return cls(config).float().eval()


def probe(network: Any) -> Any:
    """Logits ``[tokens, vocab]`` for a few ids, without a cache."""
    import torch

    ids = torch.tensor([[(37 * place + 11) % 250 + 20 for place in range(24)]])
    given = {"decoder_input_ids": ids} if network.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **given).logits[0]


def randomise(network: Any) -> None:
    """Draw every weight anew, then make the logits as far apart as trained ones are.

    The usual initialisation makes logits nearly flat, norms all ones and biases all zeros: whoever forgot any of them
    would not be found out.
    """
    import torch

    draw = torch.Generator().manual_seed(7)
    embedding, head = _ends(network)
    tied = head is not None and head is embedding
    seen: set[int] = set()
    with torch.no_grad():
        for where, module in network.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) in seen or not weight.is_floating_point():
                    continue
                seen.add(id(weight))
                noise = torch.randn(weight.shape, generator=draw)
                if weight.dim() < 2 or _ONLY_MOVED.search(f"{where}.{name}"):
                    weight.add_((0.1 if weight.dim() < 2 else 0.02) * noise)
                elif weight is embedding or isinstance(module, torch.nn.Embedding):
                    usual = 0.3 if _POSITIONS.search(f"{where}.{name}") else 1.0
                    weight.copy_((0.05 if tied else usual) * noise)
                elif isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
                    weight.copy_(noise / math.sqrt(math.prod(weight.shape[1:])))
                else:
                    scale = SPREAD if weight is head else 0.3 if _POSITIONS.search(f"{where}.{name}") else 1.0
                    weight.copy_(scale * noise / math.sqrt(max(1, min(weight.shape[-2:]))))
        network.tie_weights()
        if head is not None and head.shape[0] == tiny.VOCAB:
            # A logit of nothing beside others of three: no answer ends early or holds what stands for an image.
            head[[*range(len(tiny.SPECIALS)), *PLACEHOLDERS]] = 0.0
    _spread(network, tied)


def _ends(network: Any) -> tuple[Any, Any]:
    """The weights of the embeddings and of the head, None where a network has them elsewhere."""
    found = []
    for getter in (network.get_input_embeddings, network.get_output_embeddings):
        try:
            found.append(getattr(getter(), "weight", None))
        except (NotImplementedError, AttributeError):
            found.append(None)
    if found[1] is None:  # some composites do not know where their language part has it
        found[1] = next((part.weight for name, part in network.named_modules() if name.endswith("lm_head")), None)
    return found[0], found[1]


def _spread(network: Any, tied: bool) -> None:
    """Scale the head, or the norm before one that is the embedding, until the logits are ``SPREAD`` apart."""
    import torch

    for _ in range(3):
        try:
            width = float(probe(network).float().std(-1).mean())
        except Exception:  # what can't be computed is left to the judge, who says why
            return
        if not (math.isfinite(width) and width > 0) or SPREAD / 2 < width < SPREAD * 4:
            return
        factor = SPREAD / width
        _, head = _ends(network)
        norm = _last_norm(network) if tied else None
        with torch.no_grad():
            if norm is not None:
                around = 1.0 if abs(float(norm.weight.mean())) < 0.5 else 0.0  # Gemma's are added to one
                norm.weight.copy_((norm.weight + around) * factor - around)
                if getattr(norm, "bias", None) is not None:
                    norm.bias.mul_(factor)
            elif head is not None and not tied:
                head.mul_(factor)
            else:
                return


def _last_norm(network: Any) -> Any:
    """The last module with a vector of weights that computes before the head does."""
    ran: list[Any] = []
    before: list[Any] = []
    norms = [module for module in network.modules() if getattr(getattr(module, "weight", None), "ndim", 0) == 1]
    handles = [norm.register_forward_hook(lambda module, _given, _output: ran.append(module)) for norm in norms]
    head = network.get_output_embeddings()
    handles.append(head.register_forward_pre_hook(lambda _module, _given: before.extend(ran[-1:])))
    try:
        probe(network)
    finally:
        for handle in handles:
            handle.remove()
    return before[-1] if before else None
