"""OpenVINO GenAI's part of the peers measurement: a model's weights in its formats, and which of its ways is fastest.

    python -m benchmarks._openvino IN.gguf OUT MODE         an IR with weights compressed by NNCF, MODE as it calls them

OpenVINO GenAI reads a GGUF file by itself, and its documentation says that an IR compressed by NNCF is faster: both are
tried, with both of its attentions and both types of activations. What is fastest at decoding need not be fastest at
reading a prompt, so there is a row for each.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from benchmarks import _weights
from benchmarks.engine import PAUSE_S, Contender, note
from playground.errors import PlaygroundError, RunError
from playground.paths import ROOT
from playground.runtimes.generation.timing import decode_rate

KEYS = {
    "openvino_pa": "PA",
    "openvino_sdpa": "SDPA",
    "openvino_pa_f32": "PA, f32",
    "openvino_sdpa_f32": "SDPA, f32",
}
"""Ways of ``_contender.py`` in words: which ``ATTENTION_BACKEND``, and f32 where the plugin is not left to choose."""
MODES = {"int8": ("INT8_SYM",), "int4": ("INT4_ASYM", "INT4_SYM")}
"""NNCF's, whose 4 bits are in groups of 32 weights as in GGUF; the head stays in 8 bits, as in the starter files."""
CALLED = """\
- The CPU plugin by `LLMPipeline` on token ids, greedy, with `ignore_eos`; `PERFORMANCE_HINT` LATENCY and as many
  inference threads as everyone. What is not named is its default, and the page prints what that is: keys and values
  in u8, dynamic quantization in groups of 32.
- Weights at int8: the Q8_0 file that llama.cpp reads, or an IR by NNCF's INT8_SYM. At int4: the downloaded Q4_1 file,
  or an IR by NNCF's INT4_ASYM or INT4_SYM in groups of 32 with the head in 8 bits. The IR is what `LLMPipeline` saves
  of the GGUF in F16, compressed; nothing else is needed to make it. Both are kept in `bench` under `PLAYGROUND_HOME`.
- `ATTENTION_BACKEND` PA and SDPA, and activations as the plugin chooses (bf16 where the processor has it) and in f32.
- All of these are tried before the sections, by turns, three rounds. The fastest at decoding is the row `openvino
  int8`, the fastest at a prompt of 512 tokens `openvino int8 (prompts)`, if it is another one; int4 alike. The page
  has the figures of each way that was tried.
- The cache of prefixes of its paged attention is off: with it a prompt that was read before is not read again.
- `CACHE_DIR` is not used: loading was no faster with it, for the GGUF and for the IR.
- It reports every import to its makers by openvino-telemetry; here that package is hidden from it.
- Its GGUF reader knows the architectures llama, qwen2 and qwen3. For another model its rows have the reason, and the
  others go on.
"""
"""How it is called, for the page."""
GROUP = 32
ROUNDS = 3
DECODED, READ = 32, 512
"""Tokens of an answer behind 40, and of a prompt, by which ways are compared."""


@dataclass(frozen=True)
class Weights:
    """A file or folder that OpenVINO reads; ``bytes_per_token`` of it for each token."""

    name: str
    path: Path
    bytes_per_token: int


@dataclass(frozen=True)
class Way:
    """Weights, and the key of ``_contender.CONTENDERS`` by which they are run."""

    key: str
    weights: Weights

    def __str__(self) -> str:
        return f"{self.weights.name}, {KEYS[self.key]}"


class Process(Protocol):
    """A loaded contender."""

    def generate(self, ids: tuple[int, ...], count: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Look:
    """What came of trying: tokens per second and seconds of each way that ran, reasons of what did not."""

    decode_tok_s: Mapping[Way, float] = field(default_factory=dict)
    prompt_s: Mapping[Way, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def best(self) -> tuple[Way, Way]:
        """The fastest at decoding, and the fastest at reading a prompt; often the same.

        Raises:
            RunError: None ran.
        """
        if not self.decode_tok_s:
            raise RunError(f"OpenVINO GenAI can't run this model ({'; '.join(dict.fromkeys(self.failed.values()))})")
        return max(self.decode_tok_s, key=self.decode_tok_s.__getitem__), min(
            self.prompt_s, key=self.prompt_s.__getitem__
        )

    def told(self) -> str:
        """All that was tried, for the page."""
        ran = [f"{way}: {rate:.0f} tok/s, {self.prompt_s[way]:.3f} s" for way, rate in self.decode_tok_s.items()]
        return "; ".join([*ran, *(f"{name}: {why}" for name, why in self.failed.items())])


def compare(ways: Sequence[Way], start: Callable[[Way, ExitStack], Process]) -> Look:
    """Each way by turns, a short answer and a long prompt; medians. What fails is left out with its reason."""
    decode: dict[Way, list[float]] = {}
    prompt: dict[Way, list[float]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        running: dict[Way, Process] = {}
        for way in ways:
            try:
                running[way] = start(way, stack)
            except PlaygroundError as error:
                failed[str(way)] = error.what
        for turn in range(ROUNDS):
            for way in list(running) if turn % 2 == 0 else list(running)[::-1]:
                try:
                    answer = running[way].generate(tuple(range(100, 140)), DECODED)
                    time.sleep(PAUSE_S)
                    read = running[way].generate(tuple(range(100, 100 + READ)), 1)
                except PlaygroundError as error:
                    failed[str(way)] = error.what
                    for taken in (running, decode, prompt):
                        taken.pop(way, None)
                    continue
                decode.setdefault(way, []).append(decode_rate(answer["stamps"]) or 0.0)
                prompt.setdefault(way, []).append(read["stamps"][0] - read["began"])
                time.sleep(PAUSE_S)
    return Look(
        {way: statistics.median(rates) for way, rates in decode.items()},
        {way: statistics.median(seconds) for way, seconds in prompt.items()},
        failed,
    )


@cache
def look(source: Path, place: Path, precision: str, threads: int) -> Look:
    """Make the weights of ``precision`` from the GGUF ``source``, and try each way once in a process's life.

    Args:
        place: Where files are kept that are made once.
    """
    found, failed = weights(source, place, precision)
    note(f"trying OpenVINO's ways at {precision}, the fastest takes part")

    def start(way: Way, stack: ExitStack) -> Process:
        process = Contender(way.key, way.weights.path, threads, {})
        stack.callback(process.close)
        return process

    taken = compare([Way(key, each) for each in found for key in KEYS], start)
    return Look(taken.decode_tok_s, taken.prompt_s, failed | taken.failed)


def weights(source: Path, place: Path, precision: str) -> tuple[list[Weights], dict[str, str]]:
    """What of the GGUF file and NNCF's compressions there is, and why the others are not."""
    found: list[Weights] = []
    failed: dict[str, str] = {}
    if precision == "int8":
        file = _weights.q8_0(source, place)
        found.append(Weights("GGUF Q8_0", file, _weights.gguf_bytes(file)))
    elif kind := next((kind for kind in ("Q4_0", "Q4_1", "Q4_K") if kind in source.name.upper()), ""):
        found.append(Weights(f"GGUF {kind}", source, _weights.gguf_bytes(source)))
    else:
        failed["GGUF of 4 bits"] = f"the starter file is {source.name}"
    for mode in MODES[precision]:
        try:
            folder = compressed(source, place, mode)
        except PlaygroundError as error:
            failed[f"NNCF {mode}"] = error.what
        else:
            size = (folder / "openvino_model.bin").stat().st_size
            found.append(Weights(f"IR by NNCF {mode}", folder, size))
    return found, failed


def compressed(source: Path, place: Path, mode: str) -> Path:
    """A folder with OpenVINO's IR of ``source``, weights compressed by NNCF; made once.

    Its ``openvino_model.bin`` is what a token reads of it: in the starter models the embedding is the head as well.

    Raises:
        RunError: NNCF is not installed, or OpenVINO can't read such a model.
    """
    if importlib.util.find_spec("nncf") is None:
        raise RunError("nncf is not installed: pip install -r requirements-bench.txt")
    done = place / f"{source.stem}.{mode}"
    if not done.is_dir():
        plain = _weights.rounded(source, place, "F16")
        command = [sys.executable, "-m", "benchmarks._openvino", str(plain), str(done), mode]
        run = subprocess.run(command, cwd=ROOT, env=os.environ | {"NNCF_CI": "1"}, capture_output=True, check=False)
        if run.returncode:
            said = [line for line in run.stderr.decode(errors="replace").splitlines() if line.strip()]
            raise RunError(said[-1] if said else f"exit code {run.returncode}")
    return done


def main(source: str, target: str, mode: str) -> None:
    """``source``, whose weights are not rounded, becomes ``target``; NNCF_CI=1 keeps NNCF from telling its makers."""
    import shutil
    import tempfile

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # nor OpenVINO
    import nncf
    import openvino
    import openvino_genai

    with tempfile.TemporaryDirectory(dir=Path(target).parent, prefix="openvino-") as stage:
        folder = Path(stage) / "model"
        folder.mkdir()
        file = folder / "plain.gguf"
        file.symlink_to(Path(source).resolve())
        openvino_genai.LLMPipeline(str(file), "CPU", enable_save_ov_model=True)
        model = openvino.Core().read_model(folder / "openvino_model.xml")
        settings = {"group_size": GROUP, "ratio": 1.0} if mode.startswith("INT4") else {}
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode[mode], **settings)
        whole = Path(stage) / "whole"
        whole.mkdir()
        openvino.save_model(model, whole / "openvino_model.xml", compress_to_fp16=False)
        for beside in folder.glob("openvino_*tokenizer.*"):
            shutil.copy(beside, whole)
        whole.rename(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
