"""How close an export is to the model it was made from: the figures and the verdict, in plain numpy.

Both models read the same texts, token by token, each time with the true text before it (teacher forcing). At every
position the two next-token distributions are compared. This module sees logits only; it knows neither torch nor
ONNX Runtime, nor where the logits come from.

**What is judged, and why.** Rounding weights adds noise to logits, at all positions alike; a fault in a graph, in
positions, in a window or a cache adds more of it, or adds it somewhere. Four questions tell them apart:

1. Is the mean divergence no more than the precision explains? The first judge, for it is what sampling feels.
2. Is the error of the logits, beside how far they are spread, no more than that? To second order a divergence is half
   the variance of the error under the original's distribution, p (Kullback, "Information Theory and Statistics", 1959,
   section 2.6; KL was 1.00 to 1.1 times that on every model measured here). So it shrinks with the square of the
   logits: of a model with flat logits it is small whatever is wrong. The relative error has no scale. Its limits are
   those of the divergence on a language model's usual logits.
3. Is no kind of text much worse than the others? What goes wrong behind a window or a rewound cache goes wrong in some
   texts only, and rounding does not: the kinds' errors were within 1.5 times their median for every right export.
4. Where the export prefers another token, is the original's lead over it within the noise? Top-1 agreement counts coin
   tosses: where two tokens are as good as level, any rounding turns them, and 512 tosses of a random model agreed in
   87 % at a divergence of 0.0016 nats. A flip counts where the lead is more than four standard deviations of the
   difference of two logits' errors, sigma = sqrt(2) × the median over positions of the errors' standard deviation: the
   median, so that a fault at a few positions does not explain itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from playground.messages import NOTHING, Translatable, clauses, msg
from playground.records import Fidelity, Verdict
from playground.runtimes.generation.divergence import SLICE, Row, inner, kl_divergence
from playground.system.cpu import usable_cores

Logits = npt.NDArray[np.float32]

MIN_POSITIONS = 512
"""What a check of an export reads, where the model's context and its tokens allow it."""

LEAST_POSITIONS = 32
"""Fewer prove nothing, of whatever model."""

EXACT_MEAN_KL = 1e-6
"""Two fp32 implementations that differ only in the order of additions gave 2e-11 and 1e-8 nats; 1e-6 leaves room for
other kernels and processors. No rounding of weights comes near it: int8 costs thousands of times more."""

FAITHFUL_MEAN_KL = 0.02
FAITHFUL_TOP1 = 0.93
"""int8 with int8 activations was measured at 0.006 nats and 94 % agreement on SmolLM2-135M; perplexity then moves by
one per cent. Four times that divergence is still a difference a reader of the answers could not point at. Below 93 %
one greedy token in fourteen differs, and answers part ways within a sentence or two, coin tosses or not."""

SIGMAS = 4.0
"""Leads that noise turns over: of 512 Gaussian differences 0.02 are larger. Right exports had at most one such flip."""

OVERTURNED = 0.01
"""Share of positions at which a larger lead may be turned over."""

UNEVEN = 2.5
"""How many times the median of all kinds the relative error of one kind of text may be. Right exports: at most 1.5;
a cache rewound to the wrong place 6.4, positions that jump behind a prompt 4.7."""

KIND = 2.0
"""How many times the limit of the whole the error of one kind may be; its divergence the square of that."""

MASKED = -1e30
"""Logits below are tokens that the original rules out: there is nothing to compare."""


@dataclass(frozen=True)
class Pair:
    """One position: the kind of text it is in, and logits ``[vocab]`` of the original and of what is judged."""

    kind: str
    original: Logits
    export: Logits


@dataclass(frozen=True)
class Limit:
    """The worst that a precision may cost: nats, and root mean square error over root mean square spread of logits."""

    mean_kl: float
    error: float


WORST = {
    "fp32": Limit(mean_kl=1e-4, error=0.005),
    "fp16": Limit(mean_kl=2e-3, error=0.025),
    "int8": Limit(mean_kl=0.05, error=0.10),
    "int4": Limit(mean_kl=0.35, error=0.28),
}
"""What is worse than its precision explains is a fault in the graph, and is rejected.

fp32 rounds no weights: only kernels may differ (an approximate GELU, say). int8 measured 0.003 to 0.006 nats and an
error of 2 to 4 % on 135M and 270M parameters and on random ones of 2 to 12 layers; one weight matrix of SmolLM2's
thirty layers zeroed gave 0.14 nats and 20 %, two layers swapped 19 %, queries of one layer zeroed 18 %. int4 measured
0.006 nats on weights that came in four bits, 0.07 on others of 270M parameters, and up to 24 % on random ones; a graph
that the builder gets wrong gave 0.42 nats. That width is the price of int4: a fault as small as that one matrix can
hide in it, which is one reason why int8 is the default."""


ON_ACCELERATORS = {"bf16": Limit(mean_kl=0.05, error=0.10)}
"""The same for precisions that accelerators compute in. bf16 keeps eight bits of a number, as int8 of a weight: it has
int8's limits. They are no part of ``WORST``, which stands in the keys of exports."""


@dataclass(frozen=True)
class Seen:
    """What was seen at one position.

    Attributes:
        kl: The divergence, in nats.
        largest: The largest difference between two corresponding logits.
        spread: Variance of the original's logits.
        noise: Standard deviation of the differences.
        lead: By how much the original prefers its token to the export's; None where that is the same one.
    """

    kl: float
    largest: float
    spread: float
    noise: float
    lead: float | None


def look(reference: Logits, candidate: Logits) -> Seen:
    """Compare one position.

    Args:
        reference: Logits ``[vocab]`` of the original.
        candidate: Logits of the export; what it has beyond ``vocab`` counts where it is the most likely.
    """
    chosen, theirs_top = int(reference.argmax()), int(candidate.argmax())
    ours, theirs = aligned(reference, candidate)
    with np.errstate(invalid="ignore"):  # infinities become NaN, which is found
        spread, noise, error = _differences(ours, theirs)
        kl = kl_divergence(ours, theirs)
    lead = None
    if chosen != theirs_top:
        known = theirs_top < len(reference)
        lead = float(reference[chosen] - reference[theirs_top]) if known else float("inf")
    return Seen(kl, error, spread, float(np.sqrt(noise)), lead)


@dataclass
class Tally:
    """What was seen of one kind of text."""

    agreed: int = 0
    kl: float = 0.0
    largest: float = 0.0
    spread: float = 0.0
    noise: list[float] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        """Count one position."""
        self.noise.append(seen.noise)
        self.spread += seen.spread
        self.kl += seen.kl
        # A NaN must not be lost: max() would keep whichever came first.
        self.largest = seen.largest if np.isnan(seen.largest) else max(self.largest, seen.largest)
        if seen.lead is None:
            self.agreed += 1
        else:
            self.leads.append(seen.lead)

    @property
    def positions(self) -> int:
        return len(self.noise)

    @property
    def mean_kl(self) -> float:
        return self.kl / max(1, self.positions)

    @property
    def error(self) -> float:
        """Root mean square error of the logits, beside the root mean square of their spread; 0 where both are 0."""
        total = float(np.square(self.noise).sum())
        if self.spread == 0.0:
            return 0.0 if total == 0.0 else float("inf")
        return float(np.sqrt(total / self.spread))


def _differences(ours: Row, theirs: Row) -> tuple[float, float, float]:
    """The variance of our logits, that of the differences, and the largest difference; by slices, without a copy."""
    own, apart = _Moments(), _Moments()
    error = 0.0
    for start in range(0, len(ours), SLICE):
        part = ours[start : start + SLICE].astype(np.float64)
        wrong = theirs[start : start + SLICE] - part
        own.add(part)
        apart.add(wrong)
        error = np.maximum(error, np.abs(wrong).max())  # keeps what is not a number
    return own.variance, apart.variance, float(error)


@dataclass
class _Moments:
    """Sums over a row."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, part: npt.NDArray[np.float64]) -> None:
        self.count += len(part)
        self.total += float(part.sum())
        self.squares += inner(part, part)

    @property
    def variance(self) -> float:
        mean = self.total / self.count
        return max(0.0, self.squares / self.count - mean * mean) if np.isfinite(mean) else float("nan")


def aligned(reference: Logits, candidate: Logits) -> tuple[Row, Row]:
    """Both rows over the ids that both have and the original does not rule out."""
    width = min(len(reference), len(candidate))
    ours, theirs = reference[:width], candidate[:width]
    if ours.min() < MASKED:
        kept = ~(ours < MASKED)
        ours, theirs = ours[kept], theirs[kept]
    return ours, theirs


@dataclass(frozen=True)
class Figures:
    """All that a verdict depends on but the precision.

    Attributes:
        positions: Number of positions compared.
        top1: Share of them with the same most likely token.
        mean_kl: Mean divergence, in nats; NaN where a logit is not a number.
        error: Relative error of the logits.
        overturned: Positions where a lead was turned over that noise does not explain.
        kinds: Mean divergence and relative error of each kind of text.
    """

    positions: int
    top1: float
    mean_kl: float
    error: float = 0.0
    overturned: int = 0
    kinds: tuple[tuple[str, float, float], ...] = ()


def compare(
    pairs: Iterable[Pair], reference: Translatable, precision: str, notes: Sequence[Translatable] = ()
) -> Fidelity:
    """Judge an export.

    Args:
        pairs: The logits of each position; those of the export may be overwritten once the next pair is asked for.
        reference: What it is compared with, for a reader.
        precision: Of the export; a key of ``WORST``.
        notes: What a reader of the verdict should know about the comparison.
    """
    tallies: dict[str, Tally] = {}
    for kind, seen in _looked_at(pairs):
        tallies.setdefault(kind, Tally()).add(seen)
    whole = _sum(tallies.values())
    finite = bool(np.isfinite([whole.kl, whole.largest, whole.spread]).all())
    sigma = float(np.sqrt(2.0) * np.median(whole.noise)) if whole.noise else 0.0
    figures = Figures(
        positions=whole.positions,
        top1=whole.agreed / max(1, whole.positions),
        mean_kl=whole.mean_kl if finite else float("nan"),
        error=whole.error,
        overturned=sum(lead > SIGMAS * sigma for lead in whole.leads),
        kinds=tuple((kind, tally.mean_kl, tally.error) for kind, tally in tallies.items()),
    )
    verdict, reason = verdict_on(figures, precision)
    return Fidelity(
        reference=reference,
        positions=figures.positions,
        top1_agreement=figures.top1,
        # JSON has no NaN: a broken figure is stored as -1, and the reason says so.
        mean_kl=figures.mean_kl if finite else -1.0,
        max_logit_error=whole.largest if finite else -1.0,
        verdict=verdict,
        reason=clauses(reason, *notes),
        relative_error=figures.error if finite else -1.0,
        overturned=figures.overturned,
        kl_by_text={kind: kl for kind, kl, _ in figures.kinds} if finite else {},
    )


def _looked_at(pairs: Iterable[Pair]) -> Iterator[tuple[str, Seen]]:
    """Each position's kind of text and what was seen there, in order: by all cores, while the next is computed."""
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        waiting: deque[tuple[str, Future[Seen]]] = deque()
        for pair in pairs:
            waiting.append((pair.kind, pool.submit(look, pair.original, pair.export.copy())))
            if len(waiting) > 2 * cores:
                kind, seen = waiting.popleft()
                yield kind, seen.result()
        for kind, seen in waiting:
            yield kind, seen.result()


def judge(positions: int, top1: float, mean_kl: float, precision: str) -> tuple[Verdict, Translatable]:
    """``verdict_on`` where no more is known."""
    return verdict_on(Figures(positions, top1, mean_kl), precision)


def verdict_on(found: Figures, precision: str) -> tuple[Verdict, Translatable]:
    """The verdict and its reason, in words for a reader. A divergence that is not a number is rejected."""
    if found.positions < LEAST_POSITIONS:
        return "rejected", msg(
            "only {positions} positions could be compared, at least {needed} are needed",
            positions=found.positions,
            needed=LEAST_POSITIONS,
        )
    if not np.isfinite(found.mean_kl):
        return "rejected", msg("the export or the original gives logits that are not numbers")
    figures = msg(
        "{share:.1%} of {positions} most likely tokens agree, mean KL {kl:.2g} nats",
        share=found.top1,
        positions=found.positions,
        kl=found.mean_kl,
    )
    if fault := _fault(found, (WORST | ON_ACCELERATORS)[precision], precision):
        return "rejected", clauses(figures, fault)
    if found.mean_kl < EXACT_MEAN_KL:
        return "exact", msg("{figures}: equal but for rounding", figures=figures)
    if found.mean_kl <= FAITHFUL_MEAN_KL and found.top1 >= FAITHFUL_TOP1:
        return "faithful", msg(
            "{figures}: a token rarely differs, a long answer may part from the original's", figures=figures
        )
    return "lossy", msg("{figures}: the same model, but answers differ soon", figures=figures)


def _fault(found: Figures, worst: Limit, precision: str) -> Translatable:
    """What the precision does not explain; empty where it explains all."""
    if found.mean_kl > worst.mean_kl:
        return msg(
            "{precision} explains at most {limit:g} nats{worst}",
            precision=precision,
            limit=worst.mean_kl,
            worst=_worst_kind(found),
        )
    if found.error > worst.error:
        off = f"{found.error:.2g}"  # as a text: it may be infinite, and JSON has no such number
        return msg(
            "logits are off by {error} of their spread, {precision} explains at most {limit:g}{worst}",
            error=off,
            precision=precision,
            limit=worst.error,
            worst=_worst_kind(found),
        )
    usual = float(np.median([error for _, _, error in found.kinds])) if found.kinds else 0.0
    for kind, kl, error in found.kinds:
        if kl > worst.mean_kl * KIND**2 or error > worst.error * KIND:
            return msg(
                "in the text '{kind}' it is {kl:.2g} nats, more than {precision} explains",
                kind=kind,
                kl=kl,
                precision=precision,
            )
        # Below half of what rounding may cost, a kind that is worse than others is still as good as right.
        if error > UNEVEN * usual and error > worst.error / 2:
            times = error / usual if usual else float("inf")
            return msg(
                "in the text '{kind}' logits are off by {times} times as much as in others",
                kind=kind,
                times=str(round(times, 1)),
            )
    if found.overturned > OVERTURNED * found.positions:
        return msg("at {n} of them the original's lead was larger than what rounding turns over", n=found.overturned)
    return NOTHING


def _worst_kind(found: Figures) -> Translatable:
    if len(found.kinds) < 2:
        return NOTHING
    kind, kl, _ = max(found.kinds, key=lambda each: each[1])
    return msg(" (worst: '{kind}', {kl:.2g} nats)", kind=kind, kl=kl)


def _sum(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for each in tallies:
        whole.agreed += each.agreed
        whole.kl += each.kl
        whole.spread += each.spread
        whole.largest = each.largest if np.isnan(each.largest) else max(whole.largest, each.largest)
        whole.noise += each.noise
        whole.leads += each.leads
    return whole
