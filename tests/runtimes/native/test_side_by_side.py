"""Rows put side by side, taken apart and kept above a number: what kernels read of it is what ONNX Runtime computes,
and what goes along another axis than a token's row is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from playground.kernels import building
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.native.engine import open_kernels
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels
from playground.runtimes.onnx.runtime import open_engine
from tests.support import kernel_graphs
from tests.support.kernel_graphs import HEADS, KV_HEADS, SIZE, VOCAB, WIDTH, Builder

PARTS = 2
IDS = [(7 * place + 3) % VOCAB for place in range(40)]

Ways = Callable[[Builder, list[str]], str]


def numbers(made: Builder, *sizes: int) -> str:
    return made.constant(np.array(sizes, np.int64))


def rows(made: Builder, parts: list[str]) -> str:
    return made.node("Concat", parts, axis=-1)


def rows_by_their_number(made: Builder, parts: list[str]) -> str:
    return made.node("Concat", parts, axis=2)


def rows_that_were_heads(made: Builder, parts: list[str]) -> str:
    """Back in a row before they are joined."""
    heads = [made.node("Reshape", [each, numbers(made, 1, -1, 2, WIDTH // 2)]) for each in parts]
    return rows(made, [made.node("Reshape", [each, numbers(made, 0, 0, -1)]) for each in heads])


def above_a_number(made: Builder, parts: list[str]) -> str:
    ends = [made.constant(np.array(end, np.float32)) for end in (0.25, np.inf)]
    return rows(made, [made.node("Clip", [parts[0], *ends]), parts[1]])


def heads(made: Builder, parts: list[str]) -> str:
    cut = [made.node("Reshape", [each, numbers(made, 1, -1, 2, WIDTH // 2)]) for each in parts]
    return made.node("Reshape", [made.node("Concat", cut, axis=-1), numbers(made, 1, -1, PARTS * WIDTH)])


def heads_behind_a_step(made: Builder, parts: list[str]) -> str:
    cut = [made.node("Reshape", [each, numbers(made, -1, WIDTH // 2)]) for each in parts]
    joined = made.node("Concat", [made.node("Sigmoid", [each]) for each in cut], axis=-1)
    return made.node("Reshape", [joined, numbers(made, 1, -1, PARTS * WIDTH)])


def by_turns(made: Builder, parts: list[str]) -> str:
    """As torch stacks them along a new last axis."""
    wide = [made.node("Unsqueeze", [each, numbers(made, -1)]) for each in parts]
    return made.node("Reshape", [made.node("Concat", wide, axis=-1), numbers(made, 1, -1, PARTS * WIDTH)])


def halves_of_heads(made: Builder, parts: list[str]) -> str:
    cut = made.node("Reshape", [rows(made, parts), numbers(made, 1, -1, 2, WIDTH)])
    made.node("Split", [cut, numbers(made, WIDTH // 2, WIDTH // 2)], ["first", "second"], axis=-1)
    back = [made.node("Reshape", [each, numbers(made, 1, -1, WIDTH)]) for each in ("second", "first")]
    return rows(made, back)


def above_a_large_number(made: Builder, parts: list[str]) -> str:
    ends = [made.constant(np.array(end, np.float32)) for end in (-1e6, np.inf)]
    return rows(made, [made.node("Clip", [parts[0], *ends]), parts[1]])


def above_no_number(made: Builder, parts: list[str]) -> str:
    ends = [made.constant(np.array(end, np.float32)) for end in (np.nan, np.inf)]
    return rows(made, [made.node("Clip", [parts[0], *ends]), parts[1]])


def doubled_without_end(made: Builder, parts: list[str]) -> str:
    whole = parts[0]
    for _ in range(40):
        whole = rows(made, [whole, whole])
    ends = [made.constant(np.array(end, np.float32)) for end in (0.25, np.inf)]
    return made.node("Clip", [whole, *ends])


def written(folder: Path, join: Ways) -> Path:
    """A model of one layer, behind which two rows are made and joined by ``join``."""
    made = Builder(11)
    table = made.constant(made.random.normal(size=(VOCAB, WIDTH)).astype(np.float32))
    source, lengths = made.node("Gather", [table, "input_ids"], axis=0), made.lengths()
    normed = made.norm(source)
    queries, keys, values = (made.product(normed, WIDTH, n * SIZE, 8) for n in (HEADS, KV_HEADS, KV_HEADS))
    attended = made.attention(0, queries, keys, values, lengths, do_rotary=1, scale=0.1)
    normed, source = made.skip_norm(source, made.product(attended, HEADS * SIZE, WIDTH, 8))
    joined = join(made, [made.product(normed, WIDTH, WIDTH, 8) for _ in range(PARTS)])
    normed, _ = made.skip_norm(source, made.product(joined, PARTS * WIDTH, WIDTH, 8))
    made.node("Gather", [normed, numbers(made, -1)], ["last"], axis=1)
    made.product("last", WIDTH, VOCAB, 8)
    made.nodes[-1].output[0] = "logits"
    return kernel_graphs.write(made.model(1, ["batch", 1, VOCAB]), folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    return building.build(tmp_path_factory.mktemp("library"))


@pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")
@pytest.mark.parametrize(
    "join", [rows, rows_by_their_number, rows_that_were_heads, above_a_number], ids=lambda each: each.__name__
)
def test_rows_are_joined_as_onnxruntime_joins_them(join: Ways, library: building.Built, tmp_path: Path) -> None:
    folder = written(tmp_path, join)
    theirs = open_engine(folder, 1)
    ours = open_kernels(library, read_program(folder / "model.onnx"), 1)
    for engine in (theirs, ours):
        engine.reset(len(IDS) + 1)
    expected, found = (engine.prefill(IDS).astype(np.float64) for engine in (theirs, ours))
    assert kl_divergence(expected, found) < 2e-3
    for engine in (theirs, ours):
        engine.close()


@pytest.mark.parametrize(
    "join",
    [
        *(heads, heads_behind_a_step, by_turns, halves_of_heads, above_a_large_number, above_no_number),
        doubled_without_end,
    ],
    ids=lambda each: each.__name__,
)
def test_what_goes_along_another_axis_or_without_end_is_left_to_onnxruntime(join: Ways, tmp_path: Path) -> None:
    folder = written(tmp_path, join)
    with pytest.raises(NotForKernels, match=r"the graph has a (Concat|Split|Clip)"):
        read_program(folder / "model.onnx")
