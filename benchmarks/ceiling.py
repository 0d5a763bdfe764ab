"""What could lift the ceiling of the decode loop, tried out: figures, also where they speak against it.

    python -m playground bench ceiling [--model ID] [--precision int8]… [--repeats 5] [--json]

    rows      a run over 1, 2, 4, … new tokens behind the same text: what looking ahead, or several answers, would cost
    lookup    prompt-lookup speculation: of greedy answers of the model, how many tokens n-grams of the text so far
              would have foretold, and what that would have saved at the measured price of the rows
    flips     how often the likeliest token differs when it is computed in a run over 8 rows instead of 1: a
              speculation that is checked in such a run says another text each time
    batch     several answers in one step: tokens per second together, for 1, 2, 4 and 8

All of it is our own engine on a prepared model; contenders take turns within a repeat, medians are shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from playground.config.settings import load_settings
from playground.errors import PlaygroundError, RunError
from playground.records import Request, Variant
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.native.own_library import recorded
from playground.runtimes.onnx.runtime import open_engine, open_session
from playground.service import Playground

ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
BATCHES = (1, 2, 4, 8)
BEHIND = 200
ANSWER = 96
GRAM, AHEAD = 2, 7
"""So many tokens must repeat, and so many behind them are guessed."""
PASSAGE = (
    "The lighthouse stands on a low rock two miles from the harbour. It was built of grey granite in 1871 and has been "
    "lit every night since. The keeper climbs its 142 steps at dusk, trims the lamp, and writes the weather in a book."
)
PROMPTS = {
    "a story": "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "a passage said again": f"Repeat this text word for word, twice:\n\n{PASSAGE}",
    "a summary": f"Summarise this text in two sentences:\n\n{PASSAGE}",
    "code": "Write a Python class for a bank account with deposit, withdraw and transfer methods.",
}


def rows_ms(engine: Any, ids: Sequence[int], repeats: int) -> dict[int, float]:
    """Milliseconds of one run over so many new tokens behind ``BEHIND`` others."""
    taken: dict[int, list[float]] = {rows: [] for rows in ROWS}
    engine.reset(BEHIND + max(ROWS) + 1)
    engine.prefill(ids[:BEHIND])
    for _ in range(repeats * 4):
        for rows in ROWS:
            engine.rewind(BEHIND, BEHIND + max(ROWS) + 1)
            began = time.perf_counter()
            engine.step(ids[BEHIND]) if rows == 1 else engine.prefill(ids[BEHIND : BEHIND + rows])
            taken[rows].append(time.perf_counter() - began)
    return {rows: round(statistics.median(values) * 1e3, 2) for rows, values in taken.items()}


def answer(engine: Any, ids: Sequence[int]) -> list[int]:
    """``ANSWER`` greedy tokens, one at a time."""
    engine.reset(len(ids) + ANSWER)
    found = [int(engine.prefill(ids).argmax())]
    while len(found) < ANSWER:
        found.append(int(engine.step(found[-1]).argmax()))
    return found


def foretold(prompt: Sequence[int], said: Sequence[int]) -> list[tuple[int, int]]:
    """The runs that prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding) would have needed for
    ``said``: for each (rows computed, tokens gained).
    """
    runs, place = [], 1  # the first token comes with the prompt
    while place < len(said):
        known = [*prompt, *said[:place]]
        guess = _behind_last(known)
        right = 0
        while right < len(guess) and place + right < len(said) and guess[right] == said[place + right]:
            right += 1
        gained = min(right + 1, len(said) - place)
        runs.append((1 + len(guess), gained))
        place += gained
    return runs


def _behind_last(known: Sequence[int]) -> list[int]:
    """What stood behind the last place where the text's last ``GRAM`` tokens stood before."""
    last = list(known[-GRAM:])
    for start in range(len(known) - GRAM - 1, -1, -1):
        if list(known[start : start + GRAM]) == last:
            return list(known[start + GRAM : start + GRAM + AHEAD])
    return []


def cost_ms(rows: int, measured: dict[int, float]) -> float:
    """Between measured numbers of rows the time is taken to grow evenly."""
    return float(np.interp(rows, list(measured), list(measured.values())))


def flips(engine: Any, prompt: Sequence[int], said: Sequence[int]) -> tuple[int, int]:
    """Of how many places the likeliest token differs between a run over one row and one over 8. Returns (flips, n)."""
    ids = [*prompt, *said]
    differ = places = 0
    for end in range(len(prompt) + 8, len(ids)):
        engine.reset(len(ids))
        engine.prefill(ids[: end - 8])
        together = int(engine.prefill(ids[end - 8 : end]).argmax())
        engine.rewind(end - 8, len(ids))
        for token in ids[end - 8 : end]:
            alone = engine.step(token)
        differ += together != int(alone.argmax())
        places += 1
        if places == 40:
            break
    return differ, places


def batch_tok_s(folder: Path, threads: int, repeats: int) -> dict[int, float] | str:
    """Tokens per second of all answers together, decoding 24 tokens behind 64, for each size of a batch; or why not."""
    session = open_session(folder / "model.onnx", threads)
    pasts = [node for node in session.get_inputs() if node.name.startswith("past")]
    head_size = json.loads((folder / "config.json").read_text())["head_dim"]
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    try:
        steps = {size: _batched(session, pasts, size, head_size) for size in BATCHES}
        for _ in range(repeats):
            for size, step in steps.items():
                began = time.perf_counter()
                for place in range(64, 88):
                    step(place)
                taken[size].append(size * 24 / (time.perf_counter() - began))
    except Exception as error:  # a graph that was made for one answer at a time
        return str(error).splitlines()[0][:160]
    return {size: round(statistics.median(values), 1) for size, values in taken.items()}


def _batched(session: Any, pasts: list[Any], size: int, head_size: int) -> Any:
    """A step of ``size`` answers over caches of their own; what is in the caches does not change the work."""
    caches = {}
    for node in pasts:
        caches[node.name] = np.zeros((size, node.shape[1], 96, head_size), np.float32)
    tokens = np.full((size, 1), 5, np.int64)
    logits = np.zeros((size, 1, session.get_outputs()[0].shape[-1]), np.float32)
    mask = np.ones((size, 96), np.int64)

    def step(place: int) -> None:
        beside = np.ascontiguousarray(mask[:, : place + 1])
        binding = session.io_binding()
        binding.bind_input("input_ids", "cpu", 0, np.int64, tokens.shape, tokens.ctypes.data)
        binding.bind_input("attention_mask", "cpu", 0, np.int64, beside.shape, beside.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for name, array in caches.items():
            out = name.replace("past_key_values", "present")
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            binding.bind_output(out, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        session.run_with_iobinding(binding)

    return step


def measure(playground: Playground, model: str, precision: str, repeats: int) -> dict[str, Any]:
    """All of it for one precision.

    Raises:
        PlaygroundError: The model can't be prepared, or it has no graph of its own.
    """
    spec, variant = playground.catalog.resolve(str(Variant(model, "onnx", precision)))
    artifact = playground.preparer.prepare(variant, lambda *_: None, lambda: False)
    if artifact.variant.runtime != "onnx":
        raise RunError(f"{variant} has no usable onnx artifact", "; ".join(artifact.fallbacks))
    folder, threads = Path(artifact.path), playground.settings.threads
    engine, prompter = open_engine(folder, threads, library=recorded(folder)), Prompter(folder, spec)
    prompts = {name: list(prompter.view(Request(text)).token_ids) for name, text in PROMPTS.items()}
    text = [token for ids in prompts.values() for token in ids]
    rows = rows_ms(engine, (text * (1 + 300 // len(text)))[:300], repeats)
    lookup, differ, places = {}, 0, 0
    for name, ids in prompts.items():
        said = answer(engine, ids)
        runs = foretold(ids, said)
        without = (len(said) - 1) * rows[1]
        lookup[name] = {
            "tokens_per_run": round((len(said) - 1) / len(runs), 2),
            "times_faster_at_most": round(without / sum(cost_ms(count, rows) for count, _ in runs), 2),
        }
        found, of = flips(engine, ids, said)
        differ, places = differ + found, places + of
    engine.close()
    batch = batch_tok_s(folder, threads, repeats)
    return {"rows_ms": rows, "lookup": lookup, "flips": [differ, places], "batch_tok_s": batch}


def table(document: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{document['model']}, {document['threads']} threads"]
    for precision, found in document["precisions"].items():
        rows = ", ".join(f"{count}: {ms}" for count, ms in found["rows_ms"].items())
        lines += ["", precision, f"  ms of a run by rows      {rows}"]
        for name, case in found["lookup"].items():
            lines.append(
                f"  lookup, {name:<21}{case['tokens_per_run']} tokens a run, {case['times_faster_at_most']} × at most"
            )
        differ, places = found["flips"]
        lines.append(f"  flips in a run of 8 rows  {differ} of {places}")
        batch = found["batch_tok_s"]
        said = batch if isinstance(batch, str) else ", ".join(f"{size}: {rate}" for size, rate in batch.items())
        lines.append(f"  tok/s together by batch   {said}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m playground bench ceiling", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--precision", action="append", choices=["int8", "int4", "fp32"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = load_settings()
    try:
        with Playground(settings) as playground:
            found = {}
            for precision in options.precision or ["int8"]:
                print(f"measuring {precision}", file=sys.stderr, flush=True)
                found[precision] = measure(playground, options.model, precision, options.repeats)
    except PlaygroundError as error:
        print(error, file=sys.stderr)
        return 1
    document = {"model": options.model, "threads": settings.threads, "precisions": found}
    print(json.dumps(document, indent=2) if options.json else table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
