"""The files of the sizes measurement: what they say, and that a graph which nobody compared runs for the contender."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks import _unchecked, _weights, sizes
from benchmarks._contender import bare
from playground.errors import RunError
from tests.support import tiny

SHAPE = sizes.Shape("nobody's", 64, 96, 2, 4, 2, 32)


@pytest.fixture
def like(tmp_path: Path) -> Path:
    """A Llama's GGUF with a vocabulary of 128, of another shape."""
    file = tmp_path / "like.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_context_length(512)
    writer.add_token_list([f"t{place}" for place in range(128)])
    writer.add_tensor("token_embd.weight", np.zeros((128, 32), np.float32))
    _weights.written(writer)
    return file


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_a_random_network_says_its_own_shape_and_anothers_vocabulary(like: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "made.gguf"
    sizes.write_gguf(like, file, SHAPE, kind)
    reader = gguf.GGUFReader(file)
    told = {name: field.contents() for name, field in reader.fields.items()}
    assert (told["llama.block_count"], told["llama.embedding_length"], told["llama.context_length"]) == (2, 64, 512)
    assert told["llama.attention.head_count_kv"] == 2
    assert told["tokenizer.ggml.tokens"] == [f"t{place}" for place in range(128)]
    shapes = {each.name: tuple(each.shape.tolist()) for each in reader.tensors}
    assert shapes["token_embd.weight"] == (64, 128)
    assert shapes["blk.1.attn_k.weight"] == (64, 64)
    assert shapes["blk.1.attn_output.weight"] == (128, 64)
    assert shapes["blk.0.ffn_down.weight"] == (96, 64)
    assert _weights.gguf_weights(file) == sum(int(each.n_elements) for each in reader.tensors)
    kinds = {each.tensor_type.name for each in reader.tensors if "norm" not in each.name}
    assert kinds == {kind}
    numbers = gguf.quants.dequantize(reader.tensors[0].data, reader.tensors[0].tensor_type)
    assert 0.03 < np.abs(numbers).max() <= 0.04
    assert abs(numbers.mean()) < 0.001
    assert len(np.unique(numbers)) == (16 if kind == "Q4_1" else 255)


def test_rows_stand_beside_their_peer() -> None:
    def row(size: str, name: str, rate: float) -> sizes.Row:
        return sizes.Row(size, "L", name, "by it", 1_000_000_000, 600_000_000, rate, 0.5, 900.0, 20e9)

    rows = [row("1", "ours", 30.0), row("1", "llama.cpp", 20.0), row("3", "ours", 10.0)]
    *_, ours, peer, alone = sizes.table(rows).splitlines()
    assert ours == "| 1.00 | L | ours, by it | 30.0 | 1.50 | 0.50 | 900 | 90% of 20.0 GB/s (600 MB a token) |"
    assert "| 20.0 | – |" in peer
    assert "| 10.0 | – |" in alone


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sizes.main(["--sizes", "0.1,5"])
    assert ended.value.code == 2
    assert "no such size: 5" in capsys.readouterr().err


@pytest.mark.parallel
def test_a_graph_that_nobody_compared_runs_for_the_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "graph"
    tiny.write_model(source)
    assert _unchecked.build(source, target, "int8") == "fused"
    engine = _unchecked.finished(source, target)
    stamps, tokens = bare(target, 1)([5, 6, 7], 4)
    assert len(stamps) == len(tokens) == 4
    assert engine.startswith("kernels") == (_weights.packed_bytes(target) > 0)
    monkeypatch.setattr(_unchecked, "RECIPES", [each for each in _unchecked.RECIPES if each.name == "optimum"])
    with pytest.raises(RunError, match="no recipe builds it"):
        _unchecked.build(source, target, "int8")
