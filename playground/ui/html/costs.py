"""What a comparison's answers cost: memory expected and measured, processor time, money on rented hardware."""

from __future__ import annotations

from collections.abc import Sequence

from playground.experiments.memory_plan import MemoryPlan
from playground.messages import Translatable, msg
from playground.records import Mode, ModelRun
from playground.results.costs import ASSUMPTION, Cost, Tier, of_run
from playground.ui.html import tables
from playground.ui.html.format import NOTHING, esc, link, megabytes, rich, seconds
from playground.ui.html.panel import Label
from playground.ui.html.provenance import answered
from playground.ui.i18n import say


def costs_html(runs: Sequence[ModelRun], labels: Sequence[Label], tiers: Sequence[Tier]) -> str:
    """The table of costs; nothing where no model answered."""
    costs = [of_run(run, tiers) for run in runs]
    if not any(answered(run) for run in runs):
        return ""
    rows: list[tuple[str, str, list[str]]] = [
        (
            msg("Expected peak"),
            msg("weights, cache and process, before the run"),
            [megabytes(c.expected_memory_mb) for c in costs],
        ),
        (msg("Measured peak"), msg("of the model's own process"), [megabytes(c.peak_memory_mb) for c in costs]),
        (msg("On disk"), msg("weights and what lies beside them"), [megabytes(c.disk_mb) for c in costs]),
        (msg("Cache"), msg("keys and values of 1,000 tokens"), [megabytes(c.cache_mb_per_1000) for c in costs]),
        (msg("CPU time"), msg("of all threads, for this answer"), [seconds(c.cpu_s_per_answer) for c in costs]),
    ]
    for place, tier in enumerate(tiers):
        on = [cost.tiers[place] for cost in costs]
        what = msg(
            "{vcpu} vCPU, {memory:g} GB, {price} an hour; for 10⁶ tokens",
            vcpu=tier.vcpu,
            memory=tier.memory_gb,
            price=money(tier.per_hour, tier),
        )
        cells = [f"{esc(money(cost.output_million, tier))}<small>{esc(_reading(cost, tier))}</small>" for cost in on]
        rows.append((tier.name, what, cells))
    return tables.table(msg("What it costs"), rows, labels) + _small_print(tiers)


def plan_html(plan: MemoryPlan, mode: Mode) -> str:
    """What a set of models is expected to take before it runs; nothing where that is unknown of all."""
    known = [model for model in plan.models if model.expected_mb is not None]
    if not known:
        return ""
    each = " · ".join(f"<code>{esc(str(model.variant))}</code> {megabytes(model.expected_mb)}" for model in known)
    told = rich(
        msg(
            "**Expected memory {total}** of the {budget} that models may take.",
            total=megabytes(plan.total_mb),
            budget=megabytes(plan.budget_mb),
        )
    )
    unknown = len(plan.models) - len(known)
    more = f" {esc(msg('Of {n} more nothing is known yet.', n=unknown))}" if unknown else ""
    advice = f" {esc(plan.advice(mode))}" if plan.tight else ""
    listed = f" {each}" if len(known) > 1 or plan.tight else ""
    return f'<p class="note{" warn" if plan.tight else ""}">{told}{listed}{more}{advice}</p>'


def _reading(cost: Cost, tier: Tier) -> Translatable:
    price = money(cost.prompt_million, tier)
    if cost.fits is False:
        return msg("read: {price}; does not fit its memory", price=price)
    return msg("read: {price}", price=price)


def _small_print(tiers: Sequence[Tier]) -> str:
    said = " ".join(
        f"{esc(tier.name)}: {link(tier.source, msg('price'))} ({esc(tier.as_of)}). {esc(tier.note)}" for tier in tiers
    )
    other = rich(msg("Other prices: edit hardware.yaml, or `playground costs --tier … --price …`"))
    return f'<p class="note">{esc(ASSUMPTION)} {said} {other}</p>'


def money(value: float | None, tier: Tier) -> str:
    """An amount with the digits that matter."""
    if value is None:
        return NOTHING
    if value == 0:
        return say(msg("free"))
    return f"{value:.3g} {tier.currency}"
