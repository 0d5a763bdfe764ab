"""ONNX graphs run by our own loops: opens the files of an artifact and picks what fits what is in them.

An artifact's folder holds ``model.onnx``, or ``encoder_model.onnx`` and its decoder, with config.json beside it. Where
its artifact.json says that it was compared with the original as the playground's kernels compute it, they compute it
here; ONNX Runtime does everything else. The module knows files and sessions; what a graph is, ``graph`` and
``native.lowering`` read from it. It loads no torch, and onnxruntime only where that is to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import RunError, reason_of
from playground.kernels.building import Built
from playground.messages import msg
from playground.records import LoadSpec
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine
from playground.runtimes.generation.rotary import steady_length
from playground.runtimes.native.own_library import recorded
from playground.runtimes.onnx.file import DECODER, ENCODER, BadOnnxFile, GraphError, read_onnx_file
from playground.system.cpu import usable_cores

if TYPE_CHECKING:
    import onnxruntime as ort


class OnnxRuntime(DecodingRuntime):
    """The ``onnx`` runtime."""

    def open_engine(self, load: LoadSpec) -> Engine:
        """See ``DecodingRuntime.open_engine``.

        Raises:
            RunError: No loop here can run the graph, or what is to run it can't load it.
        """
        folder = Path(load.artifact.path)
        library = None
        try:
            library = recorded(folder) if load.artifact.engine.startswith("kernels ") else None
            if library is None and load.artifact.engine.startswith("kernels "):
                raise GraphError(msg("it was compared as the kernels compute it, and artifact.json says otherwise"))
            return _limited(open_engine(folder, load.threads, library=library), folder)
        except (GraphError, BadOnnxFile) as error:
            raise RunError(
                msg("{model}: no loop here can run it: {reason}", model=load.artifact.variant, reason=error.reason),
                msg("Prepare the model again, or choose another variant."),
            ) from error
        except Exception as error:  # onnxruntime's own exceptions have no common ancestor below this one
            said = {"model": load.artifact.variant, "reason": reason_of(error)}
            if library is None:
                raise RunError(
                    msg("{model}: onnxruntime can't load it ({reason})", **said), msg("Prepare the model again.")
                ) from error
            raise RunError(
                msg("{model}: the playground's kernels can't load it ({reason})", **said),
                msg("Delete {folder} and prepare the model again.", folder=folder),
            ) from error


def open_engine(folder: Path, threads: int, spinning: bool = True, library: Built | None = None) -> Engine:
    """The engine for the graphs in ``folder``. See ``open_session`` for ``threads`` and ``spinning``.

    Args:
        library: The kernels that are to compute: ``own_library.recorded`` of an artifact, or what was compiled a moment
            ago. None leaves it to ONNX Runtime, whatever lies in the folder.

    Raises:
        GraphError: Nobody here can drive them.
        BadOnnxFile: A file is no ONNX model.
        Exception: Whatever onnxruntime finds wrong with it.
    """
    if library is not None:
        from playground.runtimes.native.engine import open_kernels
        from playground.runtimes.native.stored import stored_program

        program = stored_program(folder)
        if program is None:  # it was prepared by an earlier version
            from playground.runtimes.native.lowering import read_program

            program = read_program(folder / DECODER)
        # More threads than cores only wait for each other.
        return open_kernels(library, program, min(threads, usable_cores()), spinning)
    from playground.runtimes.onnx.engines import open_decoder
    from playground.runtimes.onnx.graph import read_graph
    from playground.runtimes.onnx.seq2seq import open_encoder_decoder

    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    if (folder / ENCODER).is_file():
        return open_encoder_decoder(folder, config, lambda path: open_session(path, threads, spinning))
    path = folder / DECODER
    file = read_onnx_file(path)
    session = open_session(path, threads, spinning)

    def with_any_rows() -> ort.InferenceSession | None:
        from playground.runtimes.onnx.any_rows import with_any_rows

        changed = with_any_rows(path)
        return open_session(path, threads, spinning, changed) if changed else None

    return open_decoder(session, read_graph(session, file, config), with_any_rows)


def _limited(engine: Engine, folder: Path) -> Engine:
    """An engine that knows how long a text its rotary factors are right for: a graph is read in parts and was traced
    once, so it has no way to read a long prompt with other factors from its first token on, as the original does.
    """
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    engine.context_limit = steady_length(config.get("text_config") or config)
    if engine.context_limit:
        engine.context_note = msg(
            "As an ONNX graph this model has a context of {context:,} tokens: a longer text needs other rotary factors "
            "from its first token on. Its torch-fp32 variant reads longer ones.",
            context=engine.context_limit,
        )
    return engine


def open_session(path: Path, threads: int, spinning: bool = True, changed: bytes | None = None) -> ort.InferenceSession:
    """A session for one answer at a time on ``threads`` threads; ``changed``: of this graph, whose weights lie beside
    ``path``.

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
    if changed:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return ort.InferenceSession(changed or str(path), options, providers=["CPUExecutionProvider"])
