"""The kernels compute what numpy computes, the same bits in any company, and are not used where they don't."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playground.kernels import building
from playground.kernels.library import BLOCK, Library, Weights, large_pages
from playground.kernels.library import packed as pack_nibbles
from playground.kernels.trial import rounded

Array = NDArray[Any]

EMULATED = ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512vl", "-mavx512vnni")
"""Processors with AVX-512 VNNI can run the code for AVX-VNNI: its products mean the same and are spelt otherwise."""

needs_kernels = pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")


@pytest.fixture(autouse=True)
def fresh_answers() -> Iterator[None]:
    """What is asked of the machine once a process is asked again in each test."""
    caches = (building.level, building.compiler, building.identity)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def runnable() -> list[str]:
    best = building.level()
    names = list(building.LEVELS)
    return [] if best is None else names if best == "avx512_vnni" else names[names.index(best) :]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, building.Built]:
    """A library for each instruction set this processor can run."""
    found = {}
    for isa in runnable():
        folder = tmp_path_factory.mktemp(isa)
        if isa == "avx2_vnni" and building.level() == "avx512_vnni":
            target = folder / building.LIBRARY
            unit = str(building.SOURCE / building.UNIT)
            subprocess.run(
                [*(building.compiler() or ()), *building.OPTIONS, *EMULATED, unit, "-o", target, "-lm"], check=True
            )
            found[isa] = building.Built.of(target)
        else:
            found[isa] = building.build(folder, isa)
    return found


@pytest.fixture(params=list(building.LEVELS))
def library(request: pytest.FixtureRequest, compiled: dict[str, building.Built]) -> Library:
    if request.param not in compiled:
        pytest.skip(f"this processor has no {request.param}")
    found = Library(compiled[request.param])
    assert found.isa == request.param
    return found


def matrix(bits: int, outputs: int, width: int, rest: bool = False) -> tuple[Weights, Array]:
    """Random weights as MatMulNBits stores them, and what they stand for, [outputs, width]."""
    random = np.random.default_rng(bits + outputs + width)
    blocks = -(-width // BLOCK)
    extra = -(-blocks // BLOCK) if rest else 0
    levels = random.integers(0, 2**bits, (outputs, blocks + extra, BLOCK)).astype(np.uint8)
    scales = random.uniform(1e-3, 1e-2, (outputs, blocks + extra)).astype(np.float32)
    zeros = random.integers(0, 16, scales.shape).astype(np.uint8) if bits == 4 else None
    middles = np.full(scales.shape, 128, np.float32) if zeros is None else zeros.astype(np.float32)
    meant = (levels - middles[..., None]) * scales[..., None]
    whole = meant[:, :blocks].copy()
    if rest:
        whole += meant[:, blocks:].reshape(outputs, -1)[:, :blocks, None] / BLOCK
    stored = Weights(
        bits,
        pack_nibbles(levels) if bits == 4 else levels,
        scales,
        None if zeros is None else pack_nibbles(zeros),
        extra,
    )
    return stored, whole.reshape(outputs, -1)[:, :width]


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize(("outputs", "width"), [(1, 32), (32, 96), (70, 576), (33, 1536)])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_numpys_with_rounded_activations(
    library: Library, bits: int, outputs: int, width: int, rest: bool
) -> None:
    if rest and bits == 8:
        pytest.skip("only four bits have a rest")
    stored, weights = matrix(bits, outputs, width, rest)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    x = np.random.default_rng(1).normal(size=(13, width)).astype(np.float32)
    found = library.product(packed, x)
    expected = rounded(x) @ weights.T
    assert np.abs(found[:, :outputs] - expected).max() < 2e-3 * np.abs(expected).max()
    assert not found[:, outputs:].any(), "rows that fill a panel up give nothing"


@pytest.mark.integration
@needs_kernels
def test_a_width_that_is_no_multiple_of_a_block_is_filled_up_with_nothing(library: Library) -> None:
    stored, weights = matrix(8, 32, 40)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    x = np.random.default_rng(1).normal(size=(3, 40)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 24)))
    expected = rounded(padded)[:, :40] @ weights.T
    assert np.abs(library.product(packed, x) - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_gives_the_same_bits_alone_and_in_any_company(library: Library, bits: int) -> None:
    stored, _ = matrix(bits, 96, 576)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    x = np.random.default_rng(2).normal(size=(17, 576)).astype(np.float32)
    together = library.product(packed, x)
    for rows in range(1, 17):
        assert np.array_equal(library.product(packed, x[:rows]), together[:rows])
    assert np.array_equal(library.product(packed, x[5:6])[0], together[5])


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1.0, 1e6])
def test_scales_of_any_size_keep_their_precision(library: Library, factor: float) -> None:
    stored, weights = matrix(4, 32, 96)
    scaled = Weights(4, stored.values, (stored.scales * np.float32(factor)).astype(np.float32), stored.zeros)
    panels = large_pages(scaled.packed_bytes)
    packed = library.pack(scaled, panels)
    x = np.random.default_rng(3).normal(size=(2, 96)).astype(np.float32)
    expected = rounded(x) @ weights.T * factor
    assert np.abs(library.product(packed, x) - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.integration
@needs_kernels
def test_activations_and_weights_of_nothing_give_nothing(library: Library) -> None:
    values = np.full((32, 3, BLOCK), 128, np.uint8)
    stored = Weights(8, values, np.zeros((32, 3), np.float32), None)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    assert not library.product(packed, np.zeros((2, 96), np.float32)).any()
    assert not library.product(packed, np.ones((2, 96), np.float32)).any()


@pytest.mark.integration
@needs_kernels
def test_eight_bits_around_another_middle_are_refused(library: Library) -> None:
    stored, _ = matrix(8, 32, 96)
    other = Weights(8, stored.values, stored.scales, np.full((32, 3), 120, np.uint8))
    with pytest.raises(ValueError, match="middle"):
        library.pack(other, large_pages(other.packed_bytes))


def test_the_instruction_set_is_the_best_that_the_processor_names(tmp_path: Path) -> None:
    def level(flags: str) -> str | None:
        building.level.cache_clear()
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
        return building.level(cpuinfo)

    assert level("avx2 fma f16c") == "avx2"
    assert level("avx2 fma f16c avx_vnni") == "avx2_vnni"
    assert level("avx2 fma f16c avx512f avx512bw avx512vl") == "avx2"
    assert level("avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni") == "avx512_vnni"
    assert level("sse4_2 avx") is None
    building.level.cache_clear()
    assert building.level(tmp_path / "none") is None


def test_what_stands_in_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(building.OFF, "off")
    assert building.obstacle() == "PLAYGROUND_KERNELS is off"
    assert building.identity() == "none"
    monkeypatch.delenv(building.OFF)
    monkeypatch.setattr(building, "level", lambda: "avx2")
    monkeypatch.setattr(building, "compiler", lambda: None)
    monkeypatch.setattr(building.platform, "system", lambda: "Linux")
    assert "no C compiler" in (building.obstacle() or "")
    monkeypatch.setattr(building.platform, "system", lambda: "Darwin")
    assert "processor and system" in (building.obstacle() or "")


def test_the_compiler_is_the_one_that_is_named_then_the_systems_then_zigs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mycc", "gcc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mycc -m64")
    assert building.compiler() == (str(tmp_path / "mycc"), "-m64")
    monkeypatch.setenv("CC", "")
    building.compiler.cache_clear()
    assert building.compiler() == (str(tmp_path / "gcc"),)
    (tmp_path / "gcc").unlink()
    for has_zig, expected in ((True, (sys.executable, "-m", "ziglang", "cc")), (False, None)):
        building.compiler.cache_clear()
        monkeypatch.setattr(building, "_has_zig", lambda found=has_zig: found)
        assert building.compiler() == expected


@needs_kernels
def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'error: out of luck' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(building.KernelsUnavailable, match=r"cc failed \(exit code 3: error: out of luck\)"):
        building.build(tmp_path)
    assert not (tmp_path / building.LIBRARY).exists()


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("float scale = most / 127.0f", "float scale = most / 126.0f"),
        ("void pg_pack(const Stored *s, float up, int from, int to, uint8_t *panels) {",
         "void pg_pack(const Stored *s, float up, int from, int to, uint8_t *panels) { *(volatile int *)8 = 1;"),
    ],
    ids=["wrong numbers", "a crash"],
)  # fmt: skip
def test_a_library_that_computes_wrongly_is_thrown_away(
    right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    file = source / "products.h"
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(building, "SOURCE", source)
    with pytest.raises(building.KernelsUnavailable, match="the trial failed"):
        building.build(tmp_path)
    assert not (tmp_path / building.LIBRARY).exists()


@needs_kernels
def test_other_source_and_another_instruction_set_make_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = building.identity()
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    (source / "pool.h").write_text((source / "pool.h").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setattr(building, "SOURCE", source)
    building.identity.cache_clear()
    other = building.identity()
    assert other != one and other.split("-")[0] == one.split("-")[0]
    monkeypatch.setattr(building, "level", lambda: "avx2")
    building.identity.cache_clear()
    assert building.identity().startswith("avx2-")
