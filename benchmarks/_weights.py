"""The same weights in every contender's format, and how many bytes of them a token reads.

It knows files; it does not know who runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.errors import RunError
from playground.records import Artifact, ModelSpec
from playground.sources import present


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
    """``source`` in Q8_0, made once: the numbers our int8 and fp32 were made from, rounded to eight bits."""
    return rounded(source, place, "Q8_0")


def rounded(source: Path, place: Path, kind: str) -> Path:
    """The GGUF ``source`` with every matrix in ``kind`` and all else as it was; made once.

    The rounding is that of llama.cpp's own package gguf, whose Q8_0 gives the bits of its C function.

    Args:
        kind: A name of ``gguf.GGMLQuantizationType`` that gguf can write, ``Q8_0`` or ``F16``.
    """
    import gguf

    done = place / f"{source.stem}.to-{kind}.gguf"
    if done.is_file():
        return done
    place.mkdir(parents=True, exist_ok=True)
    part = done.with_suffix(".part")
    reader, to = gguf.GGUFReader(source), gguf.GGMLQuantizationType[kind]
    writer = writer_like(reader, part, kind, {})
    for tensor in reader.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        matrix = sum(side > 1 for side in tensor.shape.tolist()) > 1
        writer.add_tensor(
            tensor.name, gguf.quants.quantize(numbers, to) if matrix else numbers, raw_dtype=to if matrix else None
        )
    written(writer)
    part.rename(done)
    return done


def writer_like(reader: Any, target: Path, kind: str, changed: Mapping[str, int]) -> Any:
    """A ``gguf.GGUFWriter`` of ``target`` with all that ``reader`` tells of its model but for its tensors.

    Args:
        kind: Of the matrices that will come.
        changed: Whole numbers told in place of the reader's, or beside them.
    """
    import gguf

    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    ours = ("general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (*ours, *changed):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for name, number in changed.items():
        writer.add_uint32(name, number)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return writer


def written(writer: Any) -> None:
    """Let a ``gguf.GGUFWriter`` write what it was given."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_weights(file: Path) -> int:
    """How many weights one token reads, by the same count as ``gguf_bytes``."""
    import gguf

    numbers = {tensor.name: int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors}
    if "output.weight" in numbers:
        numbers.pop("token_embd.weight", None)
    return sum(numbers.values())


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
    return packed_bytes(Path(artifact.path)) if artifact.engine.startswith("kernels") else None


def packed_bytes(folder: Path) -> int:
    """The same of a folder with a graph that the kernels compute."""
    from playground.runtimes.native.lowering import read_program

    steps = read_program(folder / "model.onnx").steps
    return sum(step.weights.packed_bytes for step in steps if step.weights is not None)


def in_safetensors(folder: Path, place: Path) -> Path:
    """A model's folder as transformers and optimum expect it: of a GGUF file what transformers reads there, in fp32.

    Args:
        folder: Of an import.
        place: Where that is kept; made once.
    """
    source = folder / "model.gguf"
    if not source.is_file():
        return folder
    made = place / "safetensors" / folder.name
    if not made.is_dir():
        import shutil

        import torch
        from safetensors.torch import save_file
        from transformers import AutoModelForCausalLM

        made.parent.mkdir(parents=True, exist_ok=True)
        stage = made.with_name(f"{made.name}.part")
        shutil.rmtree(stage, ignore_errors=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=source.name, dtype=torch.float32, local_files_only=True
        )
        stage.mkdir()
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if model.config.tie_word_embeddings:  # transformers 4 looks for the other name of the two
            tensors.pop("lm_head.weight", None)
        save_file(tensors, stage / "model.safetensors", metadata={"format": "pt"})
        for file in folder.iterdir():
            if file.name not in (source.name, "artifact.json"):
                shutil.copy2(file, stage)
        stage.rename(made)
    return made


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
