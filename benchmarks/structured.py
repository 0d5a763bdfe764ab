"""What holding an answer to a JSON schema costs: held and free answers of the same length, by turns.

    python -m playground bench structured [--repeats 9] [--tokens 128] [--model ID …] [--json]

    free      128 tokens, greedy, the end of the answer forbidden
    held      128 tokens, greedy, of a schema whose answers are longer than that

One runtime answers both, in this process, so what differs is the mask. A ratio is one of neighbours in time; the median
of them is told with its quartiles. `told` is what the answer itself says that it cost a token (`Held.seconds`), which
is all that is added between two steps of the model. Once a model, its vocabulary is made into bytes; once a schema, a
grammar is made of it: both before the clock of an answer runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks._machine import machine
from playground.config.settings import load_settings
from playground.errors import PlaygroundError
from playground.records import LoadSpec, ModelRun, Request
from playground.runtimes import create_runtime
from playground.service import Playground

MODELS = ("smollm2-135m-instruct", "gemma-3-270m")
PROMPT = "Tell me about five people."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "languages": {"type": "array", "items": {"type": "string"}},
        "email": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["name", "age", "languages", "email"],
    "additionalProperties": False,
}
SCHEMA = json.dumps({"type": "array", "items": PERSON, "minItems": 1000})


@dataclass(frozen=True)
class Row:
    """One model. Milliseconds a token; ``more`` is held over free, as quartiles of neighbours.

    Attributes:
        vocabulary_s: To make bytes of the vocabulary, once a model.
        schema_ms: To make a grammar of the schema and begin, once a schema.
        told_ms: What the answers said.
    """

    variant: str
    engine: str
    repeats: int
    free_ms: float
    held_ms: float
    more: tuple[float, float, float]
    told_ms: float
    vocabulary_s: float
    schema_ms: float


def measure(load: LoadSpec, repeats: int, tokens: int) -> Row:
    """
    Raises:
        PlaygroundError: The model can't be loaded, or not be held.
    """
    runtime: Any = create_runtime(load.artifact.variant.runtime)
    runtime.load(load)
    try:
        began = time.perf_counter()
        grammars = runtime._loaded.grammars
        vocabulary_s = time.perf_counter() - began
        began = time.perf_counter()
        grammars.begin(SCHEMA, ())
        schema_ms = 1000 * (time.perf_counter() - began)
        free = Request(PROMPT, max_new_tokens=tokens, min_new_tokens=tokens)
        held = Request(PROMPT, max_new_tokens=tokens, json_schema=SCHEMA)
        pairs = []
        for turn in range(repeats + 1):
            one, other = (free, held) if turn % 2 else (held, free)
            runs = {request.json_schema: answer(runtime, request) for request in (one, other)}
            if turn:  # the first pair warms both
                pairs.append((runs[""], runs[SCHEMA]))
    finally:
        runtime.close()
    ratios = [ms(second) / ms(first) - 1 for first, second in pairs]
    return Row(
        variant=str(load.artifact.variant),
        engine=pairs[0][0].engine or "",
        repeats=repeats,
        free_ms=statistics.median(ms(run) for run, _ in pairs),
        held_ms=statistics.median(ms(run) for _, run in pairs),
        more=tuple(statistics.quantiles(ratios, n=4)),  # type: ignore[arg-type]
        told_ms=statistics.median(told(run) for _, run in pairs),
        vocabulary_s=vocabulary_s,
        schema_ms=schema_ms,
    )


def answer(runtime: Any, request: Request) -> ModelRun:
    run: ModelRun = list(runtime.generate(request, lambda: False))[-1].run
    assert run.timings.output_tokens == request.max_new_tokens, run
    return run


def ms(run: ModelRun) -> float:
    """From the first to the last token, for each."""
    return 1000 / (run.timings.decode_tok_s or 0)


def told(run: ModelRun) -> float:
    """What the answer says of itself."""
    return next(float(warning.values["ms"]) for warning in run.warnings if "ms" in warning.values)


def shown(row: Row) -> str:
    low, middle, high = (f"{100 * each:+.1f}" for each in row.more)
    return (
        f"{row.variant} ({row.engine}): free {row.free_ms:.2f} ms a token, held {row.held_ms:.2f}, {middle} % "
        f"({low} to {high}); told {row.told_ms:.3f} ms; vocabulary {row.vocabulary_s:.2f} s once, "
        f"schema {row.schema_ms:.1f} ms once"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print a line a model, or all of it as JSON."""
    parser = argparse.ArgumentParser(prog="playground bench structured", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--model", action="append", help="MODEL[@RUNTIME-PRECISION]; can be given several times")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    settings = load_settings()
    rows = []
    with Playground(settings) as playground:
        for name in options.model or MODELS:
            try:
                spec, variant = playground.resolve(name)
                artifact = playground.prepare(variant, lambda *_: None)
                rows.append(measure(LoadSpec(spec, artifact, settings.threads), options.repeats, options.tokens))
            except PlaygroundError as error:
                print(f"{name}: {error}")
                return 1
            if not options.json:
                print(shown(rows[-1]), flush=True)
    if options.json:
        print(json.dumps({"machine": machine(settings.threads), "rows": [asdict(row) for row in rows]}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
