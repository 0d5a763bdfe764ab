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
from playground.kernels.library import BLOCK, Library, Weights, large_pages, mean_copies
from playground.kernels.library import packed as pack_nibbles
from playground.kernels.trial import rounded
from tests.support import kernel_sets

Array = NDArray[Any]

needs_kernels = pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")
needs_compiler = kernel_sets.needs_compiler


@pytest.fixture(autouse=True)
def fresh_answers() -> Iterator[None]:
    """What is asked of the machine once a process is asked again in each test."""
    caches = (building._flags, building.compiler, building.identity)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, building.Built]:
    """A library for each instruction set this processor can run."""
    return {isa: kernel_sets.compile_library(isa, tmp_path_factory.mktemp(isa)) for isa in kernel_sets.sets()}


@pytest.fixture(params=list(building.LEVELS))
def library(request: pytest.FixtureRequest, compiled: dict[str, building.Built]) -> Library:
    if request.param not in compiled:
        pytest.skip(f"this processor has no {request.param}")
    found = Library(compiled[request.param])
    assert found.isa == request.param
    return found


def matrix(bits: int, outputs: int, width: int, copies: int = 0) -> tuple[Weights, Array]:
    """Random weights as MatMulNBits stores them, and what they stand for, [outputs, width]; ``copies``: of the means
    beside what is multiplied. Columns behind the last one hold numbers that nothing is multiplied with.
    """
    random = np.random.default_rng(bits + outputs + width)
    blocks = -(-width // BLOCK)
    extra = -(-copies * blocks // BLOCK)
    levels = random.integers(0, 2**bits, (outputs, blocks + extra, BLOCK)).astype(np.uint8)
    scales = random.uniform(1e-3, 1e-2, (outputs, blocks + extra)).astype(np.float32)
    zeros = random.integers(0, 16, scales.shape).astype(np.uint8) if bits == 4 else None
    middles = np.full(scales.shape, 128, np.float32) if zeros is None else zeros.astype(np.float32)
    meant = (levels - middles[..., None]) * scales[..., None]
    whole = meant[:, :blocks].copy()
    columns = meant[:, blocks:].reshape(outputs, -1)[:, : copies * blocks]
    whole += columns.reshape(outputs, copies, blocks).sum(1)[..., None] / BLOCK
    stored = Weights(
        bits,
        pack_nibbles(levels) if bits == 4 else levels,
        scales,
        None if zeros is None else pack_nibbles(zeros),
        extra,
    )
    return stored, whole.reshape(outputs, -1)[:, :width]


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
@pytest.mark.parametrize("copies", ["none", "one", "all"])
@pytest.mark.parametrize(("outputs", "width"), [(1, 32), (32, 96), (70, 576), (33, 1536), (5, 2048)])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_numpys_with_rounded_activations(
    library: Library, bits: int, outputs: int, width: int, copies: str
) -> None:
    if copies != "none" and bits == 8:
        pytest.skip("only four bits have columns for means")
    how_often = {"none": 0, "one": 1, "all": mean_copies(width // BLOCK)}[copies]
    stored, weights = matrix(bits, outputs, width, how_often)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    x = np.random.default_rng(1).normal(size=(13, width)).astype(np.float32)
    found = library.product(packed, x)
    expected = rounded(x) @ weights.T
    assert np.abs(found[:, :outputs] - expected).max() < 2e-3 * np.abs(expected).max()
    assert not found[:, outputs:].any(), "rows that fill a panel up give nothing"


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
def test_a_width_that_is_no_multiple_of_a_block_is_filled_up_with_nothing(library: Library) -> None:
    stored, weights = matrix(8, 32, 40)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    x = np.random.default_rng(1).normal(size=(3, 40)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 24)))
    expected = rounded(padded)[:, :40] @ weights.T
    assert np.abs(library.product(packed, x) - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
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
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
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
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
def test_activations_and_weights_of_nothing_give_nothing(library: Library) -> None:
    values = np.full((32, 3, BLOCK), 128, np.uint8)
    stored = Weights(8, values, np.zeros((32, 3), np.float32), None)
    panels = large_pages(stored.packed_bytes)
    packed = library.pack(stored, panels)
    assert not library.product(packed, np.zeros((2, 96), np.float32)).any()
    assert not library.product(packed, np.ones((2, 96), np.float32)).any()


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
def test_eight_bits_around_another_middle_are_refused(library: Library) -> None:
    stored, _ = matrix(8, 32, 96)
    other = Weights(8, stored.values, stored.scales, np.full((32, 3), 120, np.uint8))
    with pytest.raises(ValueError, match="middle"):
        library.pack(other, large_pages(other.packed_bytes))


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_packed_all_at_once_they_are_what_they_are_one_by_one(library: Library, threads: int, tmp_path: Path) -> None:
    kinds = [(8, 1, 32, 0), (4, 70, 576, 3), (8, 33, 1536, 0), (4, 4000, 3072, 1), (4, 32, 96, 0)]
    all_ = []
    for place, kind in enumerate(kinds):
        made, _ = matrix(*kind)
        arrays = {"values": made.values, "scales": made.scales}
        for name, array in arrays.items():
            path = tmp_path / f"{place}.{name}"
            path.write_bytes(array.tobytes())
            arrays[name] = np.memmap(path, array.dtype, "r", shape=array.shape)
        all_.append(Weights(made.bits, arrays["values"], arrays["scales"], made.zeros, made.mean_blocks))
    expected, found = ([large_pages(each.packed_bytes) for each in all_] for _ in range(2))
    one_by_one = [library.pack(*pair) for pair in zip(all_, expected, strict=True)]
    matrices, pack = library.packing(all_, found, threads, forget=True)
    pack()
    assert [each.factor for each in matrices] == [each.factor for each in one_by_one]
    assert all(np.array_equal(*pair) and pair[0].any() for pair in zip(found, expected, strict=True))
    assert all(np.array_equal(each.values, np.array(each.values)) and each.values.any() for each in all_)


def test_the_instruction_set_is_the_best_that_the_processor_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def level(flags: str) -> str | None:
        building._flags.cache_clear()
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\n{'Features' if 'asimd' in flags else 'flags'}\t: fpu {flags}\n")
        return building.level(cpuinfo)

    monkeypatch.delenv(building.OFF, raising=False)
    monkeypatch.setattr(building.platform, "system", lambda: "Linux")

    assert level("avx2 fma f16c") == "avx2"
    assert level("avx2 fma f16c avx_vnni") == "avx2_vnni"
    assert level("avx2 fma f16c avx512f avx512bw avx512vl") == "avx2"
    assert level("avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni") == "avx512_vnni"
    assert level("sse4_2 avx") is None
    assert level("asimd asimddp") is None, "its speed was measured nowhere"
    building._flags.cache_clear()
    assert building.level(tmp_path / "none") is None
    monkeypatch.setenv(building.OFF, "neon")
    assert level("asimd asimddp") == "neon"
    assert level("avx2 fma f16c") is None
    monkeypatch.setenv(building.OFF, "Scalar")
    assert level("asimd") == level("avx2 fma f16c") == "scalar"


def test_what_stands_in_the_way_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.shipped, "FOLDER", tmp_path)
    monkeypatch.setenv(building.OFF, "off")
    assert building.obstacle() == "PLAYGROUND_KERNELS is off"
    assert building.identity() == "none"
    monkeypatch.delenv(building.OFF)
    monkeypatch.setattr(building, "level", lambda: "avx2")
    monkeypatch.setattr(building, "compiler", lambda: None)
    monkeypatch.setattr(building.platform, "system", lambda: "Linux")
    assert "no C compiler" in (building.obstacle() or "")
    monkeypatch.setattr(building.platform, "system", lambda: "Windows")
    assert "for this system" in (building.obstacle() or "")
    monkeypatch.setattr(building.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(building, "level", lambda: None)
    assert "PLAYGROUND_KERNELS=scalar compiles them as plain C" in (building.obstacle() or "")
    monkeypatch.setenv(building.OFF, "neon")
    assert building.obstacle() == "PLAYGROUND_KERNELS is neon, which this processor does not have"
    monkeypatch.setenv(building.OFF, "sse9")
    assert "PLAYGROUND_KERNELS is sse9, which is none of off, avx512_vnni" in (building.obstacle() or "")
    assert building.mistyped() == building.obstacle()


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


@needs_kernels
def test_a_compiler_that_speaks_another_encoding_is_quoted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nprintf 'error: p\\351ch\\351\\n' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(building.KernelsUnavailable, match=r"cc failed \(exit code 3: error: p�ch�\)"):
        building.build(tmp_path)


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_kernels
@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("products.h", "float scale = max / 127.0f", "float scale = max / 126.0f", "error: a product of 1 rows"),
        ("program.c", "? end - s->window : 0;\n            softmax", "? end - s->window - 1 : 0;\n            softmax",
         "error: FLASH_ATTN"),
        ("products.h", "void pg_pack(const Stored *s, float factor, int from, int to, void *panels) {",
         "void pg_pack(const Stored *s, float factor, int from, int to, void *panels) { *(volatile int *)8 = 1;",
         r"exit code -\d+"),
    ],
    ids=["wrong numbers", "a window one position off", "a crash"],
)  # fmt: skip
def test_a_library_that_computes_wrongly_is_thrown_away(
    file: str, right: str, wrong: str, said: str, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    text = (source / file).read_text(encoding="utf-8")
    assert right in text
    (source / file).write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(building, "SOURCE", source)
    with pytest.raises(building.KernelsUnavailable, match=f"the trial failed .*{said}"):
        building.build(tmp_path)
    assert not (tmp_path / building.LIBRARY).exists()


@needs_kernels
def test_artifacts_depend_on_what_is_computed_and_by_which_instructions_not_on_how_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = building.identity()
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    (source / "pool.h").write_text((source / "pool.h").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setattr(building, "SOURCE", source)
    building.identity.cache_clear()
    assert building.identity() == one
    monkeypatch.setattr(building, "REVISION", "other")
    building.identity.cache_clear()
    assert building.identity() == f"{one.split('-')[0]}-other"
    monkeypatch.setattr(building, "level", lambda: "avx2")
    building.identity.cache_clear()
    assert building.identity() == "avx2-other"


# -- what Python and C have in common ------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("plan.h", "    ROPE, ", "    ROPE = 40, ", "its ROPE is 40, 5 was expected"),
        ("attention.h", "#define CHUNK 64", "#define CHUNK 128", "its CHUNK is 128, 64 was expected"),
        (
            "plan.h",
            "    int layer;\n} Op;",
            "    int added, layer;\n} Op;",
            r"its sizeof\(Op\) is 168, 160 was expected",
        ),
        ("plan.h", "    int width, extra;", "    int extra, width;", "its Op.width is 12, 8 was expected"),
        ("constants.h", "NUMBER(BLOCK), ", "", "its BLOCK is missing, 32 was expected"),
        ("constants.h", "NUMBER(BLOCK), ", "NUMBER(BLOCK), NUMBER(ROWS), ", r"its ROWS is \d, missing was expected"),
    ],
)
def test_a_library_with_other_numbers_or_structures_is_refused_by_the_name_of_the_first(
    file: str, right: str, wrong: str, said: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    text = (source / file).read_text(encoding="utf-8")
    assert right in text
    (source / file).write_text(text.replace(right, wrong), encoding="utf-8")
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    unit, target = source / building.UNIT, tmp_path / building.LIBRARY
    kernel_sets.compile_c(kernel_sets.sets()[0], [*options, "-O0"], unit, target)
    with pytest.raises(RuntimeError, match=f"another version's: {said}"):
        Library(building.Built.of(target))


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.xdist_group("kernels")
@needs_compiler
@pytest.mark.parametrize("added", [False, True])
def test_a_library_from_before_the_table_of_constants_is_used_if_its_steps_have_the_size_they_had(
    added: bool, tmp_path: Path
) -> None:
    """Models that were prepared before have one."""
    source = tmp_path / "source"
    shutil.copytree(building.SOURCE, source)
    for file, right, wrong in (
        ("program.c", "const Constant *pg_constants(void) { return CONSTANTS; }",
         "int pg_op_size(void) { return (int)sizeof(Op); }"),
        ("products.h", "pg_max_scale", "pg_reach"),
        ("plan.h", "    int layer;", "    int layer, added[2];" if added else "    int layer;"),
    ):  # fmt: skip
        text = (source / file).read_text(encoding="utf-8")
        assert right in text
        (source / file).write_text(text.replace(right, wrong), encoding="utf-8")
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    target = tmp_path / building.LIBRARY
    kernel_sets.compile_c(kernel_sets.sets()[0], [*options, "-O0"], source / building.UNIT, target)
    if added:
        with pytest.raises(RuntimeError, match="another version's: it has no table"):
            Library(building.Built.of(target))
        return
    found, (stored, weights) = Library(building.Built.of(target)), matrix(8, 32, 96)
    panels = large_pages(stored.packed_bytes)
    x = np.random.default_rng(4).normal(size=(2, 96)).astype(np.float32)
    assert np.abs(found.product(found.pack(stored, panels), x) - rounded(x) @ weights.T).max() < 1e-2


FAILING = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
static int left;
static void *failing_calloc(size_t n, size_t size) { return left-- > 0 ? calloc(n, size) : NULL; }
#define calloc failing_calloc
#include "program.c"
int main(void) {
    float *buffers[1] = {0};
    Op op = {.kind = ADD};
    Plan plan = {.ops = 1, .threads = 2, .list = &op, .buffers = buffers};
    int failed = 0;
    for (int allowed = 0; allowed < 10; allowed++) {
        left = allowed;
        Run *run = pg_open(&plan, 16, 0);
        if (run) pg_close(run);
        else failed++;
    }
    printf("%d", failed);
    return 0;
}
"""


@needs_compiler
def test_memory_that_cannot_be_had_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """Each of the seven tables that opening a plan takes, refused in turn."""
    (tmp_path / "driver.c").write_text(FAILING)
    options = ["-O1", "-std=gnu11", "-pthread", "-DPG_SCALAR"]
    driver = tmp_path / "driver"
    command = [*(building.compiler() or ()), *options, "-I", str(building.SOURCE), str(tmp_path / "driver.c")]
    subprocess.run([*command, "-o", str(driver), "-lm"], check=True)
    assert subprocess.run([str(driver)], check=True, capture_output=True, text=True).stdout == "7"


@needs_compiler
@pytest.mark.parametrize("header", sorted(path.name for path in building.SOURCE.glob("*.h")))
def test_a_header_includes_what_it_uses(header: str) -> None:
    if header.startswith("vec_"):
        pytest.skip("a part of vec.h")
    command = [*(building.compiler() or ()), "-std=gnu11", "-D_GNU_SOURCE", "-DPG_SCALAR", "-fsyntax-only", "-x", "c"]
    subprocess.run([*command, str(building.SOURCE / header)], check=True)
