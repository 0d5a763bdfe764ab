"""A program as a file, so that a worker need not read the graph again: 0.2 s of a second, most of it ``import onnx``.

What was compared with the original is what runs: the file is written before the comparison, which loads it. Weights
stay where the graph has them; what the graph holds itself lies in the file. It has the form of safetensors, and none of
it is believed: ``checks`` looks at every program once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.errors import reason_of
from playground.kernels.library import Kind, Weights
from playground.messages import msg
from playground.runtimes.native.mapped import MappedFiles, place_of
from playground.runtimes.native.program import (
    Convolution,
    Heads,
    NotForKernels,
    Program,
    Recurrence,
    Step,
    Value,
    refuse,
)

Array = NDArray[Any]

PROGRAM = "kernels.program"
"""The file's name beside the graph. No graph may keep weights in a file that ends so (``onnx.file.is_data_file``)."""
FORM = 1
"""Of the file. One of another form is not read, but the graph."""

DAMAGED = msg("{file} is damaged", file=PROGRAM)

_TYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")

_WRONG = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def write_program(program: Program, folder: Path) -> None:
    """Put ``program``, which was read from the graph in ``folder``, beside it.

    Raises:
        OSError: The disk.
    """
    from safetensors.numpy import save_file

    held: dict[int, tuple[str, Array]] = {}

    def array(given: Array | None) -> Any:
        if given is None:
            return None
        place = place_of(given)
        shape = [given.dtype.name, list(given.shape)]
        if place is not None:
            return [*place, *shape]
        name, _ = held.setdefault(id(given), (str(len(held)), given))
        return name

    def step(one: Step) -> dict[str, Any]:
        weights = one.weights
        return {
            "kind": one.kind.name,
            "inputs": [value and astuple(value) for value in one.inputs],
            "outputs": [value and astuple(value) for value in one.outputs],
            "numbers": [one.width, one.extra, one.number, one.layer, one.one],
            "tensors": [array(each) for each in one.tensors],
            "weights": weights
            and [weights.bits, *map(array, (weights.values, weights.scales, weights.zeros)), weights.mean_blocks],
            "heads": one.heads and astuple(one.heads),
            "node": one.node,
        }

    document = {
        "form": FORM,
        "steps": [step(each) for each in program.steps],
        "widths": program.widths,
        "singles": sorted(program.singles),
        "layers": [astuple(each) for each in program.layers],
        "convolutions": [astuple(each) for each in program.convolutions],
        "recurrences": [astuple(each) for each in program.recurrences],
        "logits": program.logits and astuple(program.logits),
        "sizes": [program.vocab, program.tokens, program.longest],
    }
    path = folder / PROGRAM
    path.unlink(missing_ok=True)  # nothing is written through a link to somebody else's file
    arrays = {name: np.ascontiguousarray(each) for name, each in held.values()}
    save_file(arrays, path, metadata={"program": json.dumps(document)})


def stored_program(folder: Path) -> Program | None:
    """What ``write_program`` left in ``folder``; None where there is nothing, or something of another form.

    Raises:
        NotForKernels: It is damaged.
        OSError: A file can't be read.
    """
    path = folder / PROGRAM
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            document = json.loads((file.metadata() or {})["program"])
            if document["form"] != FORM:
                return None
            return _read(document, MappedFiles(folder), file.get_tensor)
    except NotForKernels:
        raise
    except (
        SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        said = {"kind": type(error).__name__, "reason": reason_of(error)}
        raise NotForKernels(msg("{file} can't be read ({kind}: {reason})", file=PROGRAM, **said)) from error


def _read(document: Any, files: MappedFiles, held: Callable[[str], Array]) -> Program:
    of_file: dict[str, Array] = {}

    def array(given: Any) -> Array | None:
        if given is None:
            return None
        if isinstance(given, str):
            if given not in of_file:
                of_file[given] = held(given)
            return of_file[given]
        location, offset, dtype, dims = given
        if dtype not in _TYPES or not files.may_hold_weights(location):
            refuse(DAMAGED)
        found = files.array(location, _whole(offset), tuple(map(_whole, dims)), np.dtype(dtype))
        if found is None:
            refuse(DAMAGED)
        return found

    def there(given: Any) -> Array:
        found = array(given)
        if found is None:
            refuse(DAMAGED)
        return found

    def weights(given: Any) -> Weights | None:
        if given is None:
            return None
        bits, values, scales, zeros, means = given
        return Weights(_whole(bits), there(values), there(scales), array(zeros), _whole(means))

    def step(given: Any) -> Step:
        width, extra, number, layer, one = given["numbers"]
        return Step(
            Kind[given["kind"]],
            tuple(map(_value, given["inputs"])),
            tuple(map(_value, given["outputs"])),
            _whole(width),
            _whole(extra),
            float(number),
            tuple(map(array, given["tensors"])),
            weights(given["weights"]),
            None if given["heads"] is None else _heads(given["heads"]),
            _whole(layer),
            one is True,
            str(given["node"]),
        )

    vocab, tokens, longest = document["sizes"]
    return Program(
        [step(each) for each in document["steps"]],
        [_whole(each) for each in document["widths"]],
        {_whole(each) for each in document["singles"]},
        [_heads(each) for each in document["layers"]],
        _value(document["logits"]),
        _whole(vocab),
        _whole(tokens),
        None if longest is None else _whole(longest),
        [Convolution(*map(_whole, each)) for each in document.get("convolutions", ())],
        [_recurrence(each) for each in document.get("recurrences", ())],
    )


def _value(given: Any) -> Value | None:
    if given is None:
        return None
    buffer, offset, width, one, means = given
    return Value(_whole(buffer), _whole(offset), _whole(width), one is True, means is True)


def _heads(given: Any) -> Heads:
    heads, kv_heads, size, window, scale, softcap = given
    return Heads(_whole(heads), _whole(kv_heads), _whole(size), _whole(window), float(scale), float(softcap))


def _recurrence(given: Any) -> Recurrence:
    *sizes, corrects, scale = given
    heads, groups, size, width, decays = map(_whole, sizes)
    return Recurrence(heads, groups, size, width, decays, corrects is True, float(scale))


def _whole(value: Any) -> int:
    if type(value) is not int:
        refuse(DAMAGED)
    return value
