"""How decoding goes with the size of a model: networks of Llama's shape from 0.1 to 7 B weights, beside llama.cpp.

    python -m playground bench sizes [--sizes 0.1,0.4,1,3,7] [--precision int4] [--threads 2] [--tokens 32]
                                     [--repeats 3] [--work FOLDER] [--json]

Each size is one GGUF file of random blocks, Q4_1 for int4 and Q8_0 for int8, with the shapes of a published model and
SmolLM2's vocabulary, whose embedding is the head as well. llama.cpp reads the file; ours is the graph that is made of
it, whose levels are the file's. Random weights say nothing about answers, so it is not compared with the original
(``prepare`` does that, and takes most of its time for it). All layers have the same numbers, in bytes of their own.

The two take turns; medians. The share is of the rate at which as many threads read as many bytes, doing nothing else,
before or after, whichever was faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _unchecked, _weights
from benchmarks._machine import machine, read_bandwidth
from benchmarks._parties import missing, prepared, prompt_of
from benchmarks._sections import SMALL, order
from benchmarks.engine import PAUSE_S, Contender, note
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.export.weights import copy_side_files
from playground.runtimes.generation.timing import decode_rate
from playground.runtimes.onnx.file import DECODER
from playground.service import Playground
from playground.system.cpu import usable_cores
from playground.workers.process import worker_environment

PROMPT_TOKENS = 40
KINDS = {"int4": "Q4_1", "int8": "Q8_0"}
OURS, PEER = "ours", "llama.cpp"


@dataclass(frozen=True)
class Shape:
    """A network of Llama's: widths in numbers, ``like`` the published model that has them."""

    like: str
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int


SHAPES = {
    "0.1": Shape("SmolLM2 135M", 576, 1536, 30, 9, 3, 64),
    "0.4": Shape("SmolLM2 360M", 960, 2560, 32, 15, 5, 64),
    "1": Shape("Llama 3.2 1B", 2048, 8192, 16, 32, 8, 64),
    "3": Shape("Llama 3.2 3B", 3072, 8192, 28, 24, 8, 128),
    "7": Shape("Llama 2 7B", 4096, 11008, 32, 32, 32, 128),
}


@dataclass(frozen=True)
class Row:
    """One contender at one size.

    Attributes:
        weights: That a token is multiplied with.
        token_bytes: Bytes of weights that a token reads, as this contender keeps them.
        decode_tok_s: Median tokens a second behind a prompt of 40.
        first_s: Median seconds to the first token.
        peak_mb: The most resident memory of its process, in MB of 10^6 bytes, mapped files with it.
        read_rate: Bytes a second that the same threads can read of as many.
    """

    size: str
    like: str
    name: str
    engine: str
    weights: int
    token_bytes: int
    decode_tok_s: float
    first_s: float
    peak_mb: float
    read_rate: float

    @property
    def share(self) -> float:
        return self.decode_tok_s * self.token_bytes / self.read_rate


def blocks(rows: int, columns: int, kind: str, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Random blocks as GGUF keeps them: uint8 [rows, bytes of a row], of numbers within 0.04 of zero."""
    count = rows * (columns // 32)
    if kind == "Q8_0":  # a scale in half floats, 32 levels of eight bits
        made = np.empty((count, 34), np.uint8)
        made[:, :2] = np.full((count, 1), 0.0003, np.float16).view(np.uint8)
        made[:, 2:] = draw.integers(-127, 128, (count, 32), np.int8).view(np.uint8)
    else:  # a scale and the lowest value in half floats, 32 levels of four bits
        made = np.empty((count, 20), np.uint8)
        made[:, :4] = np.tile(np.array([0.005, -0.0375], np.float16), (count, 1)).view(np.uint8)
        made[:, 4:] = draw.integers(0, 256, (count, 16), np.uint8)
    return made.reshape(rows, -1)


def write_gguf(like: Path, target: Path, shape: Shape, kind: str) -> None:
    """A random network of this shape, with the vocabulary of the GGUF file ``like``, which is a Llama's."""
    import gguf

    to = gguf.GGMLQuantizationType[kind]
    changed = {
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.inner,
        "llama.block_count": shape.layers,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head,
        "llama.attention.value_length": shape.head,
        "llama.rope.dimension_count": shape.head,
    }
    reader = gguf.GGUFReader(like)
    writer = _weights.writer_like(reader, target, kind, changed)
    draw = np.random.default_rng(0)
    vocabulary = next(int(each.shape[1]) for each in reader.tensors if each.name == "token_embd.weight")
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    matrices = {
        "attn_q": (queries, shape.width),
        "attn_k": (keys, shape.width),
        "attn_v": (keys, shape.width),
        "attn_output": (shape.width, queries),
        "ffn_gate": (shape.inner, shape.width),
        "ffn_up": (shape.inner, shape.width),
        "ffn_down": (shape.width, shape.inner),
    }
    made = {name: blocks(rows, columns, kind, draw) for name, (rows, columns) in matrices.items()}
    ones = np.ones(shape.width, np.float32)
    writer.add_tensor("token_embd.weight", blocks(vocabulary, shape.width, kind, draw), raw_dtype=to)
    for layer in range(shape.layers):
        for name, numbers in made.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", numbers, raw_dtype=to)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    _weights.written(writer)


def import_like(folder: Path, target: Path, shape: Shape) -> None:
    """What stands beside the weights in an import: that of ``folder``, an artifact of a Llama's, with this shape."""
    copy_side_files(folder, target)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
    }
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")


def measure(
    playground: Playground, size: str, precision: str, *, threads: int, tokens: int, repeats: int, work: Path
) -> list[Row]:
    """Ours and llama.cpp, where it is installed, at one size; the files are gone afterwards.

    Raises:
        PlaygroundError: It can't be built, or does not run.
    """
    shape, kind = SHAPES[size], KINDS[precision]
    small = prepared(playground, SMALL, "onnx", precision)
    like = _weights.starter_gguf(small.spec, playground.settings.home)
    ids = prompt_of(small, PROMPT_TOKENS).ids
    with tempfile.TemporaryDirectory(prefix=f"sizes-{size}-", dir=work) as temporary:
        source, target = Path(temporary) / "source", Path(temporary) / "graph"
        source.mkdir()
        file = source / "model.gguf"
        note(f"{size} B: writing {kind}")
        write_gguf(like, file, shape, kind)
        import_like(Path(small.artifact.path), source, shape)
        began = time.monotonic()
        recipe = _unchecked.build(source, target, precision)
        engine = _unchecked.finished(source, target)
        note(f"{size} B: {recipe}, {engine}, built in {time.monotonic() - began:.0f} s")
        weights = _weights.gguf_weights(file)
        by_kernels = engine.startswith("kernels")
        token_bytes = {OURS: _weights.packed_bytes(target) if by_kernels else _weights.onnx_bytes(target / DECODER)}
        env = {"GLIBC_TUNABLES": worker_environment(small)["GLIBC_TUNABLES"]}
        wanted = [(OURS, "bare", target, env, engine)]
        if not missing("llama_cpp"):
            token_bytes[PEER] = _weights.gguf_bytes(file)
            wanted.append((PEER, "llama", file, {}, kind))
        before = {name: read_bandwidth(each, threads) for name, each in token_bytes.items()}
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in wanted}
        with ExitStack() as stack:
            parties = {}
            for name, key, path, variables, _ in wanted:
                parties[name] = Contender(key, path, threads, variables)
                stack.callback(parties[name].close)
                parties[name].generate(ids, 4)
            for repeat in range(repeats):
                for name in order(list(parties), repeat):
                    taken[name].append(parties[name].generate(ids, tokens))
                    time.sleep(PAUSE_S)
        return [
            Row(
                size,
                shape.like,
                name,
                how,
                weights,
                token_bytes[name],
                statistics.median(decode_rate(each["stamps"]) or 0.0 for each in taken[name]),
                statistics.median(each["stamps"][0] - each["began"] for each in taken[name]),
                max(each["peak_mb"] for each in taken[name]),
                max(before[name], read_bandwidth(token_bytes[name], threads)),
            )
            for name, _, _, _, how in wanted
        ]


def table(rows: list[Row]) -> str:
    """As Markdown, with the ratio of ours to llama.cpp's where both ran."""
    head = (
        "size, B",
        "shapes of",
        "contender",
        "decode tok/s",
        "÷ llama.cpp",
        "first token s",
        "peak memory MB",
        "share of the read rate",
    )
    peers = {row.size: row.decode_tok_s for row in rows if row.name == PEER}
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        ratio = f"{row.decode_tok_s / peers[row.size]:.2f}" if row.name == OURS and row.size in peers else "–"
        share = f"{row.share:.0%} of {row.read_rate / 1e9:.1f} GB/s ({row.token_bytes / 1e6:,.0f} MB a token)"
        lines.append(
            f"| {row.weights / 1e9:.2f} | {row.like} | {row.name}, {row.engine} | {row.decode_tok_s:.1f} | {ratio} "
            f"| {row.first_s:.2f} | {row.peak_mb:,.0f} | {share} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or all of it as JSON; each size is printed to stderr as it is done."""
    parser = argparse.ArgumentParser(
        prog="python -m playground bench sizes",
        description=f"{__doc__.splitlines()[0]} llama.cpp takes part where llama-cpp-python is installed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--sizes", default="0.1,0.4,1,3", help=f"of {', '.join(SHAPES)}; 7 takes 13 GB of disk")
    parser.add_argument("--precision", choices=sorted(KINDS), default="int4", help="Q4_1 or Q8_0 for llama.cpp")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--repeats", type=int, default=3, help="answers of each that count, after one that does not")
    parser.add_argument("--work", type=Path, help="a folder for the files, in place of the system's for temporary ones")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    options = parser.parse_args(arguments)
    sizes = options.sizes.split(",")
    if unknown := [size for size in sizes if size not in SHAPES]:
        parser.error(f"no such size: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    if options.repeats < 1 or options.tokens < 2 or options.threads < 1:
        parser.error("at least one repeat, two tokens and one thread")
    rows: list[Row] = []
    with Playground(load_settings()) as playground:
        for size in sizes:
            rows += measure(
                playground,
                size,
                options.precision,
                threads=options.threads,
                tokens=options.tokens,
                repeats=options.repeats,
                work=options.work,
            )
            note(table(rows).splitlines()[-1])
    about = machine(options.threads)
    if options.json:
        print(json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(f"{about['cpu']}, {about['threads']} threads, {about['date']}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except PlaygroundError as error:
        raise SystemExit(f"{error}") from error
