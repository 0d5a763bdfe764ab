"""How close an export is to the model it was made from: the figures and the verdict, in plain numpy.

Both models read the same text, token by token, each time with the true text before it (teacher forcing). At every
position the two next-token distributions are compared. This module sees logits only; it knows neither torch nor
ONNX Runtime, nor where the logits come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from playground.records import Fidelity, Verdict

Logits = npt.NDArray[np.float32]

MIN_POSITIONS = 512
"""Fewer positions say little: at 512 the standard error of a 96 % agreement is under one point."""

EXACT_MEAN_KL = 1e-6
"""Two fp32 implementations that differ only in the order of additions gave 2e-11 and 1e-8 nats; 1e-6 leaves room for
other kernels and processors. No rounding of weights comes near it: int8 costs thousands of times more."""

FAITHFUL_MEAN_KL = 0.02
FAITHFUL_TOP1 = 0.93
"""int8 with int8 activations was measured at 0.005 nats and 95 % agreement on SmolLM2-135M; perplexity then moves by
one per cent. Four times that divergence is still a difference a reader of the answers could not point at. Below 93 %
one greedy token in fourteen differs, and answers part ways within a sentence or two."""


@dataclass(frozen=True)
class Limit:
    """The worst that a precision may cost."""

    mean_kl: float
    top1: float


WORST = {
    "fp32": Limit(mean_kl=1e-4, top1=0.99),
    "fp16": Limit(mean_kl=2e-3, top1=0.97),
    "int8": Limit(mean_kl=0.05, top1=0.90),
    "int4": Limit(mean_kl=0.35, top1=0.55),
}
"""What is worse than its precision explains is a fault in the graph, and is rejected.

fp32 rounds no weights: only kernels may differ (an approximate GELU, say). int8 measured 0.003 to 0.005 nats and 95 %
to 96 % on 135M and 270M parameters, larger models lose less; one weight matrix of thirty layers zeroed gave 0.13 nats
and 81 %. int4 measured 0.02 nats on weights that came in four bits, 0.07 on others of 270M parameters and up to 0.2 on
random ones of a few layers; a graph that the builder gets wrong gave 0.42. That width is the price of int4: a fault as
small as that one matrix can hide in it, which is one reason why int8 is the default."""


@dataclass
class Tally:
    """Running sums over positions, so that no more than one pair of logit rows need be in memory."""

    positions: int = 0
    agreed: int = 0
    kl: float = 0.0
    max_error: float = 0.0

    def add(self, reference: Logits, candidate: Logits) -> None:
        """Compare one position.

        Args:
            reference: Logits ``[vocab]`` of the original.
            candidate: Logits ``[vocab]`` of the export.
        """
        ours, theirs = reference.astype(np.float64), candidate.astype(np.float64)
        self.positions += 1
        self.agreed += int(ours.argmax() == theirs.argmax())
        self.kl += kl_divergence(ours, theirs)
        error = float(np.abs(ours - theirs).max())
        # A NaN must not be lost: max() would keep whichever came first.
        self.max_error = error if np.isnan(error) else max(self.max_error, error)


def kl_divergence(reference: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> float:
    """KL(reference ‖ candidate) of two rows of logits, in nats; NaN if the candidate holds what is not a number.

    Kullback and Leibler, "On Information and Sufficiency", 1951, eq. 2.4, written with both softmaxes inside so that a
    row of 262,144 logits takes two exponentials an entry. Rounding can leave a value a hair below zero for equal rows;
    a divergence is never negative, so it is cut there.
    """
    if not np.isfinite(candidate).all():
        return float("nan")
    a, b = reference - reference.max(), candidate - candidate.max()
    weights = np.exp(a)
    total = weights.sum()
    gap = np.dot(weights, a - b) / total - np.log(total) + np.log(np.exp(b).sum())
    return max(0.0, float(gap))


def compare(pairs: Iterable[tuple[Logits, Logits]], reference: str, precision: str) -> Fidelity:
    """Judge an export.

    Args:
        pairs: For each position the logits ``[vocab]`` of the original and of the export.
        reference: What the original ran on, e.g. ``torch-fp32``.
        precision: Of the export; a key of ``WORST``.
    """
    tally = Tally()
    for original, export in pairs:
        tally.add(original, export)
    count = max(1, tally.positions)
    top1, mean_kl = tally.agreed / count, tally.kl / count
    finite = bool(np.isfinite([mean_kl, tally.max_error]).all())
    verdict, reason = judge(tally.positions, top1, mean_kl if finite else float("nan"), precision)
    return Fidelity(
        reference=reference,
        positions=tally.positions,
        top1_agreement=top1,
        # JSON has no NaN: a broken figure is stored as -1, and the reason says so.
        mean_kl=mean_kl if finite else -1.0,
        max_logit_error=tally.max_error if finite else -1.0,
        verdict=verdict,
        reason=reason,
    )


def judge(positions: int, top1: float, mean_kl: float, precision: str) -> tuple[Verdict, str]:
    """The verdict and its reason, in words for a reader. A divergence that is not a number is rejected."""
    figures = f"{top1:.1%} of {positions} most likely tokens agree, mean KL {mean_kl:.2g} nats"
    worst = WORST[precision]
    if positions < MIN_POSITIONS:
        return "rejected", f"only {positions} positions were compared, {MIN_POSITIONS} are needed"
    if not np.isfinite(mean_kl):
        return "rejected", "the export gives logits that are not numbers"
    if mean_kl > worst.mean_kl or top1 < worst.top1:
        limits = f"{precision} explains at most {worst.mean_kl:g} nats and at least {worst.top1:.0%}"
        return "rejected", f"{figures}; {limits}"
    if mean_kl < EXACT_MEAN_KL:
        return "exact", f"{figures}: equal but for rounding"
    if mean_kl <= FAITHFUL_MEAN_KL and top1 >= FAITHFUL_TOP1:
        return "faithful", f"{figures}: answers rarely differ"
    return "lossy", f"{figures}: the same model, but answers differ soon"
