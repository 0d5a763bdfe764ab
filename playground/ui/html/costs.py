"""What a comparison's answers cost: memory expected and measured, processor time, money on rented hardware."""

from __future__ import annotations

from collections.abc import Sequence

from playground.experiments.memory_plan import MemoryPlan
from playground.records import Mode, ModelRun
from playground.results.costs import ASSUMPTION, Tier, of_run
from playground.ui.html import tables
from playground.ui.html.format import NOTHING, esc, link, megabytes, seconds
from playground.ui.html.panel import Label, answered


def costs_html(runs: Sequence[ModelRun], labels: Sequence[Label], tiers: Sequence[Tier]) -> str:
    """The table of costs; nothing where no model answered."""
    costs = [of_run(run, tiers) for run in runs]
    if not any(answered(run) for run in runs):
        return ""
    rows = [
        (
            "Expected peak",
            "weights, cache and process, before the run",
            [megabytes(c.expected_memory_mb) for c in costs],
        ),
        ("Measured peak", "of the model's own process", [megabytes(c.peak_memory_mb) for c in costs]),
        ("On disk", "weights and what lies beside them", [megabytes(c.disk_mb) for c in costs]),
        ("Cache", "keys and values of 1,000 tokens", [megabytes(c.cache_mb_per_1000) for c in costs]),
        ("CPU time", "of all threads, for this answer", [seconds(c.cpu_s_per_answer) for c in costs]),
    ]
    for place, tier in enumerate(tiers):
        on = [cost.tiers[place] for cost in costs]
        what = f"{tier.vcpu} vCPU, {tier.memory_gb:g} GB, {money(tier.per_hour, tier)} an hour; for 10⁶ tokens"
        cells = [
            f"{money(cost.output_million, tier)}<small>read: {money(cost.prompt_million, tier)}"
            f"{'; does not fit its memory' if cost.fits is False else ''}</small>"
            for cost in on
        ]
        rows.append((tier.name, what, cells))
    return tables.table("What it costs", rows, labels) + _small_print(tiers)


def plan_html(plan: MemoryPlan, mode: Mode) -> str:
    """What a set of models is expected to take before it runs; nothing where that is unknown of all."""
    known = [model for model in plan.models if model.expected_mb is not None]
    if not known:
        return ""
    each = " · ".join(f"<code>{esc(str(model.variant))}</code> {megabytes(model.expected_mb)}" for model in known)
    told = (
        f"<strong>Expected memory {megabytes(plan.total_mb)}</strong> of the {megabytes(plan.budget_mb)} that models "
        f"may take{f': {each}' if len(known) > 1 or plan.tight else ''}."
    )
    unknown = len(plan.models) - len(known)
    more = f" Of {unknown} more nothing is known yet." if unknown else ""
    advice = f" {esc(plan.advice(mode))}" if plan.tight else ""
    return f'<p class="note{" warn" if plan.tight else ""}" role="status">{told}{more}{advice}</p>'


def _small_print(tiers: Sequence[Tier]) -> str:
    said = " ".join(
        f"{esc(tier.name)}: {link(tier.source, 'price')} of {esc(tier.as_of)}. {esc(tier.note)}" for tier in tiers
    )
    return (
        f'<p class="note">{esc(ASSUMPTION)} {said} Other prices: edit hardware.yaml, or '
        "<code>playground costs --tier … --price …</code></p>"
    )


def money(value: float | None, tier: Tier) -> str:
    """An amount with the digits that matter."""
    if value is None:
        return NOTHING
    if value == 0:
        return "free"
    return f"{value:.3g} {esc(tier.currency)}"
