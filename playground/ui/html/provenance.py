"""Which way an answer came to be: runtime, precision, export and how close that is to the original. Knows runs.

The line is folded; what is not as it was asked for, and warnings, stand open.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.messages import Translatable, msg
from playground.records import Fidelity, ModelRun, Variant
from playground.ui.html.format import OWN_KERNELS, RECIPES, RUNTIMES, VERDICTS, esc, percent
from playground.ui.html.panel_parts import length
from playground.ui.i18n import say


def answered(run: ModelRun) -> bool:
    """Whether any answer came, whole or not."""
    return run.timings.output_tokens is not None


def way_words(run: ModelRun) -> str:
    """Which way a run went: ``ONNX Runtime · int8 · fused export``."""
    runtime = OWN_KERNELS if (run.engine or "").startswith("kernels") else RUNTIMES.get(run.runtime, run.runtime)
    parts = [runtime, "" if run.precision == "none" else run.precision]
    return " · ".join(say(part) for part in [*parts, RECIPES.get(run.recipe or "", "")] if part)


def fidelity_words(fidelity: Fidelity) -> Translatable:
    """The verdict and the figures it rests on."""
    return msg(
        "{verdict}: {share} same top token as {reference}, mean KL {mean_kl:.2g} over {positions:,} positions",
        verdict=VERDICTS.get(fidelity.verdict, fidelity.verdict),
        share=percent(fidelity.top1_agreement),
        reference=fidelity.reference,
        mean_kl=fidelity.mean_kl,
        positions=fidelity.positions,
    )


def provenance_html(run: ModelRun, asked: Variant) -> str:
    """Which way it went, in a line that unfolds; what was not as asked and warnings stand open."""
    rows = [(msg("Ran on") if answered(run) else msg("Was to run on"), esc(way_words(run)))]
    if run.fidelity:
        rows.append((msg("Export is"), esc(fidelity_words(run.fidelity))))
    if run.text:
        rows.append((msg("Length"), length(run.text)))
    open_rows = [(msg("Note"), esc(warning)) for warning in run.warnings]
    if asked.runtime and (run.runtime, run.precision) != (asked.runtime, asked.precision):
        open_rows.insert(0, (msg("Asked for"), esc(f"{asked.runtime}-{asked.precision}")))
    rows += [(msg("Not used"), esc(reason)) for reason in run.fallbacks]
    summary = " · ".join(
        filter(None, [esc(way_words(run)), esc(VERDICTS.get(run.fidelity.verdict, "")) if run.fidelity else ""])
    )
    return (
        (f'<dl class="way">{_cells(open_rows)}</dl>' if open_rows else "")
        + f'<details class="provenance" data-keep="provenance"><summary>{summary}</summary>'
        + f'<dl class="way">{_cells(rows)}</dl></details>'
    )


def _cells(rows: Sequence[tuple[Translatable, str]]) -> str:
    return "".join(f"<dt>{esc(name)}</dt><dd>{value}</dd>" for name, value in rows)
