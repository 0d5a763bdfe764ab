"""Who takes part in the peers measurement, each behind the same question: read these tokens, write so many.

Ours answer through the pool, as in the app, and are given the text; the others are processes of ``_contender.py`` and
are given the token ids. The module does not know what is asked, or what the figures mean.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks import _openvino, _weights
from benchmarks._contender import CONTEXT, CONTEXT_TOKENS
from benchmarks.engine import Contender, Steps, note
from playground.errors import PlaygroundError, RunError
from playground.export.recipes.overlay import ensure_overlay
from playground.records import LoadSpec, Request, Variant
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.timing import decode_rate
from playground.service import Playground
from playground.workers.process import worker_environment

STORY = (
    "The lighthouse stands on a low rock two miles from the harbour. It was built of grey granite and has been lit "
    "every night since. The keeper climbs its steps at dusk, trims the lamp, and writes the weather in a book. "
)


@dataclass(frozen=True)
class Sample:
    """One answer. ``first_s``: asked → first token; ``read_s``: token ids known → first token; rates per second.

    ``peak_mb`` is the most resident memory of the process while it answered, in MB of 10^6 bytes.
    """

    first_s: float
    read_s: float
    decode_tok_s: float | None
    reused: int | None = None
    load_s: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Prompt:
    """A text and the ids that the model reads for it."""

    text: str
    ids: tuple[int, ...]


class Party(Protocol):
    about: str

    def ask(self, prompt: Prompt, count: int) -> Sample: ...


@dataclass(frozen=True)
class Seat:
    """A contender of one model: how it is called in a line, what it reads per token, how it is opened, or why not."""

    name: str
    how: str
    bytes_per_token: int
    open: Callable[[ExitStack], Party] | None
    skipped: str = ""


class Ours:
    """The playground's own worker, through its pool.

    Attributes:
        load_s: From the start of the process to a warmed-up model; 0 if it was warm already.
    """

    about = ""

    def __init__(self, playground: Playground, load: LoadSpec) -> None:
        self._playground, self._load = playground, load
        self.load_s = self.ask(Prompt("Hi", ()), 2).load_s

    def ask(self, prompt: Prompt, count: int) -> Sample:
        return self.answer(Request(prompt.text, max_new_tokens=count, min_new_tokens=count))[0]

    def answer(self, request: Request) -> tuple[Sample, str]:
        """A sample and the text of the answer."""
        run = None
        for event in self._playground.pool.generate(self._load, request, lambda: False):
            run = event.run
        if run is None or run.error or run.timings.ttft_s is None or run.timings.tokenize_s is None:
            raise RunError(f"{self._load.artifact.variant} did not answer ({run and run.error})", "See its log.")
        took = run.timings
        read_s = run.timings.ttft_s - run.timings.tokenize_s
        return Sample(
            run.timings.ttft_s, read_s, took.decode_tok_s, took.reused_tokens, took.load_s, took.peak_memory_mb
        ), run.text


class Theirs:
    """A contender's process."""

    def __init__(self, contender: Contender, name: str) -> None:
        self._contender, self._name = contender, name
        self.about = contender.about

    def ask(self, prompt: Prompt, count: int) -> Sample:
        answer = self._contender.generate(prompt.ids, count)
        stamps = answer["stamps"]
        if len(stamps) != count:
            raise RunError(f"{self._name} wrote {len(stamps)} tokens instead of {count}", "Leave it out: --without.")
        first = stamps[0] - answer["began"]
        return Sample(first, first, decode_rate(stamps), peak_mb=answer["peak_mb"])


def prepared(playground: Playground, model: str, runtime: str, precision: str) -> LoadSpec:
    """A model ready to be loaded; it is prepared if it was not.

    Raises:
        PlaygroundError: It can't be.
    """
    spec, variant = playground.catalog.resolve(str(Variant(model, runtime, precision)))
    artifact = playground.preparer.prepare(variant, Steps(), lambda: False)
    if artifact.variant.runtime != runtime:
        raise RunError(f"{variant} could not be made", "; ".join(artifact.fallbacks))
    return LoadSpec(spec, artifact, playground.settings.threads)


def prompt_of(load: LoadSpec, tokens: int) -> Prompt:
    """A prompt that this model reads as exactly ``tokens`` tokens, template included.

    Raises:
        RunError: There is none, for the template alone has more.
    """
    prompter = Prompter(Path(load.artifact.path), load.spec)

    def read(text: str) -> tuple[int, ...]:
        return prompter.view(Request(text)).token_ids

    words = (STORY * (tokens // 20 + 1)).split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(read(" ".join(words[:middle]))) <= tokens else (low, middle - 1)
    text = " ".join(words[:low])
    for _ in range(8):
        ids = read(text)
        if len(ids) >= tokens:
            break
        text += " a"
    if len(ids) != tokens:
        raise RunError(f"{load.spec.id} has no prompt of exactly {tokens} tokens", "Its template may be longer.")
    return Prompt(text, ids)


def missing(package: str, file: str = "requirements-bench.txt") -> str:
    """Empty, or that ``package`` is not installed and the command that installs it."""
    return "" if importlib.util.find_spec(package) else f"{package} is not installed: pip install -r {file}"


def seats(playground: Playground, model: str, wanted: Sequence[str], context: int = CONTEXT_TOKENS) -> list[Seat]:
    """All that are ``wanted`` for ``model``; what can't take part says why.

    Args:
        context: Tokens of the longest prompt with its answer.
    """
    found = []
    for name in wanted:
        try:
            found.append(_seat(playground, model, name, context))
        except PlaygroundError as error:
            found.append(Seat(name, "", 0, None, str(error)))
    return found


def _seat(playground: Playground, model: str, name: str, context: int) -> Seat:
    who, _, precision = name.partition(" ")
    home, threads = playground.settings.home, playground.settings.threads
    if who in ("ours", "bare", "onnxruntime", "genai"):
        load = prepared(playground, model, "onnx", precision)
        folder = Path(load.artifact.path)
        size = _weights.onnx_bytes(folder / "model.onnx")
        own = _weights.kernel_bytes(load.artifact) or size
        if who == "ours":
            how = "`Pool.generate` on text, in a worker process: what the app does"
            how += f"; computed by {load.artifact.engine}"
            return Seat(name, how, own, lambda _: Ours(playground, load))
        env = {"GLIBC_TUNABLES": worker_environment(load)["GLIBC_TUNABLES"]}
        if who == "bare":
            how = f"the worker's engine ({load.artifact.engine}) and argmax, nothing else"
            return Seat(name, how, own, _opener("bare", folder, threads, env))
        if who == "onnxruntime":
            how = "`InferenceSession.run_with_iobinding` on the same file, argmax, nothing else"
            return Seat(name, how, size, _opener("onnxruntime", folder, threads, env))
        if why := missing("onnxruntime_genai", "requirements.txt") or (
            "" if (folder / "genai_config.json").is_file() else "no genai_config"
        ):
            return Seat(name, "", 0, None, why)
        how = "`onnxruntime_genai.Generator` on the same file"
        return Seat(name, how, size, _opener("genai", folder, threads, {}))
    if who == "llama.cpp":
        if why := missing("llama_cpp"):
            return Seat(name, "", 0, None, why)
        file = _weights.starter_gguf(playground.catalog.resolve(model)[0], home)
        precision, _, plain = precision.partition(" ")
        if precision == "Q8_0":
            file = _weights.q8_0(file, home / "bench")
        elif precision not in file.name:
            raise RunError(f"The starter file is {file.name}, not {precision}", "It is left out.")
        how = f"`llama_decode` and the greedy sampler on {file.name}" + (", without flash attention" if plain else "")
        env = {CONTEXT: str(context)}
        return Seat(
            name, how, _weights.gguf_bytes(file), _opener("llama_plain" if plain else "llama", file, threads, env)
        )
    if who == "openvino":
        if why := missing("openvino_genai"):
            return Seat(name, "", 0, None, why)
        file = _weights.starter_gguf(playground.catalog.resolve(model)[0], home)
        return _openvino_seat(name, file, home / "bench", threads)
    folder = _weights.in_safetensors(Path(prepared(playground, model, "torch", "fp32").artifact.path), home / "bench")
    if who == "torch":
        width, key = (2, "torch_bf16") if precision == "bf16" else (4, "torch")
        how = f"`AutoModelForCausalLM.generate`, {precision}"
        return Seat(name, how, _weights.torch_bytes(folder, width), _opener(key, folder, threads, {}))
    exports = home / "bench"
    exports.mkdir(parents=True, exist_ok=True)
    env = {"PYTHONPATH": str(ensure_overlay(home, Steps(), lambda: False)), "BENCH_EXPORTS": str(exports)}
    how = "`ORTModelForCausalLM.generate` on optimum's own export, with the overlay's transformers 4"
    return Seat(name, how, _weights.torch_bytes(folder, 4), _opener("optimum", folder, threads, env))


def _openvino_seat(name: str, file: Path, place: Path, threads: int) -> Seat:
    """The fastest of OpenVINO's ways: at decoding, or, where the name ends so and it is another one, at prompts."""
    precision, _, prompts = name.partition(" ")[2].partition(" ")
    look = _openvino.look(file, place, precision, threads)
    writing, reading = look.best()
    if prompts and reading == writing:
        return Seat(name, "", 0, None, f"{writing} is the fastest at both, see openvino {precision}")
    way = reading if prompts else writing
    fastest = "reading 512 tokens" if prompts else "decoding"
    how = f"`openvino_genai.LLMPipeline` on token ids, {way}: the fastest at {fastest} of those tried ({look.told()})"
    return Seat(name, how, way.weights.bytes_per_token, _opener(way.key, way.weights.path, threads, {}))


def _opener(key: str, path: Path, threads: int, env: dict[str, str]) -> Callable[[ExitStack], Party]:
    return partial(_open, key, path, threads, env)


def _open(key: str, path: Path, threads: int, env: dict[str, str], stack: ExitStack) -> Party:
    contender = Contender(key, path, threads, env)
    stack.callback(contender.close)
    return Theirs(contender, key)


@contextmanager
def seated(chosen: Sequence[Seat], skipped: dict[str, str]) -> Iterator[dict[str, Party]]:
    """Those that could be opened, loaded and waiting; the others' reasons go into ``skipped``."""
    with ExitStack() as stack:
        parties: dict[str, Any] = {}
        for seat in chosen:
            if seat.open is None:
                skipped[seat.name] = seat.skipped
                note(f"{seat.name} is skipped: {seat.skipped}")
                continue
            note(f"loading {seat.name}")
            try:
                parties[seat.name] = seat.open(stack)
            except PlaygroundError as error:
                if seat.name.startswith("ours"):
                    raise
                skipped[seat.name] = str(error)
        yield parties
