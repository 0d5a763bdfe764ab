"""A token's step belongs to whichever threads are running: one that is put off holds up nobody, and changes no bit.

Threads are put to sleep at every point where the order of things matters, for longer than the others wait. So pieces
are done twice, and threads come back to steps that are long over, to caches that have grown, to engines that close.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playground.kernels import building
from playground.kernels.building import Built, build, obstacle
from playground.runtimes.generation.engine import EngineError
from playground.runtimes.native.engine import KernelEngine, open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import Program
from tests.support import kernel_graphs

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")

SLEEPY = """
#include <stdint.h>
#include <time.h>
#include <unistd.h>
/* One time in `ONE_IN`, for up to two milliseconds, in an order of each thread's own. */
static _Thread_local uint64_t drawn_;
static void may_lose_core(void) {
    if (!drawn_) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        drawn_ = (uint64_t)t.tv_nsec ^ (uintptr_t)&drawn_;
    }
    drawn_ = drawn_ * 6364136223846793005u + 1442695040888963407u;
    if ((drawn_ >> 33) % ONE_IN == 0) usleep((useconds_t)((drawn_ >> 40) % 2000));
}
#define MAY_LOSE_CORE() may_lose_core()
"""
STEPS = 130
"""Over two borders between chunks of the cache, where attention gets more to do from one step to the next."""


Sleepy = Callable[..., Built]


@pytest.fixture(scope="module")
def sleepy(tmp_path_factory: pytest.TempPathFactory) -> Sleepy:
    """The kernels, with threads that lose their core now and then; compiled once for each way to lose it."""

    @cache
    def made(one_in: int, late_ns: int = 40_000) -> Built:
        folder = tmp_path_factory.mktemp("sleepy")
        source = folder / "source"
        shutil.copytree(building.SOURCE, source)
        file = source / "pool.h"
        text = file.read_text(encoding="utf-8")
        assert text.count("#ifndef MAY_LOSE_CORE") == 1
        defined = f"#define LATE_NS {late_ns}L\n#define ONE_IN {one_in}{SLEEPY}\n#ifndef MAY_LOSE_CORE"
        file.write_text(text.replace("#ifndef MAY_LOSE_CORE", defined))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(building, "SOURCE", source)
            return built(folder / "library")

    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The kernels as they are."""
    return build(tmp_path_factory.mktemp("plain"))


def built(folder: Path) -> Built:
    folder.mkdir()
    return build(folder)


def graph(folder: Path, name: str = "eight bits") -> Path:
    return kernel_graphs.write(kernel_graphs.GRAPHS[name](), folder) / "model.onnx"


def rows(engine: KernelEngine, prompt: int = 3) -> list[NDArray[Any]]:
    ids = [(7 * place + 3) % kernel_graphs.VOCAB for place in range(prompt + STEPS)]
    engine.take_steps(alone=False)  # threads that sleep would soon leave all to the caller
    engine.reset(prompt)
    found = [engine.prefill(ids[:prompt]).copy()]
    for place in range(prompt, prompt + STEPS):
        assert engine.rewind(place, place + 1)  # the cache grows under threads that are late
        found.append(engine.step(ids[place]).copy())
    return found


def expected_rows(library: Built, program: Program) -> list[NDArray[Any]]:
    """What one thread computes."""
    engine = open_kernels(library, program, 1)
    expected = rows(engine)
    engine.close()
    return expected


@pytest.mark.integration
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("one_in", [40, 400])
def test_threads_that_lose_their_core_change_no_bit(
    tmp_path: Path, plain: Built, sleepy: Sleepy, threads: int, one_in: int
) -> None:
    program = read_program(graph(tmp_path, {2: "eight bits", 3: "four bits", 8: "recurrences"}[threads]))
    expected = expected_rows(plain, program)
    engine = open_kernels(sleepy(one_in), program, threads)
    for _ in range(3):
        assert all(np.array_equal(one, other) for one, other in zip(expected, rows(engine), strict=True))
    engine.close()


@pytest.mark.integration
@pytest.mark.parametrize("one_in", [40, 1_000_000])
@pytest.mark.parametrize("name", ["eight bits", "recurrences"])
def test_where_every_piece_is_late_the_step_ends_all_the_same(
    tmp_path: Path, plain: Built, sleepy: Sleepy, one_in: int, name: str
) -> None:
    """Whoever waits computes again at once what others are at: nobody's finished piece is thrown away for it."""
    program = read_program(graph(tmp_path, name))
    expected = expected_rows(plain, program)
    engine = open_kernels(sleepy(one_in, late_ns=0), program, 4)
    assert all(np.array_equal(one, other) for one, other in zip(expected, rows(engine), strict=True))
    engine.close()


@pytest.mark.integration
def test_an_engine_closes_while_a_thread_is_late(tmp_path: Path, sleepy: Sleepy) -> None:
    program, library = read_program(graph(tmp_path)), sleepy(3)
    for _ in range(40):
        engine = open_kernels(library, program, 4)
        engine.reset(8)
        engine.prefill([1, 2, 3])
        engine.step(4)
        engine.close()


@pytest.mark.integration
@pytest.mark.alone
def test_who_waits_does_what_another_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a helper that sleeps at each piece it takes, steps take hardly longer than without it."""
    program = read_program(graph(tmp_path))
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    file = source / "shares.h"
    begins = "    MAY_LOSE_CORE();\n    compute("
    text = file.read_text(encoding="utf-8")
    assert text.count(begins) == 1
    slow = "    if (thread) { struct timespec t = {0, 20000000}; nanosleep(&t, NULL); }\n    compute("
    file.write_text(text.replace(begins, slow))
    monkeypatch.setattr(building, "SOURCE", source)
    engine = open_kernels(built(tmp_path / "library"), program, 2)
    engine.reset(64)
    engine.prefill([1, 2, 3])

    def seconds(alone: bool) -> float:
        engine.take_steps(alone)
        engine.step(4)
        began = time.monotonic()
        for _ in range(200):
            assert engine.rewind(3, 4)
            engine.step(4)
        return time.monotonic() - began

    alone, shared = seconds(True), seconds(False)
    engine.close()
    assert shared < 4 * alone + 0.1, "a piece in twenty milliseconds; whoever waited for it would take a second"


@pytest.mark.integration
def test_a_cache_that_could_not_grow_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Built
) -> None:
    engine = open_kernels(plain, read_program(graph(tmp_path)), 2)
    engine.reset(8)
    expected = engine.prefill([1, 2, 3]).copy()
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(engine, "_give_cache", lambda handle, cache: (_ for _ in ()).throw(MemoryError))
        engine.rewind(2, 5000)
    assert not engine.rewind(2, 3), "it holds zeros in place of what was read"
    engine.reset(8)
    assert np.array_equal(engine.prefill([1, 2, 3]), expected)
    engine.close()
    with pytest.raises(EngineError):
        engine.reset(8)
