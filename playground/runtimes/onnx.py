"""ONNX graphs run by our own loops: opens the files of an artifact and picks what fits what is in them.

An artifact's folder holds ``model.onnx``, or ``encoder_model.onnx`` and its decoder, with config.json beside it. Where
it also holds the playground's kernels, the graph was compared with the original as they compute it, and they compute
it here; ONNX Runtime does everything else. The module knows files and sessions; what a graph is, ``onnx_graph`` and
``kernel_reader`` read from it. It loads no torch, and onnxruntime only where that is to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import RunError
from playground.kernels.building import LIBRARY
from playground.runtimes.base import LoadSpec
from playground.runtimes.decoding import DecodingRuntime
from playground.runtimes.engine import Engine
from playground.runtimes.onnx_file import DECODER, ENCODER, BadOnnxFile, GraphError, read_onnx_file

if TYPE_CHECKING:
    import onnxruntime as ort


class OnnxRuntime(DecodingRuntime):
    """The ``onnx`` runtime."""

    def open_engine(self, load: LoadSpec) -> Engine:
        folder = Path(load.artifact.path)
        try:
            return open_engine(folder, load.threads)
        except (GraphError, BadOnnxFile) as error:
            raise RunError(
                f"{load.artifact.variant}: no loop here can run it: {error}",
                "Prepare the model again, or choose another variant.",
            ) from error
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor below this one
            who, next_step = "onnxruntime", "Prepare the model again."
            if (folder / LIBRARY).is_file():
                who, next_step = "the playground's kernels", f"Delete {folder} and prepare the model again."
            raise RunError(f"{load.artifact.variant}: {who} can't load it ({error})", next_step) from error


def open_engine(folder: Path, threads: int, spinning: bool = True) -> Engine:
    """The engine for the graphs in ``folder``. See ``open_session`` for ``threads`` and ``spinning``.

    Raises:
        GraphError: Nobody here can drive them.
        BadOnnxFile: A file is no ONNX model.
        Exception: Whatever onnxruntime finds wrong with it.
    """
    if (folder / LIBRARY).is_file():
        from playground.runtimes.kernel_engine import open_kernels
        from playground.runtimes.kernel_reader import read_program

        return open_kernels(folder / LIBRARY, read_program(folder / DECODER), threads, spinning)
    from playground.runtimes.onnx_engines import open_decoder
    from playground.runtimes.onnx_graph import read_graph
    from playground.runtimes.seq2seq import open_encoder_decoder

    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    if (folder / ENCODER).is_file():
        return open_encoder_decoder(folder, config, lambda path: open_session(path, threads, spinning))
    path = folder / DECODER
    file = read_onnx_file(path)
    session = open_session(path, threads, spinning)
    return open_decoder(session, read_graph(session, file, config))


def open_session(path: Path, threads: int, spinning: bool = True) -> ort.InferenceSession:
    """A session for one answer at a time on ``threads`` threads.

    Weights are mapped from disk, not read. Without the arena and the memory pattern the scratch memory of a long
    prompt goes back after it (SmolLM2-135M int8: 303 instead of 321 MB resident) at the same speed. Without
    spinning decoding is 10 to 30 % slower; beside other work that wants the same cores it is many times faster.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
