"""Exports with optimum, in a process whose path starts with the overlay: ``python -P optimum_worker.py``.

A job is one line of JSON on stdin, ``{"model": FOLDER, "target": FOLDER, "task": …}``; the answer is one line on
stdout, ``{"done": true}`` or ``{"error": …, "type": …}``. A first line ``{"ready": true}`` says that optimum was
imported. The process ends with its stdin. It is run as a file and imports nothing of the playground: here transformers
is an older one than the rest of the package is written for.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
import warnings
from typing import IO, Any


def main() -> int:
    """Answer jobs until stdin closes."""
    end_with_parent()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log
    sys.stdout = sys.stderr
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error")
    warnings.filterwarnings("ignore")  # tracing warns at every Python value it meets
    import optimum.exporters.onnx  # noqa: F401

    mend_falcon()
    _send(out, {"ready": True})
    for line in sys.stdin:
        _send(out, _answer(json.loads(line)))
    return 0


def end_with_parent() -> None:
    """As ``playground.system.child.end_with_parent``: suspended, this process does not see its stdin close."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    from optimum.exporters.onnx import main_export

    try:
        main_export(
            job["model"],
            output=job["target"],
            task=job["task"],
            dtype="fp32",
            library_name="transformers",
            local_files_only=True,
            # Compared with torch by the application, on a real text and with its own loop.
            do_validation=False,
        )
    except Exception as error:  # the exporter raises whatever happens to break
        traceback.print_exc()
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return {"error": first, "type": type(error).__name__}
    return {"done": True}


def mend_falcon() -> None:
    """Let optimum see how many heads Falcon's cache has in the design of Falcon 40B.

    transformers 4.57 copies the grouped keys and values to all heads before it caches them
    (``FalconAttention._split_heads``); optimum-onnx 0.1.0 offers a cache of the groups, and tracing fails.
    """
    from optimum.exporters.onnx.model_configs import FalconOnnxConfig

    generator = FalconOnnxConfig.DUMMY_PKV_GENERATOR_CLASS

    class AllHeads(generator):  # type: ignore[misc,valid-type]
        def __init__(self, task: str, normalized_config: Any, **named: Any) -> None:
            super().__init__(task, normalized_config, **named)
            if normalized_config.new_decoder_architecture:
                self.num_kv_heads = normalized_config.num_attention_heads

    FalconOnnxConfig.DUMMY_PKV_GENERATOR_CLASS = AllHeads
    FalconOnnxConfig.DUMMY_INPUT_GENERATOR_CLASSES = (
        *(each for each in FalconOnnxConfig.DUMMY_INPUT_GENERATOR_CLASSES if each is not generator),
        AllHeads,
    )


def _send(out: IO[str], message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
