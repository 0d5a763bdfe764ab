"""From a prompt to tokens, to logits, to text: whatever runs one model in one process, behind one seam.

A runtime loads an artifact and answers requests one at a time, as events with time stamped beside the token
(``base.Runtime``). It knows weights, tokens and arithmetic; it does not know which process it is in, who asks, what a
comparison is, or what becomes of an answer. Runtimes are known by name here and imported only in the process that uses
them: what one needs (torch, onnxruntime) the others do without.

Door:
    __init__: create_runtime
    base: Runtime
    generation.divergence: Row, SLICE, inner, kl_divergence
    generation.engine: Engine, Logits
    generation.prefix_cache: PrefixCache, common
    generation.prompt: Prompter
    generation.schemas: check_schema
    generation.scoring: Scored, Task, score
    generation.token_scores: MAX_TOP, ScoredIds, ScoreIds
    native.lowering: read_program
    native.program: NotForKernels
    native.stored: PROGRAM, write_program
    onnx.file: BadOnnxFile, DECODER, GraphError, OnnxFile, is_data_file, read_onnx_file
    onnx.graph: read_graph
    onnx.runtime: open_engine
    torch.accelerator: find_accelerator
    torch.deferred: Deferred, as_stored, exchanged, real
    torch.gguf_weights: quick_gguf, unpacked_ahead
    torch.incomplete: IncompleteWeights
    torch.libraries: load_libraries
    torch.networks: Network, load_network
    torch.several: Rows
    torch.runtime: TorchRuntime
"""

from __future__ import annotations

from importlib import import_module

from playground.errors import UsageError
from playground.messages import msg
from playground.runtimes.base import Runtime

RUNTIMES = {  # name → "module:class"
    "onnx": "playground.runtimes.onnx.runtime:OnnxRuntime",
    "torch": "playground.runtimes.torch.runtime:TorchRuntime",
    "remote": "playground.runtimes.remote.runtime:RemoteRuntime",
    "fake": "playground.runtimes.fake:FakeRuntime",
}


def create_runtime(name: str) -> Runtime:
    """Import and make the runtime called ``name``; it holds no model yet.

    Raises:
        UsageError: There is none.
    """
    if name not in RUNTIMES:
        raise UsageError(
            msg("Unknown runtime '{name}'", name=name), msg("Known runtimes: {names}.", names=list(RUNTIMES))
        )
    module, _, attribute = RUNTIMES[name].partition(":")
    runtime: Runtime = getattr(import_module(module), attribute)()
    return runtime
