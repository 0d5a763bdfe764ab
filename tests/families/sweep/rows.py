"""What came of one architecture in one precision, and which outcome that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tests.families.sweep.judge import CLOSE, Expected

Outcome = Literal["right", "tie", "differs", "wrong", "refused", "crash", "not judged"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

ROUNDED_KL = 0.2
"""Nats, on average along transformers' own answer: what rounding weights explains in such small networks."""

CONTRADICTION = "transformers contradicts itself: generate, and all tokens at once, choose others"
GOOD = ("right", "tie", "differs")
FAULTS = ("wrong", "refused", "crash")


@dataclass
class Row:
    """One architecture in one precision.

    Attributes:
        way: The recipe of the graph, or torch.
        engine: What computes it; ``note`` says why not the kernels.
        reason: Why it is refused, crashed, was not judged; the first difference where it is wrong.
        answers: What was compared, by the name of the request.
        facts: Of the network.
    """

    listed: str
    name: str
    precision: str
    outcome: Outcome
    reason: str = ""
    way: str = ""
    engine: str = ""
    note: str = ""
    stage: str = ""
    kind: str = ""
    judge: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.listed, self.name, self.precision

    def last(self, variants: Sequence[str]) -> bool:
        """Whether nothing comes behind this row where ``variants`` are asked for in their order."""
        return self.precision == variants[-1] or self.outcome not in GOOD

    def to_line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def read(path: Path) -> list[Row]:
    """The newest row of each architecture and precision."""
    if not path.exists():
        return []
    known = {each.name for each in fields(Row)}
    found: dict[tuple[str, str, str], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = Row(**{key: value for key, value in json.loads(line).items() if key in known})
        found.pop(row.key, None)
        found[row.key] = row
    return list(found.values())


def compared(got: Sequence[int], text: str, prompt: Sequence[int], expected: Expected) -> dict[str, Any]:
    """One answer beside the expected one.

    Returns:
        ``equal`` and ``text_equal``; where the tokens differ also ``at``, the ``lead`` of the expected token there,
        and both answers.
    """
    facts: dict[str, Any] = {
        "equal": list(got) == expected.new,
        "text_equal": text == expected.text,
        "prompt_equal": list(prompt) == expected.ids,
        "distinct": len(set(expected.new)),
        "consistent": expected.consistent,
    }
    if not facts["equal"]:
        pairs = zip(got, expected.new, strict=False)
        at = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        at = min(len(got), len(expected.new)) if at is None else at
        lead = expected.leads[at] if at < len(expected.leads) else None
        facts |= {"at": at, "lead": lead, "got": list(got), "want": expected.new}
    return facts


def judged(answers: dict[str, dict[str, Any]], rounded: bool) -> tuple[Outcome, str]:
    """The outcome of these answers.

    Args:
        answers: From ``compared``, with ``kl`` where divergence along the expected answer was measured.
        rounded: Whether what computed has rounded weights, so that other tokens than the original's are no fault.
    """
    differing = {name: facts for name, facts in answers.items() if not facts["equal"]}
    wrong_text = [name for name, facts in answers.items() if facts["equal"] and not facts["text_equal"]]
    other_prompt = [name for name, facts in answers.items() if not facts["prompt_equal"]]
    if other_prompt:
        return "wrong", f"another prompt than transformers' tokenizer makes ({', '.join(other_prompt)})"
    if not differing:
        if wrong_text:
            return "wrong", f"the right tokens, another text ({', '.join(wrong_text)})"
        return "right", ""
    first, facts = next(iter(differing.items()))
    where = f"{first}: token {facts['at']} differs"
    if all(one["lead"] is not None and one["lead"] < CLOSE for one in differing.values()):
        return "tie", where
    if rounded and all(one.get("kl") is not None and one["kl"] < ROUNDED_KL for one in differing.values()):
        return "differs", where
    if all(one["consistent"] is False for one in differing.values()):
        return "not judged", f"{CONTRADICTION}; {where}"
    return "wrong", where
