"""Memory of keys and values that no window reaches is given back, and nobody who computes can tell."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.catalog import footprint
from playground.kernels import building
from playground.runtimes.generation.engine import PREFILL_CHUNK
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.native import cache as cache_module
from playground.runtimes.native.cache import BEHIND, STRIDE, Cache
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Convolution, Heads
from tests.support import kernel_graphs, kernel_sets

WIDE = [Heads(4, 2, 64, 0, 1.0), Heads(4, 2, 64, 512, 1.0)]
"""A layer that sees all and one that sees 512 positions, with 256 bytes for each position, head and side."""


def filled(capacity: int) -> Cache:
    cache = Cache(WIDE, capacity)
    for array in (*cache.keys, *cache.values):
        array[:] = 1
    return cache


def there(array: Any, axis: int) -> int:
    """Positions from the end for which all numbers are there."""
    kept = np.flatnonzero(~(array == 1).all(tuple(place for place in range(array.ndim) if place != axis)))
    return int(array.shape[axis] - (kept[-1] + 1 if len(kept) else 0))


def test_what_lies_well_before_a_window_is_given_back_and_nothing_else() -> None:
    cache = filled(4096)
    cache.forget(4000)
    assert (cache.keys[0] == 1).all()
    assert (cache.values[0] == 1).all()
    kept = 512 + BEHIND
    for positions in (64 * there(cache.keys[1], 1), there(cache.values[1], 1)):
        assert 96 + kept <= positions <= 96 + kept + 64 + 32  # a chunk, and a page
    assert cache.due == 4000 + STRIDE


def test_a_position_that_a_window_reaches_beyond_what_is_there_can_not_be_gone_back_to() -> None:
    cache = filled(4096)
    assert cache.holds(1)
    cache.forget(4000)
    gone = (4000 - 512 - BEHIND) // 64 * 64
    assert cache.holds(4000)
    assert cache.holds(gone + 511)
    assert not cache.holds(gone + 510)
    assert not cache.holds(5000)
    cache.begin()
    assert cache.holds(1)


def test_a_larger_cache_takes_over_what_is_there_without_touching_what_is_not() -> None:
    old = filled(4096)
    old.forget(4000)
    new = Cache(WIDE, 8192)
    new.take_over(old, 3990)
    assert (new.values[0][:, :3990] == 1).all()
    gone = (4000 - 512 - BEHIND) // 64 * 64
    assert (new.values[1][:, gone + 32 : 3990] == 1).all()
    assert (new.values[1][:, :gone] == 0).all()
    assert (new.values[1][:, 3990:] == 0).all()
    assert [new.holds(gone + 511), new.holds(gone + 510)] == [True, False]


def test_a_text_leaves_nothing_of_its_windows_to_the_next_one() -> None:
    cache = filled(4096)
    cache.forget(4000)
    cache.begin()
    assert cache.holds(1)
    assert (cache.keys[0] == 1).all()
    assert there(cache.keys[1], 1) + there(cache.values[1], 1) == 0
    assert (cache.values[1] == 1).mean() < 0.01  # what lies in a page of two heads


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_pages_of_any_size_are_given_back_though_little_at_a_time_is(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    class Memory(mmap.mmap):
        def madvise(self, _how: int, start: int = 0, length: int = 0) -> None:
            asked.append((start, start + length))

    monkeypatch.setattr(mmap, "PAGESIZE", page)
    memory = Memory(-1, 1 << 22)
    rows = np.frombuffer(memory, np.float16).reshape(-1, 64)
    for start in range(0, 16384, STRIDE):
        cache_module._give_back(rows, start, start + STRIDE)
    given = np.zeros(1 << 22, bool)
    for start, end in asked:
        given[start:end] = True
    assert given[: 16384 * 128].all()
    assert not given[16384 * 128 :].any()


def test_what_is_expected_of_memory_knows_what_is_kept() -> None:
    assert footprint.KERNELS_BEHIND == BEHIND + STRIDE + PREFILL_CHUNK


def test_a_convolution_is_a_layer_with_a_window_of_the_tokens_it_reads() -> None:
    cache = Cache(WIDE[:1], 4096, convolutions=[Convolution(1024, 3)])
    cache.inputs[0][:] = 1
    assert cache.due == 3 + BEHIND + STRIDE
    cache.forget(4000)
    gone = (4000 - 3 - BEHIND) // 64 * 64
    assert not cache.inputs[0][:gone].any()
    assert (cache.inputs[0][gone:] == 1).all()
    assert [cache.holds(gone + 2), cache.holds(gone + 1)] == [True, False]
    larger = Cache(WIDE[:1], 8192, convolutions=[Convolution(1024, 3)])
    larger.take_over(cache, 3990)
    assert not larger.inputs[0][:gone].any() and not larger.inputs[0][3990:].any()
    assert (larger.inputs[0][gone:3990] == 1).all()
    assert [larger.holds(gone + 2), larger.holds(gone + 1)] == [True, False]


def test_without_windows_there_is_never_something_to_do() -> None:
    assert Cache(WIDE[:1], 1024).due > 1024


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with a window of 40, one that sees all 320 positions."""
    return kernel_graphs.write(kernel_graphs.four_bits(), tmp_path_factory.mktemp("graph")) / "model.onnx"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    if reason := building.obstacle():
        pytest.skip(str(reason))
    return kernel_sets.compile_library(kernel_sets.sets()[-1], tmp_path_factory.mktemp("library"))


@pytest.fixture
def engine(path: Path, library: building.Built) -> Iterator[KernelEngine]:
    engine = open_kernels(library, read_program(path), 2)
    yield engine
    engine.close()


IDS = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(310)]


def read(engine: Any, ids: list[int], steps: int) -> list[Any]:
    rows = [engine.prefill(ids[:-steps]).copy()]
    return [*rows, *(engine.step(token).copy() for token in ids[-steps:])]


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.parametrize("steps", [3, 200])
def test_no_logits_change(engine: KernelEngine, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    engine.reset(320)
    expected = read(engine, IDS, steps)
    assert engine._cache._gone == [0, 0]
    monkeypatch.setattr(cache_module, "BEHIND", 0)
    monkeypatch.setattr(cache_module, "STRIDE", 16)
    engine.reset(320)
    found = read(engine, IDS, steps)
    assert engine._cache._gone == [256, 0]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.integration
@pytest.mark.parallel
def test_a_prompt_that_begins_like_the_last_one_is_read_again_where_it_has_to_be(
    engine: KernelEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BEHIND", 0)
    monkeypatch.setattr(cache_module, "STRIDE", 16)
    behind = PrefixCache(engine)
    for shared, kept in ((300, 300), (100, 0)):
        behind.forget()
        assert behind.begin(IDS, 320, True) == 0
        behind.prefill(IDS)
        other = [*IDS[:shared], 1, 2, 3]
        assert behind.begin(other, 320, True) == kept
        found = behind.prefill(other[kept:]).copy()
        engine.reset(len(other))
        assert np.array_equal(engine.prefill(other), found)
