"""The same weights in every contender's format, and how many bytes of them a token reads.

    python -m benchmarks._weights IN.gguf OUT.gguf        re-rounds to Q8_0 by llama.cpp's own function

It knows files; it does not know who runs them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playground.errors import RunError
from playground.paths import ROOT
from playground.records import Artifact, ModelSpec
from playground.sources import present

Q8_0 = 7
"""``LLAMA_FTYPE_MOSTLY_Q8_0`` of llama.h."""


def starter_gguf(spec: ModelSpec, home: Path) -> Path:
    """The downloaded GGUF a model was made from.

    Raises:
        RunError: The model's source is no GGUF, or it is not here.
    """
    fetched = present(spec, home)
    found = [path for path in fetched.files if path.suffix == ".gguf"] if fetched else []
    if not found:
        raise RunError(f"{spec.id} was not made from a GGUF file that is here", "Choose one of the starter models.")
    return found[0]


def q8_0(source: Path, place: Path) -> Path:
    """``source`` in Q8_0, made once: the numbers our int8 and fp32 were made from, rounded to eight bits.

    Raises:
        RunError: llama.cpp could not make it.
    """
    done = place / f"{source.stem}.to-Q8_0.gguf"
    if not done.is_file():
        place.mkdir(parents=True, exist_ok=True)
        part = done.with_suffix(".part")
        command = [sys.executable, "-m", "benchmarks._weights", str(source), str(part)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if run.returncode:
            said = run.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise RunError(f"llama.cpp could not make Q8_0 of {source.name} ({said[-1]})", "See above.")
        part.rename(done)
    return done


def gguf_bytes(file: Path) -> int:
    """Bytes of weights that one token reads: all of them, but for an embedding that is not the head as well."""
    import gguf

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(file).tensors}
    if "output.weight" in sizes:
        sizes.pop("token_embd.weight", None)
    return sum(sizes.values())


def onnx_bytes(file: Path) -> int:
    """Bytes of weights that one token reads: all that are not only looked up in a table, row by row."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    sizes = {}
    for tensor in graph.initializer:
        outside = {entry.key: entry.value for entry in tensor.external_data}
        sizes[tensor.name] = int(outside["length"]) if "length" in outside else tensor.ByteSize()
    used = {name for node in graph.node if not node.op_type.startswith("Gather") for name in node.input}
    return sum(size for name, size in sizes.items() if name in used)


def kernel_bytes(artifact: Artifact) -> int | None:
    """Bytes of weights that one token reads where the playground's kernels compute; None where they don't."""
    if not artifact.engine.startswith("kernels"):
        return None
    from playground.runtimes.native.lowering import read_program

    steps = read_program(Path(artifact.path) / "model.onnx").steps
    return sum(step.weights.packed_bytes for step in steps if step.weights is not None)


def torch_bytes(folder: Path, width: int) -> int:
    """Bytes of weights that one token reads, at ``width`` bytes each."""
    from safetensors import safe_open

    numbers = {}
    with safe_open(str(folder / "model.safetensors"), framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            size = 1
            for side in file.get_slice(name).get_shape():
                size *= side
            numbers[name] = size
    if "lm_head.weight" in numbers:
        numbers.pop("model.embed_tokens.weight", None)
    return sum(numbers.values()) * width


def main(source: str, target: str) -> int:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = Q8_0, True
    return int(llama_cpp.llama_model_quantize(source.encode(), target.encode(), params))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
