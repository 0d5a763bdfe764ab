"""GGUF files become the model they hold: every tensor read, no token more, rotary positions as the file states them,
split files as one. Small files, written as llama.cpp's converter writes them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from playground import sources
from playground.errors import ExportError, SourceError
from playground.export.weights import import_model
from playground.runtimes.torch import gguf_rope
from playground.runtimes.torch.networks import load_network
from playground.sources.headers import read_gguf
from tests.support import ggufs, tiny


def imported(tmp_path: Path, files: list[Path]) -> Path:
    target = tmp_path / "import"
    target.mkdir()
    import_model(tiny.spec(), tuple(files), target, lambda *_: None)
    return target


def refused(tmp_path: Path, files: list[Path]) -> str:
    with pytest.raises(ExportError) as caught:
        imported(tmp_path, files)
    return str(caught.value)


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    found = load_network(imported(tmp_path, ggufs.write_llama(tmp_path / "m.gguf"))).model.state_dict()
    expected = ggufs.llama_weights()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name].numpy(), expected[name]) for name in expected)


def test_the_file_is_kept_as_it_came_and_takes_no_room_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = ggufs.write_llama(tmp_path / "m.gguf")
    kept = imported(tmp_path, [path]) / "model.gguf"
    assert kept.samefile(path)
    path.unlink()
    assert load_network(kept.parent).model.config.num_hidden_layers == 2
    (tmp_path / "import").rename(tmp_path / "first")

    def another_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", another_disk)
    (path,) = ggufs.write_llama(tmp_path / "m.gguf")
    copied = imported(tmp_path, [path]) / "model.gguf"
    assert not copied.samefile(path)
    assert copied.read_bytes() == path.read_bytes()


def test_an_import_generates_as_its_files_say(tmp_path: Path) -> None:
    """transformers reads no generation_config.json beside a GGUF file; the import has one."""
    folder = imported(tmp_path, ggufs.write_llama(tmp_path / "m.gguf"))
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"top_k": 7}))
    assert load_network(folder).model.generation_config.top_k == 7


def test_no_token_lies_beyond_the_files_vocabulary(tmp_path: Path) -> None:
    """GPT-2's class adds its ``<|endoftext|>``, whose id would be the first one behind the vocabulary."""
    folder = imported(tmp_path, ggufs.write_llama(tmp_path / "m.gguf"))
    vocabulary = tiny.byte_level_tokenizer().get_vocab()
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert raw.get_vocab() == vocabulary
    reloaded = AutoTokenizer.from_pretrained(folder)
    assert reloaded.get_vocab() == vocabulary
    text = "the quick <|endoftext|> fox <|end|>"
    assert reloaded.encode(text) == tiny.byte_level_tokenizer().encode(text).ids
    assert reloaded.eos_token_id == 0


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_split_file_is_read_as_the_whole_one(tmp_path: Path, parts: int) -> None:
    whole = ggufs.write_llama(tmp_path / "whole.gguf")
    first = imported(tmp_path, whole)
    (tmp_path / "import").rename(tmp_path / "first")
    split = ggufs.write_llama(tmp_path / "m.gguf", parts=parts)
    assert len(split) == parts
    second = imported(tmp_path, split)
    ours, theirs = (load_network(folder).model.state_dict() for folder in (second, tmp_path / "first"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (second / "tokenizer.json").read_text() == (tmp_path / "first" / "tokenizer.json").read_text()
    assert {path.name for path in second.iterdir()} == {path.name for path in (tmp_path / "first").iterdir()}
    assert first == second  # the same place: nothing of the joined file is left in it


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    first = ggufs.write_llama(tmp_path / "m.gguf", parts=3)
    other = ggufs.write_llama(tmp_path / "o.gguf", parts=3, without=["output.weight"])
    assert "counts 21 tensors, its parts hold" in refused(tmp_path, [first[0], other[1], first[2]])
    (tmp_path / "import").rmdir()
    assert "calls itself part 3" in refused(tmp_path, [first[0], first[2], first[1]])


def test_a_tensor_that_nobody_reads_is_refused_by_name(tmp_path: Path) -> None:
    more = {"blk.1.attn_q.bias": np.ones(64, np.float32), "blk.0.secret.weight": np.ones((4, 4), np.float32)}
    message = refused(tmp_path, ggufs.write_llama(tmp_path / "m.gguf", more))
    assert "blk.0.secret.weight" in message
    assert "blk.1.attn_q.bias" in message


def test_a_tensor_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    files = ggufs.write_llama(tmp_path / "m.gguf", without=["blk.1.ffn_up.weight"])
    assert "model.layers.1.mlp.up_proj.weight" in refused(tmp_path, files)


def test_factors_of_ones_and_heads_that_guess_ahead_are_no_missing_part(tmp_path: Path) -> None:
    more = {"rope_freqs.weight": np.ones(8, np.float32), "blk.2.nextn.eh_proj.weight": np.ones((4, 4), np.float32)}
    config = json.loads((imported(tmp_path, ggufs.write_llama(tmp_path / "m.gguf", more)) / "config.json").read_text())
    assert config["rope_parameters"]["rope_type"] == "default"


def llama3(head: int, theta: float) -> tuple[Any, Any]:
    """Llama 3.2's settings, and the factors that follow from them as transformers computes the frequencies."""
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192, "rope_theta": theta}
    config = LlamaConfig(head_dim=head, max_position_embeddings=131072, rope_parameters=scaling)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / theta ** (torch.arange(0, head, 2) / head)
    return scaling, (plain / stretched).numpy().astype(np.float32)


def test_llama_3s_factors_become_its_rotary_positions(tmp_path: Path) -> None:
    scaling, factors = llama3(16, 10000.0)
    assert factors.max() == pytest.approx(32.0)
    folder = imported(tmp_path, ggufs.write_llama(tmp_path / "m.gguf", {"rope_freqs.weight": factors}))
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_parameters"] == scaling
    model = load_network(folder).model
    plain = 1.0 / 10000.0 ** (torch.arange(0, 16, 2) / 16)
    assert torch.allclose(model.model.rotary_emb.inv_freq, plain / torch.from_numpy(factors), rtol=1e-5)


def test_factors_by_no_known_rule_are_refused(tmp_path: Path) -> None:
    factors = np.linspace(1.0, 9.0, 8, dtype=np.float32)
    assert "rope_freqs.weight" in refused(
        tmp_path, ggufs.write_llama(tmp_path / "m.gguf", {"rope_freqs.weight": factors})
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 160},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 160},
        ),
        ({"type": "none"}, {"rope_type": "default"}),
    ],
)
def test_stretched_positions_are_taken_from_the_metadata(
    tmp_path: Path, said: dict[str, Any], expected: dict[str, Any]
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for name, value in said.items():
        add = (
            writer.add_string
            if isinstance(value, str)
            else writer.add_uint32
            if isinstance(value, int)
            else writer.add_float32
        )
        add(f"llama.rope.scaling.{name}", value)  # type: ignore[arg-type]
    writer.add_tensor("t", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    assert gguf_rope.complete_rope(tmp_path / "m.gguf", config) == ""
    assert config.rope_parameters == {"rope_theta": 10000.0, **expected}


def test_phis_two_tables_of_factors_become_longrope(tmp_path: Path) -> None:
    long, short = np.linspace(1, 60, 8, dtype=np.float32), np.linspace(1, 2, 8, dtype=np.float32)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "phi3")
    writer.add_uint32("phi3.rope.scaling.original_context_length", 4096)
    writer.add_float32("phi3.rope.scaling.attn_factor", 1.1875)
    writer.add_tensor("rope_factors_long.weight", long)
    writer.add_tensor("rope_factors_short.weight", short)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = Phi3Config(rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    assert gguf_rope.complete_rope(tmp_path / "m.gguf", config) == ""
    found = config.rope_parameters
    assert (found["rope_type"], found["original_max_position_embeddings"]) == ("longrope", 4096)
    assert np.allclose(found["long_factor"], long)
    assert np.allclose(found["short_factor"], short)
    assert found["attention_factor"] == pytest.approx(1.1875)


# Which files


def test_a_part_names_its_whole_set(tmp_path: Path) -> None:
    files = ggufs.write_llama(tmp_path / "m.gguf", parts=3)
    fetched = sources.fetch(spec(files[1]), tmp_path / "home", lambda *_: None, lambda: False)
    assert list(fetched.files) == files
    assert fetched.format == "gguf"
    assert sources.present(spec(files[2]), tmp_path / "home") is None  # another name of it, not hashed yet
    assert sources.present(spec(files[1]), tmp_path / "home") == fetched
    files[2].unlink()
    with pytest.raises(SourceError, match=r"m-00003-of-00003\.gguf is missing; 2 of 3 parts"):
        sources.fetch(spec(files[0]), tmp_path / "home", lambda *_: None, lambda: False)


def test_the_layout_of_a_file_leads_to_its_tensors(tmp_path: Path) -> None:
    (path,) = ggufs.write_llama(tmp_path / "m.gguf")
    header = read_gguf(path)
    assert header.layout is not None
    assert len(header.layout.offsets) == len(header.tensors)
    assert header.layout.data == gguf.GGUFReader(path).data_offset


def spec(path: Path) -> Any:
    import dataclasses

    return dataclasses.replace(tiny.spec(), source=f"path:{path}", revision="")
