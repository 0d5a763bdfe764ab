"""The runtimes by name. A runtime is imported only in the process that uses it."""

from __future__ import annotations

from importlib import import_module

from playground.errors import UsageError
from playground.messages import msg
from playground.runtimes.base import Runtime

RUNTIMES = {
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
