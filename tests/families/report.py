"""docs/families.md: written from proofs, and read back by the test that compares it with what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.families.table import FAMILIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
PRECISIONS = ("fp32", "int8", "int4")
COLUMNS = (
    "family",
    "as in",
    "proves",
    "asked for",
    "served by",
    "computed by",
    "verdict",
    "top-1",
    "mean KL",
    "max Δlogit",
    "answer",
)

HEAD = """# Families

Written by `python -m tests.families`. Each row is a network of the family's real class with two layers of random
weights, taken through source, import, export, fidelity check and generation. What is proven is the way of an
architecture, not the quality of a published model: random weights feel rounding more than trained ones, so the figures
for int8 and int4 are pessimistic. Errors are against transformers in fp32 on the original files, over 515 positions of
four texts ([measurement.md](measurement.md)), or 49 where torch serves; sliding windows are 96 tokens wide. *Answer*
says whether a greedy answer of 120 tokens to a prompt of some 250 equals that of `transformers.generate`.

*Served by* is the first of prebuilt, fused, dynamo, optimum and torch that could be made and was faithful enough;
*computed by* says whether the playground's kernels run that graph (they are for rounded weights) or ONNX Runtime. The
reasons against what would have come before stand below the table, as the app shows them.
"""


WHY_NOT = ("## Why not the playground's kernels", "")


@dataclass(frozen=True)
class Row:
    family: str
    precision: str
    way: str
    engine: str
    verdict: str


def page(models: Path, home: Path, note: Callable[[str], None]) -> str:
    """Prove every family in every precision and write it up."""
    from tests.families.proof import prove

    rows, reasons = [], []
    notes: dict[str, list[str]] = {}
    for family in FAMILIES:
        for precision in PRECISIONS:
            proof = prove(family, precision, models, home)
            fidelity = proof.artifact.fidelity
            figures = (
                (fidelity.verdict, f"{fidelity.top1_agreement:.1%}", f"{fidelity.mean_kl:.1e}")
                if fidelity
                else ("original", "–", "–")
            )
            error = f"{fidelity.max_logit_error:.1e}" if fidelity else "–"
            same = "equal" if proof.text == proof.expected else "differs"
            cells = (
                family.name,
                family.models,
                family.proves,
                precision,
                proof.way,
                proof.engine,
                *figures,
                error,
                same,
            )
            rows.append("| " + " | ".join(cells) + " |")
            reasons += [f"- {family.name} {precision}: {line}" for line in proof.artifact.fallbacks]
            if proof.artifact.engine_note:
                notes.setdefault(proof.artifact.engine_note, []).append(f"{family.name} {precision}")
            note(rows[-1])
    why_not = [f"- {note}: {', '.join(names)}" for note, names in notes.items()]
    head = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    return "\n".join(
        [HEAD, _tools(), "", *head, *rows, "", "## Why not the way before", "", *reasons, "", *WHY_NOT, *why_not, ""]
    )


def read_rows() -> Iterator[Row]:
    """What the page says."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COLUMNS) and cells[3] in PRECISIONS:
            yield Row(cells[0], cells[3], cells[4], cells[5], cells[6])


def _tools() -> str:
    from playground.export.recipes.overlay import pins

    ours = [f"{name} {version(name)}" for name in ("transformers", "onnxruntime", "onnxruntime-genai", "torch")]
    theirs = [f"{name} {pins()[name]}" for name in ("optimum-onnx", "transformers")]
    return f"Versions: {', '.join(ours)}; in the overlay {', '.join(theirs)}."
