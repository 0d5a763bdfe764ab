"""Takes a family's tiny model all the way: source, export, check, and an answer beside transformers' own.

Everything but the process borders is the product's: ``making.make`` with all its recipes, the runtime the artifact
names, prompting and the loop. Process start-up, which costs ten seconds each, is left to other tests.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.export.check import PROBE
from playground.records import Artifact, LoadSpec, ModelSpec, Request
from playground.runtimes import create_runtime
from tests.families.bank import Bank
from tests.families.table import Family

TOKENS = 120
"""Length of the answers; prompt and answer together go well beyond a chunk of prefill and beyond every window."""


@dataclass(frozen=True)
class Proof:
    """What came of one family in one precision."""

    family: Family
    precision: str
    artifact: Artifact
    text: str
    expected: str

    @property
    def way(self) -> str:
        """The recipe, or torch where none gave a usable graph."""
        return "torch" if self.artifact.variant.runtime == "torch" else self.artifact.recipe

    @property
    def engine(self) -> str:
        """What computes: the kernels of whatever instruction set, ONNX Runtime, or torch."""
        return self.artifact.engine.split(" ")[0] or "torch"


def prove(family: Family, precision: str, models: Path, home: Path) -> Proof:
    """Prepare ``family`` as onnx-``precision`` and let it answer.

    Args:
        models: Where the tiny models lie, or are put.
        home: PLAYGROUND_HOME.
    """
    bank = Bank(models, home)
    artifact, spec = bank.artifact(family, precision), bank.spec(family, precision)
    return Proof(family, precision, artifact, answer(spec, artifact), expected(bank.model(family), family.kind))


def prompt() -> str:
    """A text of some 250 tokens."""
    return PROBE.read_text(encoding="utf-8")[:600]


def answer(spec: ModelSpec, artifact: Artifact) -> str:
    """The greedy answer of the runtime that the artifact names."""
    runtime = create_runtime(artifact.variant.runtime)
    runtime.load(LoadSpec(spec, artifact, threads=1))
    try:
        *_, last = runtime.generate(Request(prompt=prompt(), max_new_tokens=TOKENS), lambda: False)
    finally:
        runtime.close()
    assert last.run is not None
    assert last.run.timings.output_tokens == TOKENS
    assert len(last.run.text) > TOKENS / 8  # random weights in int4 repeat tokens that are half a character
    return last.run.text


@functools.cache
def expected(folder: Path, kind: str) -> str:
    """The greedy answer of ``transformers.generate``, from the model as it was published."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(prompt()).ids
    auto: Any = AutoModelForSeq2SeqLM if kind == "text2text" else AutoModelForCausalLM
    network = auto.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    given = torch.tensor([ids])
    with torch.inference_mode():
        output = network.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=TOKENS, pad_token_id=0
        )
    new = output[0, 1:] if kind == "text2text" else output[0, len(ids) :]
    return str(tokenizer.decode(new.tolist()))
