"""transformers' own network from a folder or a GGUF file, all of its weights accounted for.

Which of transformers' classes reads a checkpoint is asked of its own lists: those that write text from text alone, then
encoder-decoder models, then those that read images or sounds as well and are given text only. The module does not know
what is done with the network.
"""

from __future__ import annotations

import copy
import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalog import quantization
from playground.catalog.weight_files import packed_in
from playground.errors import Reason, some
from playground.messages import NOTHING, clauses, msg
from playground.runtimes.torch.gguf_rope import complete_rope
from playground.runtimes.torch.incomplete import NAMED_TENSORS, IncompleteWeights
from playground.runtimes.torch.libraries import load_libraries
from playground.runtimes.torch.skeletons import too_large

_BUFFERS = re.compile(
    r"(^|\.)(inv_freq|cos_cached|sin_cached|position_ids|masked_bias|rope\.freqs|rotary_emb\..*"
    r"|attn\.bias|attention\.bias|num_batches_tracked|[kvq]_scale|v_head\..*)$"
)
"""Constants that old checkpoints hold beside their weights, and that every network computes for itself; scales for a
rounded cache, and the heads that judged answers in training. None of them changes a text."""

_OTHER_PARTS = re.compile(
    r"(^|[._])(vision|visual|image|img|vit|audio|speech|video|multi_modal|multimodal|mm_|mtp|talker|token2wav|code2wav)"
)
"""Parts of a checkpoint that no text passes through: towers for images and sounds, and heads that guess ahead."""


@dataclass(frozen=True)
class Network:
    """A network in fp32, ready to compute.

    Attributes:
        model: transformers' own object.
        has_encoder: Whether an encoder reads the prompt and a decoder writes the answer.
        parts_unread: Whether the files hold towers for images or sounds that were left aside.
    """

    model: Any
    has_encoder: bool
    parts_unread: bool = False

    @property
    def sees(self) -> bool:
        """Whether it is made for more than text: images, video or sound."""
        config = self.model.config
        return self.parts_unread or any(_OTHER_PARTS.search(name) for name in getattr(config, "sub_configs", ()))


def load_network(folder: Path, gguf: str = "", *, deferred: bool = False, bf16: bool = False) -> Network:
    """Load what transformers' authors mean by these files, in fp32.

    Args:
        folder: Holds config.json and safetensors, or config.json and ``GGUF_FILE`` (an import), or the GGUF file.
        gguf: The name of the GGUF file in it, where that alone is the source.
        deferred: Whether weights stay in their files until they are computed with (``deferred.py``): slower, and of
            any size. Weights that were rounded in safetensors are in memory all the same.
        bf16: Whether weights become bf16 instead, for an accelerator.

    Raises:
        IncompleteWeights: Weights are missing, of another shape, or nobody's.
        Exception: Whatever transformers finds wrong with the files.
    """
    load_libraries()
    from playground.runtimes.torch.gguf_weights import quick_gguf

    packed = packed_in(folder)
    weights = gguf or (packed.name if packed else "")
    if not weights:
        return _load(folder, "", _config(folder), deferred, bf16)
    with quick_gguf(deferred):
        if not gguf:
            network = _load(folder, weights, _config(folder), deferred, bf16)
            _generates_as_said(network.model, folder)
            return network
        config = _config(folder, gguf_file=gguf)
        if wrong := complete_rope(folder / gguf, config):
            raise IncompleteWeights(wrong)
        return _load(folder, gguf, config, deferred, bf16)


_ONLY: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def _config(folder: Path, **named: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, **_ONLY, **named)


def _load(folder: Path, gguf: str, config: Any, deferred: bool, bf16: bool) -> Network:
    import torch

    from playground.runtimes.torch.deferred import defer, mapped

    settings = None if gguf else quantization.settings_of(config)
    files = [folder / gguf] if gguf else sorted(folder.rglob("*.safetensors"))
    stays = deferred and settings is None
    problem: Exception | None = None
    for reader, described, has_encoder, names in _readers(config):
        try:
            if wrong := too_large(reader, described, files):
                raise IncompleteWeights(wrong)
            with mapped() if stays else nullcontext():
                model, found = reader.from_pretrained(
                    folder,
                    config=_with_rounding(described, settings),
                    dtype=torch.bfloat16 if bf16 else torch.float32,
                    use_safetensors=None if gguf else True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are found, and refused by name
                    **({"key_mapping": names} if names else {}),
                    **_as_floats(settings),
                    **({"gguf_file": gguf} if gguf else {}),
                    **_ONLY,
                )
            if settings is not None:
                quantization.forget(model.config)
            if gguf:
                # transformers' own objects, but for how the weights came.
                model.hf_quantizer, model.is_quantized = None, False
                quantization.forget(model.config)
            if settings is not None or names:
                # The weights are saved under the names and as the numbers they have now, not as they were found.
                model._weight_conversions = None
            _check(found)
            if stays:
                defer(model)
        # The next class may know names that this one does not, or do without a package that a tower wants.
        except (IncompleteWeights, ImportError) as error:
            problem = problem or error
            continue
        others = any(_OTHER_PARTS.search(name) for name in found["unexpected_keys"])
        return Network(model.eval(), has_encoder, others or described is not config)
    if problem is not None:
        raise problem
    raise Reason(msg("transformers has no class that writes text for '{family}'", family=config.model_type))


_INSIDE = {
    r"^(model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(model\.)?language_model\.model\.": "model.",
    r"^(model\.)?language_model\.": "model.",
}
"""What a network that also sees calls the weights of its language model, and what they are called in one alone."""


def _readers(config: Any) -> list[tuple[Any, Any, bool, dict[str, str]]]:
    """transformers' classes that know this configuration, each with what it is given, whether it has an encoder, and
    names of weights to be changed.

    The last ones are the class of the language model inside, where the configuration has one.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    encoder = bool(getattr(config, "is_encoder_decoder", False))
    lists = [
        (transformers.AutoModelForCausalLM, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING, False),
        (transformers.AutoModelForSeq2SeqLM, modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, encoder),
        (transformers.AutoModelForImageTextToText, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, encoder),
        (transformers.AutoModelForMultimodalLM, modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING, encoder),
    ]
    no_names: dict[str, str] = {}
    if encoder:  # BART's kind has a class of its own that is a decoder alone
        lists = lists[1:] + lists[:1]
    readers = [(auto, config, has_encoder, no_names) for auto, known, has_encoder in lists if type(config) in known]
    if not readers:  # a part that is a network of its own, and in no list: its configuration names its class
        named = [getattr(transformers, str(name), None) for name in config.architectures or ()]
        readers = [(kind, config, encoder, no_names) for kind in named if _writes(kind, config)]
    inside = config.get_text_config(decoder=True)
    if inside is not config and not encoder and type(inside) in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(inside)]
        readers += [(kind, inside, False, names) for names in (no_names, _INSIDE)]
    return readers


def _writes(kind: Any, config: Any) -> bool:
    """Whether ``kind`` is a class of transformers that writes text and is described by such a configuration."""
    from transformers import GenerationMixin, PreTrainedModel

    is_network = isinstance(kind, type) and issubclass(kind, PreTrainedModel) and issubclass(kind, GenerationMixin)
    return is_network and kind.config_class is type(config)


def _with_rounding(config: Any, settings: dict[str, Any] | None) -> Any:
    """A configuration of one's own, with the settings of the whole where it is a part."""
    own = copy.deepcopy(config)
    if settings is not None:
        own.quantization_config = settings
    return own


def _as_floats(settings: dict[str, Any] | None) -> dict[str, Any]:
    """What makes transformers undo the rounding of a checkpoint while it loads; nothing for plain weights."""
    if settings is None:
        return {}
    from transformers.quantizers.auto import AutoQuantizationConfig

    # Without a place of its own, one method asks for Apple's graphics even where there are none.
    rounding = AutoQuantizationConfig.from_dict({**settings, "dequantize": True})
    return {"quantization_config": rounding, "device_map": {"": "cpu"}}


def _generates_as_said(model: Any, folder: Path) -> None:
    """Give the network the import's settings of generation, which transformers reads beside safetensors alone."""
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)


def _check(found: Any) -> None:
    missing = sorted(found["missing_keys"])
    mismatched = sorted(name for name, *_ in found["mismatched_keys"])
    nobodys = sorted(
        name for name in found["unexpected_keys"] if not (_BUFFERS.search(name) or _OTHER_PARTS.search(name))
    )
    said = (
        msg("weights are missing: {names}", names=some(missing, NAMED_TENSORS)) if missing else NOTHING,
        msg("weights of another shape: {names}", names=some(mismatched, NAMED_TENSORS)) if mismatched else NOTHING,
        msg("weights that are no part of the network: {names}", names=some(nobodys, NAMED_TENSORS))
        if nobodys
        else NOTHING,
    )
    if wrong := [each for each in said if each]:
        raise IncompleteWeights(clauses(*wrong))
