"""A program kept as a file is the one that was read from the graph, and a file that is none harms nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from playground.paths import python_path
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.mapped import place_of
from playground.runtimes.native.program import NotForKernels, Program
from playground.runtimes.native.stored import FORM, PROGRAM, stored_program, write_program
from playground.runtimes.onnx.file import is_data_file
from tests.support import kernel_graphs


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other))
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kernel_graphs.write(kernel_graphs.GRAPHS["four bits"](), tmp_path, beside=True)


@pytest.mark.parametrize("name", kernel_graphs.GRAPHS)
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    folder = kernel_graphs.write(kernel_graphs.GRAPHS[name](), tmp_path)
    program = read_program(folder / "model.onnx")
    write_program(program, folder)
    assert same(stored_program(folder), program)


def test_weights_in_a_file_beside_the_graph_stay_there(folder: Path) -> None:
    program = read_program(folder / "model.onnx")
    mapped = [step.weights for step in program.steps if step.weights and place_of(step.weights.values)]
    write_program(program, folder)
    found = stored_program(folder)
    assert found is not None
    assert mapped
    again = [step.weights for step in found.steps if step.weights and place_of(step.weights.values)]
    assert [place_of(each.values) for each in again] == [place_of(each.values) for each in mapped]
    stored = load_file(folder / PROGRAM)
    assert sum(each.nbytes for each in stored.values()) < sum(each.values.nbytes for each in mapped)


def test_no_graph_may_keep_weights_where_the_program_is_kept() -> None:
    assert not is_data_file(PROGRAM)


def test_nothing_is_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs", encoding="utf-8")
    (folder / PROGRAM).symlink_to(theirs)
    write_program(read_program(folder / "model.onnx"), folder)
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert stored_program(folder) is not None


def test_where_none_is_stored_there_is_none(folder: Path) -> None:
    assert stored_program(folder) is None


def changed(folder: Path, change: Any) -> None:
    """Another document beside the same arrays."""
    write_program(read_program(folder / "model.onnx"), folder)
    path = folder / PROGRAM
    with safe_open(path, "np") as file:
        document = json.loads(file.metadata()["program"])
    change(document)
    save_file(load_file(path), path, metadata={"program": json.dumps(document)})


def test_one_of_another_form_is_not_read(folder: Path) -> None:
    changed(folder, lambda document: document.update(form=FORM + 1))
    assert stored_program(folder) is None


def _weights(document: Any) -> Any:
    return next(step["weights"] for step in document["steps"] if step["weights"] and step["weights"][1][0] != "0")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("steps"),
        lambda document: document["steps"][0].update(kind="SYSTEM"),
        lambda document: document["widths"].__setitem__(0, 64.5),
        lambda document: document["widths"].__setitem__(0, True),
        lambda document: document["sizes"].pop(),
        lambda document: _weights(document).__setitem__(1, None),
        lambda document: _weights(document)[1].__setitem__(0, "/etc/passwd"),
        lambda document: _weights(document)[1].__setitem__(0, "../model.onnx.data"),
        lambda document: _weights(document)[1].__setitem__(0, "artifact.json"),
        lambda document: _weights(document)[1].__setitem__(1, -64),
        lambda document: _weights(document)[1].__setitem__(1, 2**40),
        lambda document: _weights(document)[1].__setitem__(2, "object"),
        lambda document: _weights(document)[1].__setitem__(3, [2**62, 4, 16]),
        lambda document: _weights(document)[1].__setitem__(3, [-1, -4, 16]),
        lambda document: _weights(document).__setitem__(1, "no such array"),
    ],
)
def test_a_damaged_document_is_refused(change: Any, folder: Path) -> None:
    changed(folder, change)
    with pytest.raises(NotForKernels, match=PROGRAM):
        stored_program(folder)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_file_that_was_cut_off_is_refused(size: int, folder: Path) -> None:
    write_program(read_program(folder / "model.onnx"), folder)
    content = (folder / PROGRAM).read_bytes()
    (folder / PROGRAM).write_bytes(content[:size])
    with pytest.raises(NotForKernels, match=PROGRAM):
        stored_program(folder)


def test_what_the_kernels_get_is_looked_at_once_more(folder: Path) -> None:
    """A document may be in order and its program none. No library is asked for anything before: here there is none."""
    changed(folder, lambda document: document["widths"].__setitem__(0, 1))
    found = stored_program(folder)
    assert found is not None
    with pytest.raises(NotForKernels):
        KernelEngine(None, found, 1)  # type: ignore[arg-type]


def test_a_program_whose_array_was_copied_lies_in_the_file(folder: Path) -> None:
    program = read_program(folder / "model.onnx")
    step = next(each for each in program.steps if each.weights)
    assert step.weights
    copied = replace(step.weights, values=np.array(step.weights.values))
    step.weights = copied
    write_program(program, folder)
    assert any(each.nbytes == copied.values.nbytes for each in load_file(folder / PROGRAM).values())
    assert same(stored_program(folder), program)


def test_a_worker_reads_it_without_onnx(folder: Path) -> None:
    write_program(read_program(folder / "model.onnx"), folder)
    script = (
        "import sys; from pathlib import Path\n"
        "from playground.runtimes.native.engine import open_kernels\n"
        "from playground.runtimes.native.stored import stored_program\n"
        "assert stored_program(Path(sys.argv[1])).steps\n"
        "print(sorted({'onnx', 'google.protobuf', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": python_path({})},
    )
    assert done.stdout.strip() == "[]"


def test_programs_are_plain_values() -> None:
    """``same`` compares all of a program."""
    assert not same(Program(widths=[1]), Program(widths=[2]))
    assert not same(np.zeros(2), np.zeros(2, np.float32))
