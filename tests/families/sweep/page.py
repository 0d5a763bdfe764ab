"""The outcomes in words: lines for the terminal, groups for docs/families.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from tests.families.sweep.names import LISTS, Architecture
from tests.families.sweep.rows import OUTCOMES, Row

START, END = "<!-- the sweep -->", "<!-- /the sweep -->"

HEAD = """## Every architecture that transformers lists

Written by `python -m tests.families.sweep --write FILE.jsonl` from the rows of `python -m tests.families.sweep`. Each
architecture of three lists of transformers (causal, sequence to sequence, image and text) is a tiny network of its real
class with random weights, on disk as it would be published, and goes through catalogue, import, recipes, check and the
runtime that the artifact names, in that precision of ONNX. Four greedy answers are compared, token by token, with those
of transformers' `generate` on the same files: to a short prompt; to one of some 300 tokens; to another with the same
start, behind an answer that was stopped; and to the long one once more, with reuse. All but the first are kept from
repeating themselves by a penalty, so that each token is a choice of its own. Models that read images are given text
alone. Rounded weights are asked for where fp32 was right.

- **right**: the same tokens and the same text. **tie**: another token where the two likeliest were nearer than 0.002.
- **differs**: weights were rounded and other tokens were chosen, at less than 0.2 nats along the original's answer.
- **wrong**, **crash**: faults. **refused**: nothing was answered, and a sentence said why.
- **not judged**: `generate` itself can't say what is right; the reason stands below.
"""


def line(row: Row) -> str:
    """One row for the terminal."""
    same = "/".join("=" if facts["equal"] else f"≠{facts['at']}" for facts in row.answers.values())
    cells = (row.listed, row.name, row.precision, row.outcome, row.way, row.engine, same, f"{row.seconds:g} s")
    return " ".join(cell for cell in (*cells, row.reason) if cell)


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """Rows by precision, outcome, way and engine, in the order of ``OUTCOMES``."""
    found: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.precision, row.outcome, row.way, row.engine].append(row)
    order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
    return dict(sorted(found.items(), key=lambda group: (group[0][0], order[group[1][0].outcome], group[0][2:])))


def show(rows: Sequence[Row], to: TextIO) -> None:
    """The groups, one a line."""
    for (precision, outcome, way, engine), members in groups(rows).items():
        parts = (f"{precision}: {len(members)} {outcome}", way, engine)
        print(f"{' '.join(part for part in parts if part)}: {' '.join(row.name for row in members)}", file=to)


def section(rows: Sequence[Row]) -> str:
    """All that docs/families.md says of the sweep, between its marks."""
    precisions = list(dict.fromkeys(row.precision for row in rows))
    parts = [START, HEAD, *_counts(rows, precisions)]
    for listed in LISTS:
        for precision in precisions:
            members = [row for row in rows if (row.listed, row.precision) == (listed, precision)]
            if members:
                parts += ["", f"### {titled(listed)}, {precision}", "", *_grouped(members)]
    parts += _reasons(rows)
    return "\n".join([*parts, END, ""])


def put(page: str, part: str) -> str:
    """``page`` with this section in place of the one that it had, or behind everything."""
    head, found, rest = page.partition(START)
    if not found:
        return page.rstrip("\n") + "\n\n" + part
    return head + part + rest.partition(END)[2].lstrip("\n")


def kept(page: str) -> str:
    """The section that a page has, "" if none."""
    _, found, rest = page.partition(START)
    return f"{START}{rest.partition(END)[0]}{END}\n" if found else ""


def named(page: str) -> dict[tuple[str, str], list[str]]:
    """List (as titled) and precision → the names in their groups, as ``section`` wrote them."""
    found: dict[tuple[str, str], list[str]] = {}
    names: list[str] | None = None
    for text in kept(page).splitlines():
        if text.startswith("### "):
            listed, comma, precision = text.removeprefix("### ").rpartition(", ")
            names = found.setdefault((listed, precision), []) if comma else None
        elif names is not None and text.startswith("- "):
            names += text.rpartition(": ")[2].split(", ")
    return found


def write(rows: Sequence[Row], path: Path) -> None:
    """Put the section into the page at ``path``. Shapes beyond the lists (``~``) have tests of their own."""
    listed = [row for row in rows if "~" not in row.name]
    path.write_text(put(path.read_text(encoding="utf-8"), section(listed)), encoding="utf-8")


def titled(listed: str) -> str:
    return {"causal": "Causal", "seq2seq": "Sequence to sequence", "image-text": "Image and text"}[listed]


def _counts(rows: Sequence[Row], precisions: Sequence[str]) -> list[str]:
    lines = ["| list | asked for | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for listed in LISTS:
        for precision in precisions:
            outcomes = [row.outcome for row in rows if (row.listed, row.precision) == (listed, precision)]
            if outcomes:
                cells = (str(outcomes.count(outcome) or "–") for outcome in OUTCOMES)
                lines.append(f"| {titled(listed)} | {precision} | " + " | ".join(cells) + " |")
    return lines


def _grouped(rows: Sequence[Row]) -> list[str]:
    lines = []
    for (_, outcome, way, engine), members in groups(rows).items():
        served = f", by {way} ({engine})" if way and way != engine else f", by {way}" if way else ""
        lines.append(f"- {outcome}{served}, {len(members)}: {', '.join(sorted(row.name for row in members))}")
    return lines


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Each sentence once, with everything it was said of."""
    lines: list[str] = []
    for outcome in ("wrong", "crash", "refused", "not judged"):
        said: dict[str, list[str]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row.name):
            if row.outcome == outcome:
                folder = Architecture(row.listed, row.name, ()).folder  # type: ignore[arg-type]
                sentence = " ".join(row.reason.replace(folder, "NAME").split())
                said[sentence].append(f"{row.name} ({titled(row.listed)}, {row.precision})")
        if said:
            lines += ["", f"### Why {outcome}", ""]
            lines += [f"- {', '.join(names)}: {sentence}" for sentence, names in said.items()]
    return lines
