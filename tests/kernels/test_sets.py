"""Every instruction set gives the bits of plain C, and those are the bits that artifacts were made with.

``sets.c`` puts each operation of ``vec.h``, and what is made of them, through many numbers; whole graphs are read by
libraries of all sets. What has no processor here is skipped.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from playground.kernels import building
from playground.kernels.building import Built
from playground.runtimes.native.engine import open_kernels
from playground.runtimes.native.lowering import read_program
from tests.support import kernel_graphs, kernel_sets

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("sets"),
    kernel_sets.needs_compiler,
]

DRIVER = Path(__file__).with_name("sets.c")

BITS = {
    "eight bits": "fcb7effacc985d8c",
    "four bits": "9b49b91de95c5734",
    "later steps": "d596c02beaa709c9",
    "mixtures": "13364c031bfb198d",
    "convolutions": "d3256e3e574889e6",
    "recurrences": "c6f52d20f8591f18",
}
"""Of all logits of ``kernel_graphs``, as ``building.REVISION`` gives them. Where they change, every artifact that was
compared with its original as the kernels computed it must be compared again: change REVISION with them.
"""

NARROW_BITS = {
    "eight bits": "8737ad5ed7b6e4ff",
    "four bits": "1556a6d4b4bdc346",
    "later steps": "c67dff380bb06653",
    "mixtures": "55a15093c9429226",
    "convolutions": "ff0e6c5751ad7211",
    "recurrences": "7bebd5a457b13dff",
}
"""The same with keys and values in eight bits."""


@pytest.fixture(scope="module")
def checksums(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the driver says, by instruction set."""
    found = {}
    options = [each for each in building.OPTIONS if each not in ("-O3", "-shared", "-fPIC", "-DNDEBUG")]
    options.append("-O1")
    for isa in kernel_sets.sets():
        program = kernel_sets.compile_c(isa, options, DRIVER, tmp_path_factory.mktemp(isa) / "driver")
        said = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout.splitlines()
        assert said[0].split()[0] == isa
        found[isa] = said[1:]
    return found


@pytest.mark.parametrize("isa", [each for each in building.LEVELS if each != "scalar"])
def test_each_operation_gives_the_bits_of_plain_c(isa: str, checksums: dict[str, list[str]]) -> None:
    if isa not in checksums:
        pytest.skip(f"this processor has no {isa}")
    assert len(checksums["scalar"]) > 20
    assert checksums[isa] == checksums["scalar"]


@pytest.fixture(scope="module", params=list(building.LEVELS))
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if request.param not in kernel_sets.sets():
        pytest.skip(f"this processor has no {request.param}")
    return kernel_sets.compile_library(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("graph", list(kernel_graphs.GRAPHS))
def test_whole_graphs_give_the_bits_that_artifacts_were_made_with(graph: str, library: Built, tmp_path: Path) -> None:
    path = kernel_graphs.write(kernel_graphs.GRAPHS[graph](), tmp_path) / "model.onnx"
    assert digest(library, path) == BITS[graph], f"is it another REVISION than {building.REVISION}?"


@pytest.mark.parametrize("graph", list(kernel_graphs.GRAPHS))
def test_so_they_do_with_keys_and_values_in_eight_bits(graph: str, library: Built, tmp_path: Path) -> None:
    path = kernel_graphs.write(kernel_graphs.GRAPHS[graph](), tmp_path) / "model.onnx"
    assert digest(library, path, 8) == NARROW_BITS[graph]


def digest(library: Built, path: Path, kv_bits: int = 16) -> str:
    """Of logits behind a prompt that is read in parts, and behind steps."""
    engine = open_kernels(library, read_program(path), 2)
    assert engine.keep_bits(kv_bits)
    ids = [(7919 * place + 13) % kernel_graphs.VOCAB for place in range(200)]
    engine.reset(len(ids))
    found, start = hashlib.sha256(), 0
    for part in (1, 2, 66, 111):
        found.update(engine.prefill(ids[start : start + part]).tobytes())
        start += part
    for token in ids[start:]:
        found.update(engine.step(token).tobytes())
    engine.close()
    return found.hexdigest()[:16]


def test_plain_c_is_compiled_where_it_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(building.OFF, "scalar")
    monkeypatch.setattr(building, "COMPILE_S", 900)  # beside other tests
    assert building.obstacle() is None
    built = building.build(tmp_path)
    assert open_kernels(built, read_program(_graph(tmp_path)), 1).name == "kernels scalar"


def _graph(folder: Path) -> Path:
    return kernel_graphs.write(kernel_graphs.eight_bits(), folder / "graph") / "model.onnx"
