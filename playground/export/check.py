"""Runs what is to be judged over the texts of the check, beside the original, for ``fidelity`` to compare.

An export is driven by the very loop that will drive it in a worker, and so is torch: each text as a prompt in pieces,
the original's own continuation of it, then back to the prompt as a second question with the same beginning would be,
and on along the text. Kernels, cache, positions and loop are so judged together.

The text behind the prompt is read in single steps, but for engines that promise the same bits however a text is cut
(``alike_in_parts``): those read it in company, as scoring does, which takes a fraction of the time. The promise is not
believed: tokens behind the prompt, at each edge and at the end are stepped through first, as an answer is, and one that
has another bit then than in company ends the check. This module knows the runtimes; it makes no verdict.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from playground.errors import Reason
from playground.export import kernels
from playground.export.fidelity import Pair, compare
from playground.export.passages import HERE, passages, quick_passages
from playground.export.reference import Expected, Reference, ask
from playground.messages import Translatable, msg
from playground.records import Artifact, Fidelity, LoadSpec, ModelSpec, Variant
from playground.runtimes.generation.engine import Engine, Logits
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.sources.files import Progress
from playground.system.cpu import usable_cores

PROBE = HERE / "probe.txt"
"""The long text of the check."""

REFERENCE = msg("transformers in fp32 on the original files")

ASKING = msg("asking transformers")
"""The step before the comparison: the original reads the texts, which of a large one takes a while."""

GREEDY_KIND = "generate's own words"
"""What the positions behind tokens of the original's own choice are called."""

PIECES = 4
"""A prompt is read in as many pieces, so that most of it is read behind a cache, as long prompts are."""

ALONE = 4
"""Tokens at the start of a stretch that are stepped through before it is read in company."""

EDGE = 32
"""Positions a little before which a stretch begins: at every second one the kernels' attention begins a chunk, at each
another vector of positions."""


def fidelity(
    folder: Path, original: Path, precision: str, progress: Progress, reference: Translatable = REFERENCE
) -> Fidelity:
    """Ask the original, and compare the export in ``folder`` with what it says. See ``answers_of`` and ``compared``."""
    return compared(folder, answers_of(original, folder, progress), precision, progress, reference)


def answers_of(original: Path, spare: Path, progress: Progress) -> Reference:
    """The original's answers to all texts.

    Args:
        original: The folder with the original files, or what stands for it.
        spare: A folder with tokenizer.json, for originals whose tokenizer can't be read from their own.
        progress: Told that it is asked.

    Raises:
        Exception: Whatever transformers raises.
    """
    progress(ASKING, None)
    found = ask(original, passages, spare)
    gc.collect()  # the original's network, parts of which hold each other
    return found


def compared(
    folder: Path, asked: Reference, precision: str, progress: Progress, reference: Translatable = REFERENCE
) -> Fidelity:
    """Compare the export in ``folder`` with the original.

    Args:
        folder: Holds the graphs, config.json and tokenizer.json.
        asked: The original's answers.
        precision: Of the export; decides what may be lost.
        progress: Told the share of positions done.
        reference: What it is compared with, for a reader.

    Raises:
        Exception: Whatever the runtime raises where it does not run.
    """
    from playground.runtimes.onnx.runtime import open_engine

    # Preparation runs beside other work, where threads that spin while they wait make each step many times slower.
    engine = open_engine(folder, usable_cores(), spinning=False, library=kernels.built(folder))
    try:
        return compare(_told(asked, pairs(engine, asked), progress), reference, precision, asked.notes)
    finally:
        engine.close()


def torch_fidelity(
    imported: Path, original: Path, progress: Progress, reference: Translatable = REFERENCE, precision: str = "fp32"
) -> Fidelity:
    """Compare what the torch runtime makes of the import with the original.

    Few positions, for it also runs where a step takes a second. See ``fidelity``.

    Args:
        imported: The folder that the torch runtime loads.
        precision: ``fp32``, or ``bf16`` on an accelerator.
    """
    from playground.runtimes.torch.runtime import TorchRuntime

    variant = Variant("original", "torch", precision)
    artifact = Artifact(variant, str(imported), "none", "", "", 0)
    spec = ModelSpec("original", "The original", "", "", "torch", "fp32", 0, "base")
    engine = TorchRuntime().open_engine(LoadSpec(spec, artifact, usable_cores()))

    def compared(alone: bool) -> Fidelity:
        progress(ASKING, None)
        asked = ask(original, quick_passages, imported, alone)
        gc.collect()
        return compare(_told(asked, pairs(engine, asked, whole=True), progress), reference, precision, asked.notes)

    try:
        found = compared(alone=False)
        # Where a network's cache does not hold what its forward pass sees, generate is what its users get.
        return compared(alone=True) if found.verdict == "rejected" else found
    finally:
        engine.close()


def pairs(engine: Engine, asked: Reference, whole: bool = False) -> Iterator[Pair]:
    """Each position's logits, of the original and of what is judged.

    Args:
        engine: What is judged.
        asked: The original's answers.
        whole: Whether each prompt is read once more in one piece, and that position compared as well.
    """
    for expected in asked.expected:
        yield from _read(engine, expected)
        if whole:
            passage = expected.passage
            engine.reset(len(passage.ids))
            yield Pair(passage.kind, expected.rows[0], engine.prefill(passage.ids[: passage.prompt]))


def _told(asked: Reference, found: Iterable[Pair], progress: Progress) -> Iterator[Pair]:
    """The pairs, with progress told and padding of the original's that the export lacks cut off.

    Raises:
        Reason: The export has fewer logits than the tokenizer has ids.
    """
    total = sum(len(each.rows) + max(0, len(each.greedy) - 1) for each in asked.expected)
    for position, pair in enumerate(found):
        if position % 16 == 0:
            progress(msg("checking"), min(1.0, position / total))
        width = len(pair.export)
        if width < min(asked.tokens, len(pair.original)):
            raise Reason(
                msg(
                    "there are {logits:,} logits for a tokenizer of {tokens:,} tokens",
                    logits=width,
                    tokens=asked.tokens,
                )
            )
        yield Pair(pair.kind, pair.original[:width], pair.export)


def _read(engine: Engine, expected: Expected) -> Iterator[Pair]:
    passage = expected.passage
    kind, steps = passage.kind, passage.steps[: len(expected.rows) - 1]
    room = passage.prompt + max(len(steps), len(expected.continued))
    prompt = passage.ids[: passage.prompt]
    is_alike = engine.alike_in_parts and engine.starts_with is None
    reading = PrefixCache(engine)
    yield Pair(kind, expected.rows[0], _prompt(reading, prompt, room))
    alone: list[Logits] = []
    # The first row of the continuation is the one behind the prompt.
    for row, token in zip(expected.greedy[1:], expected.continued, strict=False):
        ours = reading.step(token)
        if is_alike:
            alone.append(_bits(ours).copy())
        yield Pair(GREEDY_KIND, row, ours)
    for _ in _in_company(reading, (*prompt, *expected.continued[: len(alone)]), len(prompt), alone, room):
        pass  # they are what they were alone
    if is_alike:
        found = _along(reading, (*prompt, *steps), len(prompt), room)
    else:
        if steps and expected.continued:
            _prompt(reading, prompt, room)
        found = map(reading.step, steps)
    for row, ours in zip(expected.rows[1:], found, strict=True):
        yield Pair(kind, row, ours)


def _along(reading: PrefixCache, ids: Sequence[int], start: int, room: int) -> Iterator[Logits]:
    """Logits behind each of ``ids`` from ``start`` on, stretch by stretch; the first tokens of each are stepped through
    before it is read in company.

    Raises:
        Reason: A token gave another bit alone.
    """
    for first, end in pairwise([*_cuts(start, len(ids)), len(ids)]):
        _prompt(reading, ids[:first], room)
        alone = [_bits(reading.step(token)).copy() for token in ids[first : min(end, first + ALONE)]]
        yield from _in_company(reading, ids[:end], first, alone, room)


def _in_company(
    reading: PrefixCache, ids: Sequence[int], start: int, alone: Sequence[Logits], room: int
) -> Iterator[Logits]:
    """Logits behind each of ``ids`` from ``start`` on, read in one go.

    Args:
        alone: The bits of the first of them, as they were stepped through.

    Raises:
        Reason: They are others in company.
    """
    if start == len(ids):
        return
    _prompt(reading, ids[:start], room)
    for place, row in enumerate(reading.rows(ids[start:], len(ids) - start)):
        if place < len(alone) and not np.array_equal(_bits(row), alone[place]):
            raise Reason(msg("token {n} of a text gives other logits alone than in company", n=start + place + 1))
        yield row


def _cuts(start: int, end: int) -> list[int]:
    """Where the stretches of a text from ``start`` to ``end`` begin: at its start, a little before each ``EDGE`` and
    before its end.
    """
    if start == end:
        return []
    edges = (edge - ALONE // 2 for edge in range(EDGE, end, EDGE))
    between = [place for place in edges if start + ALONE <= place <= end - 2 * ALONE]
    return [start, *between, *([end - ALONE] if end - ALONE > start else [])]


def _bits(row: Logits) -> Logits:
    return row.view(np.uint32)


def _prompt(reading: PrefixCache, ids: Sequence[int], room: int) -> Logits:
    """Read ``ids`` in pieces, as far as what was read before does not begin with them; logits behind the last."""
    engine = reading.engine
    kept = reading.begin(ids, room, reuse=True)
    piece = min(engine.chunk, max(1, -(-len(ids) // PIECES))) if engine.reads_in_parts(len(ids)) else len(ids)
    for start in range(kept, len(ids), piece):
        row = reading.prefill(ids[start : start + piece])
    return row
