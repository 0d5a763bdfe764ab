"""transformers' networks with every weight accounted for, and the language model inside one that sees as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from playground.errors import ExportError
from playground.export.weights import import_model
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.runtimes.torch.networks import load_network
from tests.support import tiny
from tests.support.hub_repos import tiny_llama

pytestmark = [pytest.mark.integration, pytest.mark.parallel]

Weights = dict[str, Any]


def folder_with(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A tiny Llama on disk, with its weights as ``change`` makes them."""
    files = tiny_llama()
    weights = change(dict(load(files["model.safetensors"])))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, "model.safetensors": save(weights, {"format": "pt"})}.items():
        (folder / name).write_bytes(content)
    return folder


def without_a_layer(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if "layers.1." not in name}


def with_a_prefix(weights: Weights) -> Weights:
    return {f"_orig_mod.{name}": value for name, value in weights.items()}


def cut_short(weights: Weights) -> Weights:
    return {name: value[:-1] if name == "model.norm.weight" else value for name, value in weights.items()}


def with_one_layer_more(weights: Weights) -> Weights:
    more = {name.replace("layers.1.", "layers.2."): value for name, value in weights.items() if "layers.1." in name}
    return weights | more


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_layer, r"weights are missing: model\.layers\.1\..* and \d+ more$"),
        (with_a_prefix, r"missing: .*lm_head\.weight.*; weights that are no part of the network: _orig_mod\."),
        (cut_short, r"weights of another shape: model\.norm\.weight$"),
        (with_one_layer_more, r"^weights that are no part of the network: model\.layers\.2\."),
    ],
)
def test_weights_that_do_not_fit_the_network_are_refused_by_name(
    tmp_path: Path, change: Callable[[Weights], Weights], said: str
) -> None:
    folder = folder_with(tmp_path / "model", change)
    with pytest.raises(IncompleteWeights, match=said):
        load_network(folder)
    (tmp_path / "import").mkdir()
    with pytest.raises(ExportError, match="Tiny is refused: its files and the network they describe do not fit"):
        import_model(tiny.spec(), tuple(sorted(folder.iterdir())), tmp_path / "import", lambda *_: None)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.k_scale",
        "v_head.summary.weight",
        "model.vision_tower.patch.weight",
        "mtp.layers.0.weight",
    ],
)
def test_what_no_text_passes_through_may_lie_beside_the_weights(tmp_path: Path, name: str) -> None:
    folder = folder_with(tmp_path, lambda weights: weights | {name: np.zeros(3, np.float32)})
    assert type(load_network(folder).model).__name__ == "LlamaForCausalLM"


def gemma3_that_sees(folder: Path) -> Any:
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        "vocab_size": tiny.VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    eyes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    torch.manual_seed(5)
    config = Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=4, image_token_index=5)
    whole = Gemma3ForConditionalGeneration(config).eval()
    tiny.write_tokenizer(folder, template=None)
    whole.save_pretrained(folder)
    return whole


def imported(folder: Path, target: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    target.mkdir()
    notes = import_model(tiny.spec("base"), tuple(sorted(folder.iterdir())), target, lambda *_: None)
    return json.loads((target / "config.json").read_text(encoding="utf-8")), notes


def assert_same_logits(part: Any, whole: Any) -> None:
    import torch

    ids = torch.tensor([[(7 * place + 3) % 300 for place in range(70)]])
    with torch.inference_mode():
        assert float((part(ids).logits - whole(input_ids=ids).logits).abs().max()) < 1e-4


def test_of_a_network_that_also_sees_the_language_model_is_kept_and_writes_the_same(tmp_path: Path) -> None:

    whole = gemma3_that_sees(tmp_path / "model")
    config, notes = imported(tmp_path / "model", tmp_path / "import")
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    assert "images" in notes[0]
    assert_same_logits(load_network(tmp_path / "import").model, whole)


def test_a_part_that_would_write_something_else_is_not_taken_out(tmp_path: Path) -> None:
    """Cohere's plain language model scales its logits, and the one inside Aya Vision does not."""
    import torch
    from transformers import AyaVisionConfig, AyaVisionForConditionalGeneration

    eyes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "cohere2", "vocab_size": tiny.VOCAB, "hidden_size": 64, "intermediate_size": 128}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "logit_scale": 0.5}
    torch.manual_seed(6)
    config = AyaVisionConfig(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", **eyes, "image_size": 16, "patch_size": 8},
        image_token_index=5,
    )
    tiny.write_tokenizer(tmp_path / "model", template=None)
    AyaVisionForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    described, notes = imported(tmp_path / "model", tmp_path / "import")
    assert described["architectures"] == ["AyaVisionForConditionalGeneration"]
    assert "images" in notes[0]
    assert load_network(tmp_path / "import").sees


def test_where_a_tower_wants_a_package_that_is_not_there_the_language_model_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    def wants(*_: Any, **__: Any) -> Any:
        raise ImportError("SomeTower requires the eyes library but it was not found in your environment.")

    whole = gemma3_that_sees(tmp_path / "model")
    with monkeypatch.context() as patch:
        for auto in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
            patch.setattr(auto, "from_pretrained", wants)
        config, notes = imported(tmp_path / "model", tmp_path / "import")
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    assert "images" in notes[0]
    assert_same_logits(load_network(tmp_path / "import").model, whole)


def test_what_nothing_of_transformers_reads_without_a_package_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    def wants(*_: Any, **__: Any) -> Any:
        raise ImportError("SomeTower requires the eyes library but it was not found in your environment.")

    folder = folder_with(tmp_path / "model", dict)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", wants)
    (tmp_path / "import").mkdir()
    with pytest.raises(
        ExportError, match=r"Tiny can't be read by transformers without another package: .*eyes library"
    ):
        import_model(tiny.spec(), tuple(sorted(folder.iterdir())), tmp_path / "import", lambda *_: None)
