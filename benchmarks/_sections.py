"""What the peers measurement asks, section by section, and in which order the contenders are asked.

It collects plain lists of figures, one value a repeat; ``_report`` makes medians and ratios of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from benchmarks import _weights
from benchmarks._contender import CONTEXT_TOKENS
from benchmarks._machine import cores_of_others, last_level_cache, read_bandwidth
from benchmarks._parties import Ours, Party, Prompt, Sample, Seat, prepared, prompt_of, seated, seats
from benchmarks.engine import PAUSE_S, Steps, note
from playground.errors import PlaygroundError, RunError
from playground.export import Preparer
from playground.records import Message, Request, Variant
from playground.service import Playground

SECTIONS = ("decode", "prompt", "chat", "load", "growth", "size", "fast", "prepare")
SMALL, LARGE = "smollm2-135m-instruct", "gemma-3-270m"
PLAIN = "llama.cpp Q8_0 (no flash attention)"
CONTENDERS = (
    "ours int8",
    "ours int4",
    "ours fp32",
    "bare int8",
    "bare int4",
    "onnxruntime int8",
    "onnxruntime int4",
    "llama.cpp Q8_0",
    "llama.cpp Q4_1",
    PLAIN,
    "genai int8",
    "genai int4",
    "torch fp32",
    "torch bf16",
    "optimum fp32",
    "openvino int8",
    "openvino int8 (prompts)",
    "openvino int4",
    "openvino int4 (prompts)",
)
GROWING = ("ours int8", "genai int8", "llama.cpp Q8_0", PLAIN, "openvino int8")
SIZED = ("ours int8", "llama.cpp Q8_0", "openvino int8")
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8000)
WINDOW = 8192
"""Of the model that grows: its longest prompt with its answer."""
LONG_REPEATS = 3
"""Of prompts of more than 2,048 tokens, which take minutes."""
SHORT, LONG = 40, 512
AT_ONCE = (
    (SMALL, "onnx", "int8"),
    (SMALL, "onnx", "int4"),
    (LARGE, "onnx", "int8"),
    (LARGE, "onnx", "int4"),
    (SMALL, "onnx", "fp32"),
    (LARGE, "onnx", "fp32"),
    (SMALL, "torch", "fp32"),
    (LARGE, "torch", "fp32"),
)
COUNTS = (1, 2, 3, 4, 8)

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    repeats: int
    tokens: int
    sections: tuple[str, ...]
    contenders: tuple[str, ...]
    quick: bool = False


def order(names: Sequence[T], repeat: int) -> list[T]:
    """Another one begins in each repeat, and each second round goes on backwards."""
    start = repeat % len(names) if names else 0
    rotated = [*names[start:], *names[:start]]
    return rotated if repeat % 2 == 0 else [*rotated[:1], *rotated[:0:-1]]


class Bench:
    """One run. ``values[section][contender][figure]`` has one value a repeat."""

    def __init__(self, playground: Playground, plan: Plan) -> None:
        self._playground, self._plan = playground, plan
        self.values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        self.skipped: dict[str, str] = {}
        self._seats: dict[str, Seat] = {}
        self._about: dict[str, str] = {}
        self._read_rates: dict[int, float] = {}
        self._numbers: int | None = None
        self.others: list[float] = []

    def run(self) -> None:
        """All sections of the plan, those that share loaded models together."""
        if wanted := [name for name in ("decode", "prompt") if name in self._plan.sections]:
            work = {"decode": self._decode, "prompt": self._read}
            self._look()
            self._with(SMALL, self._plan.contenders, lambda parties: [work[name](parties) for name in wanted])
        for name in ("growth", "chat", "load", "size", "fast", "prepare"):
            if name in self._plan.sections:
                note(f"section {name}")
                self._look()
                getattr(self, f"_{name}")()
        self._look()

    def _look(self) -> None:
        """Note what other programs use while nothing is measured."""
        time.sleep(PAUSE_S)
        self.others.append(round(cores_of_others(), 2))

    def document(self) -> dict[str, Any]:
        cache = last_level_cache()
        return {
            "repeats": self._plan.repeats,
            "tokens": self._plan.tokens,
            "quick": self._plan.quick,
            "last_level_cache_mb": round(cache / 1e6) if cache else None,
            "weights_per_token": self._numbers,
            "contenders": {
                name: {
                    "how": seat.how,
                    "bytes_per_token": seat.bytes_per_token,
                    "read_gb_s": self._rate(seat.bytes_per_token),
                    "fits_cache": seat.bytes_per_token <= cache if cache else None,
                    "about": self._about.get(name, ""),
                }
                for name, seat in self._seats.items()
                if name not in self.skipped
            },
            "skipped": self.skipped,
            "other_cpu_cores": max(self.others, default=0.0),
            "values": {section: {who: dict(of) for who, of in rows.items()} for section, rows in self.values.items()},
        }

    def _rate(self, size: int) -> float | None:
        """GB/s at which so many bytes are read; None where nobody's share of it is told."""
        return round(self._read_rates[size] / 1e9, 1) if size in self._read_rates else None

    def _read_again(self, sizes: set[int]) -> None:
        """How fast are as many bytes read as a token reads, in these minutes? The best of all looks counts."""
        time.sleep(PAUSE_S)
        for size in sorted(sizes):
            taken = read_bandwidth(size, self._playground.settings.threads)
            self._read_rates[size] = max(taken, self._read_rates.get(size, 0.0))

    # -- sections -----------------------------------------------------------------------------------------------

    def _decode(self, parties: dict[str, Party]) -> None:
        spec = self._playground.catalog.resolve(SMALL)[0]
        self._numbers = _weights.gguf_weights(_weights.starter_gguf(spec, self._playground.settings.home))
        sizes = {self._seats[name].bytes_per_token for name in parties}
        self._read_again(sizes)
        self._ask("decode", parties, self._prompt(SMALL, SHORT), self._plan.tokens, str)
        self._read_again(sizes)

    def _read(self, parties: dict[str, Party]) -> None:
        self._ask("prompt", parties, self._prompt(SMALL, LONG), 1, str)

    def _growth(self) -> None:
        def all_lengths(parties: dict[str, Party]) -> None:
            for length in LENGTHS[:3] if self._plan.quick else LENGTHS:
                prompt = self._prompt(SMALL, length)
                repeats = self._plan.repeats if length <= 2048 else min(self._plan.repeats, LONG_REPEATS)
                self._ask("growth", parties, prompt, 24, lambda name, at=length: f"{name} @{at}", repeats=repeats)  # type: ignore[misc]

        self._with(SMALL, self._only(GROWING), all_lengths, WINDOW)

    def _size(self) -> None:
        def both(parties: dict[str, Party]) -> None:
            for length, count in ((SHORT, max(16, self._plan.tokens // 2)), (LONG, 1)):
                prompt = self._prompt(LARGE, length)
                self._ask("size", parties, prompt, count, lambda name, at=length: f"{name} @{at}")  # type: ignore[misc]

        self._with(LARGE, self._only(SIZED), both)

    def _chat(self) -> None:
        """Turn one, then turn two with the same worker; the first one's cache may be used, or not."""
        ours = Ours(self._playground, self._load_of(SMALL, "int8"))
        first = self._prompt(SMALL, LONG).text
        for repeat in range(self._plan.repeats):
            for reuse in order((True, False), repeat):
                request = Request(first, max_new_tokens=48, min_new_tokens=48)
                _, said = ours.answer(request)
                chat = (Message("user", first), Message("assistant", said), Message("user", "And what came next?"))
                sample, _ = ours.answer(Request(messages=chat, max_new_tokens=2, reuse=reuse))
                if sample.reused is None:
                    self.skipped["chat"] = "the runtime does not say how many tokens it reused"
                    return
                row = self.values["chat"]["with reuse" if reuse else "without reuse"]
                row["ttft_s"].append(sample.first_s)
                row["reused_tokens"].append(sample.reused)

    def _load(self) -> None:
        loads = {f"ours int8, {model}": self._load_of(model, "int8") for model in (SMALL, LARGE)}
        others = seats(
            self._playground, SMALL, self._only(("llama.cpp Q8_0", "genai int8", "torch fp32", "openvino int8"))
        )
        able = {f"{seat.name}, {SMALL}": seat for seat in others if seat.open}
        for repeat in range(self._plan.repeats):
            for name in order([*loads, *able], repeat):
                if name in loads:
                    self._playground.pool.unload(str(loads[name].artifact.variant))
                    taken = Ours(self._playground, loads[name]).load_s
                else:
                    opener, began = able[name].open, time.monotonic()
                    assert opener
                    with ExitStack() as stack:
                        opener(stack)
                        taken = time.monotonic() - began
                if taken is not None:
                    self.values["load"][name]["load_s"].append(taken)

    def _fast(self) -> None:
        """One to eight models at once, as a fast comparison: threads are divided among them."""
        variants = []
        for model, runtime, precision in AT_ONCE:
            prepared(self._playground, model, runtime, precision)
            variants.append(Variant(model, runtime, precision))
        request = Request("Tell a story.", max_new_tokens=64, min_new_tokens=64)
        for repeat in range(self._plan.repeats):
            for count in order(COUNTS, repeat):
                chosen = variants[:count]
                warm = replace(request, max_new_tokens=2, min_new_tokens=2)
                self._playground.comparer.start(warm, chosen, "fast").result()
                began = time.monotonic()
                runs = self._playground.comparer.start(request, chosen, "fast").result().runs
                took = time.monotonic() - began
                if failed := [run.error for run in runs if run.error]:
                    raise RunError(f"A fast comparison failed ({failed[0]})", "See its log.")
                row = self.values["fast"][f"{count} at once"]
                row["together_tok_s"].append(sum(run.timings.output_tokens or 0 for run in runs) / took)
                row["first_model_tok_s"].append(runs[0].timings.decode_tok_s or 0.0)

    def _prepare(self) -> None:
        """Into a home of its own that shares nothing but the downloaded files, and is thrown away."""
        import shutil
        import tempfile
        from pathlib import Path

        home = self._playground.settings.home
        (home / "bench").mkdir(parents=True, exist_ok=True)
        for model in (SMALL, LARGE):
            spec, variant = self._playground.catalog.resolve(str(Variant(model, "onnx", "int8")))
            place = Path(tempfile.mkdtemp(prefix="prepare-", dir=home / "bench"))
            try:
                (place / "sources").symlink_to((home / "sources").resolve())
                preparer = Preparer(replace(self._playground.settings, home=place), self._playground.catalog)
                began = time.monotonic()
                preparer.prepare(variant, Steps(), lambda: False)
                self.values["prepare"][spec.id]["prepare_s"].append(time.monotonic() - began)
                preparer.close()
            finally:
                shutil.rmtree(place, ignore_errors=True)

    # -- how it is asked ----------------------------------------------------------------------------------------

    def _ask(
        self,
        section: str,
        parties: dict[str, Party],
        prompt: Prompt,
        count: int,
        row: Callable[[str], str],
        *,
        repeats: int | None = None,
    ) -> None:
        """Everyone, in turns; who fails is left out from then on, with what was measured so far."""
        repeats = repeats or self._plan.repeats
        for repeat in range(repeats):
            note(f"section {section}, {len(prompt.ids)} tokens, repeat {repeat + 1} of {repeats}")
            for name in order(list(parties), repeat):
                try:
                    sample = parties[name].ask(prompt, count)
                except PlaygroundError as error:
                    if name.startswith("ours"):
                        raise
                    self.skipped[name] = str(error)
                    parties.pop(name)
                    for rows in self.values.values():
                        for key in [key for key in rows if key.split(" @")[0] == name]:
                            rows.pop(key)
                    continue
                self._note(self.values[section][row(name)], sample, len(prompt.ids))
                time.sleep(PAUSE_S)

    @staticmethod
    def _note(figures: dict[str, list[float]], sample: Sample, tokens: int) -> None:
        figures["ttft_s"].append(sample.first_s)
        figures["prefill_tok_s"].append(tokens / sample.read_s)
        if sample.peak_mb is not None:
            figures["peak_mb"].append(sample.peak_mb)
        if sample.decode_tok_s is not None:
            figures["decode_tok_s"].append(sample.decode_tok_s)

    def _with(
        self,
        model: str,
        names: Sequence[str],
        work: Callable[[dict[str, Party]], Any],
        context: int = CONTEXT_TOKENS,
    ) -> None:
        found = seats(self._playground, model, names, context)
        self._seats = {seat.name: seat for seat in found if seat.open} | self._seats
        skipped: dict[str, str] = {}
        with seated(found, skipped) as parties:
            self.skipped |= {f"{name} ({model})" if model != SMALL else name: why for name, why in skipped.items()}
            self._about |= {name: party.about for name, party in parties.items()}
            work(parties)

    def _only(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self._plan.contenders]

    def _load_of(self, model: str, precision: str) -> Any:
        return prepared(self._playground, model, "onnx", precision)

    def _prompt(self, model: str, tokens: int) -> Prompt:
        return prompt_of(self._load_of(model, "int8"), tokens)
