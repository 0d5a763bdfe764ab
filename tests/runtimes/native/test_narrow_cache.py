"""Keys and values in eight bits: another cache, half the memory, nearly the same predictions, and the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.kernels import building
from playground.kernels.library import Library
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.generation.engine import Engine, EngineError
from playground.runtimes.generation.narrow_cache import MAX_LOGITS, POSITIONS, narrow_cache
from playground.runtimes.native import cache as cache_module
from playground.runtimes.native.cache import Cache
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Heads
from tests.support import kernel_graphs, kernel_sets

IDS = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(310)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    if reason := building.obstacle():
        pytest.skip(str(reason))
    return kernel_sets.compile_library(kernel_sets.sets()[-1], tmp_path_factory.mktemp("library"))


@pytest.fixture(params=list(kernel_graphs.GRAPHS))
def engine(request: pytest.FixtureRequest, built: building.Built, tmp_path: Path) -> Iterator[KernelEngine]:
    path = kernel_graphs.write(kernel_graphs.GRAPHS[request.param](), tmp_path) / "model.onnx"
    engine = KernelEngine(Library(built), read_program(path), 2)
    yield engine
    engine.close()


kernels = [pytest.mark.integration, pytest.mark.parallel]


def read(engine: KernelEngine, parts: list[int], steps: int) -> list[Any]:
    """The last row of each part of IDS, and of each step behind them."""
    engine.reset(len(IDS))
    found, start = [], 0
    for part in parts:
        found.append(engine.prefill(IDS[start : start + part]).copy())
        start += part
    return [*found, *(engine.step(token).copy() for token in IDS[start : start + steps])]


class TestByTheKernels:
    pytestmark = kernels

    def test_predictions_are_nearly_those_of_half_floats(self, engine: KernelEngine) -> None:
        wide = read(engine, [100], 200)
        assert engine.keep_bits(8)
        narrow = read(engine, [100], 200)
        divergence = [kl_divergence(*pair) for pair in zip(wide, narrow, strict=True)]
        # Scores of this graph's random weights are in the hundreds: what is rounded in its first layer is far off in
        # its second, as any other rounding would be.
        assert 0 < np.mean(divergence) < 0.1
        assert np.mean(divergence[:20]) < 0.02
        assert engine.keep_bits(16)
        assert all(np.array_equal(*pair) for pair in zip(read(engine, [100], 200), wide, strict=True))

    def test_each_number_is_off_by_half_a_step_at_most(self, engine: KernelEngine) -> None:
        """In the first layer, before which both are alike."""
        size, count = kernel_graphs.SIZE, 100
        read(engine, [count], 0)
        expected = [np.array(each[0], np.float32) for each in (engine._cache.keys, engine._cache.values)]
        engine.keep_bits(8)
        read(engine, [count], 0)
        keys, values = (np.array(each[0]) for each in (engine._cache.keys, engine._cache.values))
        of_keys, of_values = keys[..., size * 64 :].copy().view(np.float32), values[..., size:].copy().view(np.float32)
        found = [
            keys[..., : size * 64].view(np.int8).reshape(expected[0].shape) * of_keys[:, :, None, :],
            values[..., :size].view(np.int8) * of_values,
        ]
        for one, other, step in zip(found, expected, (of_keys[:, :, None, :], of_values), strict=True):
            assert (np.abs(one - other) <= 0.5 * step + np.abs(other) / 1024).all()
        assert of_values[:, :count].all()
        assert not of_values[:, count:].any()

    @pytest.mark.parametrize("parts", [[1] * 40, [3, 64, 1, 60], [128, 128, 1]])
    def test_a_token_gives_the_same_bits_however_the_text_is_cut(self, engine: KernelEngine, parts: list[int]) -> None:
        engine.keep_bits(8)
        whole = sum(parts)
        assert np.array_equal(read(engine, parts, 5)[-1], read(engine, [whole + 5], 0)[-1])

    def test_one_thread_gives_the_bits_of_two(self, engine: KernelEngine) -> None:
        engine.keep_bits(8)
        together = read(engine, [70], 100)
        engine.take_steps(alone=True)
        assert all(np.array_equal(*pair) for pair in zip(read(engine, [70], 100), together, strict=True))

    def test_rows_of_a_text_and_going_back_in_it(self, engine: KernelEngine) -> None:
        engine.keep_bits(8)
        engine.reset(len(IDS))
        rows = [row.copy() for row in engine.rows(IDS[:90], 5)]
        assert np.array_equal(rows[-1], read(engine, [90], 0)[0])
        if engine._program.recurrences:
            assert not engine.rewind(50, 400), "a state is that behind the last token"
            return
        assert engine.rewind(50, 400), "the cache grows"
        assert np.array_equal(engine.prefill(IDS[50:90]), rows[-1])

    def test_what_windows_do_not_reach_is_given_back(
        self, engine: KernelEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine.keep_bits(8)
        expected = read(engine, [110], 200)
        monkeypatch.setattr(cache_module, "BEHIND", 0)
        monkeypatch.setattr(cache_module, "STRIDE", 16)
        assert all(np.array_equal(*pair) for pair in zip(read(engine, [110], 200), expected, strict=True))

    def test_numbers_that_are_none_are_found(self, engine: KernelEngine) -> None:
        engine.keep_bits(8)
        engine.reset(10)
        steps = engine._program.steps
        place = [step.kind.name for step in steps].index("MUL_MAT")
        weights = steps[place].weights
        assert weights is not None
        panels = np.frombuffer(engine._panels, np.uint16)
        assert engine.prefill([1, 2]) is not None
        panels[:] = 0x7E00  # every scale is none, whatever else changes
        with pytest.raises(EngineError, match="no numbers"):
            engine.prefill([3])

    def test_nothing_is_clamped(self, engine: KernelEngine) -> None:
        """A scale in fp32 holds what half floats do not."""
        engine.keep_bits(8)
        read(engine, [50], 3)
        assert engine.warnings == ()

    def test_it_is_about_half_of_the_memory(self, engine: KernelEngine) -> None:
        layers = engine._program.layers
        wide, narrow = Cache(layers, 640), Cache(layers, 640, 8)
        of_wide, of_narrow = (sum(each.nbytes for each in (*one.keys, *one.values)) for one in (wide, narrow))
        assert of_narrow / of_wide == (kernel_graphs.SIZE + 4) / (2 * kernel_graphs.SIZE)

    def test_a_library_of_before_keeps_half_floats(self, built: building.Built, tmp_path: Path) -> None:
        path = kernel_graphs.write(kernel_graphs.four_bits(), tmp_path) / "model.onnx"
        library = Library(built)
        library.narrows = False
        engine = KernelEngine(library, read_program(path), 1)
        assert not engine.keep_bits(8)
        assert not engine.keep_bits(4)
        assert "not kept in 8 bits: kernels" in str(narrow_cache(engine, IDS[:20]))
        engine.reset(10)
        assert engine._cache.bits == 16
        engine.close()

    def test_how_far_predictions_move_is_said(self, engine: KernelEngine) -> None:
        said = narrow_cache(engine, IDS[:100])
        engine.reset(10)
        assert engine._cache.bits == 8
        assert said.values["positions"] == POSITIONS
        assert 0 < said.values["kl"] < 0.1
        assert 50 <= said.values["agree"] <= POSITIONS


@pytest.mark.parametrize("size", [16, 48, 64, 80, 256])
def test_a_position_takes_its_bytes_and_a_scale_for_each_32(size: int) -> None:
    cache = Cache([Heads(4, 2, size, 0, 1.0)], 128, 8)
    each = size + 4 * -(-size // 32)
    assert cache.keys[0].shape == (2, 2, 64 * each)
    assert cache.values[0].shape == (2, 128, each)


class Counted(Engine):
    """Rows of a large vocabulary; in eight bits one of them is another's."""

    name = "counted"
    bits = 16

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.wanted: list[int] = []

    def keep_bits(self, bits: int) -> bool:
        self.bits = bits
        return True

    def reset(self, length: int) -> None:
        self.length = length

    def rows(self, ids: Any, wanted: int) -> Iterator[Any]:
        self.wanted.append(wanted)
        for place in range(wanted):
            row = np.zeros(self.vocabulary, np.float32)
            row[(place + (self.bits == 8 and place == wanted - 1)) % self.vocabulary] = 5
            yield row


def test_few_rows_of_a_large_vocabulary_are_held() -> None:
    said = narrow_cache(Counted(1_000_000), range(200))
    assert said.values["positions"] == MAX_LOGITS // 1_000_000
    assert said.values["agree"] == said.values["positions"] - 1


def test_a_text_shorter_than_the_positions_is_enough() -> None:
    assert narrow_cache(Counted(10), range(7)).values["positions"] == 7


def test_an_engine_without_such_a_cache_says_so() -> None:
    class Plain(Engine):
        name = "onnxruntime"

    assert "not kept in 8 bits: onnxruntime has no such cache" in str(narrow_cache(Plain(), [1]))
