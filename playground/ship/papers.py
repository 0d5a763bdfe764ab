"""What goes with a model that is passed on: README, card, licence, notice, terms, example; in English, as the licences
are.

What a licence asks and a program can do is done; the rest is told as what is left to do. It gives no legal advice.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalog.licenses import ADVICE, Rule, rule_of
from playground.messages import NOTHING, Translatable, clauses, msg
from playground.records import Artifact, Fact, ModelFacts, ModelSpec, plain_json
from playground.ship.example import example
from playground.ship.shipment import Known, Shipment
from playground.ship.trying import Trial

APACHE = Path(__file__).with_name("licences") / "apache-2.0.txt"
README, CARD, LICENSE, NOTICE, TERMS, EXAMPLE = (
    *("README.md", "MODEL_CARD.md", "LICENSE", "NOTICE", "TERMS.md"),
    "example.py",
)
GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
"""The sentence that section 3.1 of those terms asks for, in a text file called Notice."""


@dataclass(frozen=True)
class Written:
    """The documents by name, and what the licence still asks for."""

    names: tuple[str, ...]
    left_to_do: tuple[Translatable, ...]


def write(stage: Path, shipment: Shipment, trial: Trial) -> Written:
    """Write all of them into ``stage``."""
    before = {path.name for path in stage.iterdir()}
    spec, known = shipment.spec, shipment.known
    left = licence_files(stage, shipment.spec, shipment.artifact, shipment.facts, known)
    _text(stage / EXAMPLE, example(spec, trial))
    _text(stage / CARD, paragraphs([f"# {spec.name}", known.card or str(msg("Nothing is known of this model."))]))
    _text(stage / README, readme(shipment, trial, left))
    names = sorted(path.name for path in stage.iterdir() if path.name not in before)
    return Written(tuple(names), tuple(left))


def cautions(artifact: Artifact, trial: Trial) -> tuple[Translatable, ...]:
    """What to know before relying on the folder."""
    found: list[Translatable] = list(artifact.fallbacks)
    if artifact.engine.startswith("kernels"):
        found.append(
            msg(
                "The figures were measured with the playground's own kernels, which read these very weights; "
                "onnxruntime-genai computes the same products by other code and at another speed."
            )
        )
    if not trial.agrees:
        found.append(
            msg(
                "Of the trial's answer the first {n} tokens are the playground's own, then one differs: where two "
                "tokens are nearly equally likely, two engines may choose differently.",
                n=trial.same_tokens,
            )
        )
    if not trial.reads_alike:
        found.append(
            msg("onnxruntime-genai's tokenizer splits some texts otherwise; the example uses the package tokenizers.")
        )
    if not artifact.fidelity:
        found.append(msg("It was compared with no original."))
    return tuple(found)


def readme(shipment: Shipment, trial: Trial, left: Sequence[Translatable]) -> str:
    """README.md: front matter as the Hub reads it, then what a receiver has to know."""
    spec, artifact, known = shipment.spec, shipment.artifact, shipment.known
    from_where = spec.upstream or spec.source.partition(":")[0]
    about = msg(
        "{name} for onnxruntime-genai, on a CPU. The weights are those of {origin} (revision {revision}), the "
        "graph and its rounding were made by open-model-playground, recipe {recipe}.",
        name=spec.name,
        origin=from_where,
        revision=artifact.revision,
        recipe=artifact.recipe,
    )
    packages = "onnxruntime-genai" if trial.reads_alike else "tokenizers onnxruntime-genai"
    commands = [["pip", "install", f"{packages}=={trial.version}"], ["python", EXAMPLE, _quoted(spec)]]
    run = "\n".join(f"    {' '.join(command)}" for command in commands)
    parts = [
        _front_matter(spec, known),
        f"# {spec.name} {artifact.variant.precision}",
        str(about),
        run,
        section(msg("Tried before it was shipped"), _trial_lines(trial)),
        section(msg("Fidelity"), fidelity_lines(artifact)),
        section(msg("Measured"), _measured_lines(known)),
        section(msg("To know"), [*cautions(artifact, trial), *artifact.notes]),
        section(msg("Licence and terms"), licence_lines(shipment.facts, known, left)),
        str(msg("SHA256SUMS has the checksum of every file: `sha256sum -c SHA256SUMS`. receipts.json has the rest.")),
    ]
    return paragraphs(parts)


def plain(value: Any) -> Any:
    """JSON values of all that is in a document."""
    return plain_json(value)


def _front_matter(spec: ModelSpec, known: Known) -> str:
    import yaml

    told: dict[str, Any] = {"library_name": "onnxruntime-genai", "pipeline_tag": "text-generation", "tags": ["onnx"]}
    if known.licence_id:
        told["license"] = known.licence_id
    if spec.upstream:
        told |= {"base_model": spec.upstream, "base_model_relation": "quantized"}
    return f"---\n{yaml.safe_dump(told, sort_keys=True)}---"


def _trial_lines(trial: Trial) -> list[Translatable]:
    lines = [
        msg(
            "onnxruntime-genai {version} loaded this folder in {load_s:.1f} s and answered a prompt of {n} tokens.",
            version=trial.version,
            load_s=trial.load_s,
            n=len(trial.prompt_ids),
        ),
        msg(
            "{same} of {n} greedy tokens are the playground's own, from the first on.",
            same=trial.same_tokens,
            n=min(len(trial.tokens), trial.our_tokens),
        ),
    ]
    if trial.decode_tok_s and trial.ttft_s:
        lines.append(
            msg(
                "It decoded {rate:.1f} tokens/s, first token after {ttft_s:.2f} s, peak memory of the process "
                "{mb:,.0f} MB: one run, no measurement.",
                rate=trial.decode_tok_s,
                ttft_s=trial.ttft_s,
                mb=trial.peak_memory_mb,
            )
        )
    if trial.adapted:
        names = list(trial.adapted)
        lines.append(msg("genai_config.json was brought in line with what was measured: {names}.", names=names))
    return lines


def fidelity_lines(artifact: Artifact) -> list[Translatable]:
    """What the check found, for a reader."""
    found = artifact.fidelity
    if found is None:
        return [msg("It was compared with no original.")]
    return [
        msg("{verdict}, compared with {reference}.", verdict=found.verdict, reference=found.reference),
        msg(
            "{positions:,} positions: the same most likely token at {share:.1%}, mean KL divergence {kl:.4f} nats.",
            positions=found.positions,
            share=found.top1_agreement,
            kl=found.mean_kl,
        ),
        msg("Artifact sha256 {sha256}.", sha256=artifact.sha256),
    ]


def _measured_lines(known: Known) -> list[Translatable]:
    if not known.lines:
        return [msg("Nothing was measured on the machine that shipped it.")]
    lines = [msg("{figure}: {value} ({how})", figure=what, value=value, how=how) for what, value, how in known.lines]
    return [*lines, *known.notes]


def licence_lines(facts: ModelFacts, known: Known, left: Sequence[Translatable]) -> list[Translatable]:
    """The licence, its terms, and what they ask of whoever passes the files on."""
    value, url = str(facts.license.value or "") or known.licence_id, facts.license.url
    return [
        msg("Licence: {licence} {url}", licence=value or msg("not known"), url=url),
        *([msg("{text} See TERMS.md.", text=known.terms.text)] if known.terms else []),
        *(msg("Left to whoever passes this folder on: {task}", task=task) for task in left),
        ADVICE,
    ]


def licence_files(
    stage: Path, spec: ModelSpec, artifact: Artifact, facts: ModelFacts, known: Known
) -> list[Translatable]:
    """Write LICENSE, NOTICE and TERMS.md into ``stage``; what is left to do."""
    taken = list(known.legal)
    for name, path in known.legal.items():
        shutil.copyfile(path, stage / name)
    rule = rule_of(known.licence_id)
    left: list[Translatable] = []
    address = facts.license.url or (rule.source if rule else "")
    if not any(name.upper().startswith(("LICENSE", "LICENCE")) for name in taken):
        if known.licence_id.lower() == "apache-2.0":
            shutil.copyfile(APACHE, stage / LICENSE)
        elif address:
            left.append(
                msg("The weights came without the text of their licence: put a copy of {url} here.", url=address)
            )
        else:
            left.append(msg("The licence of these weights is not known: find it before you pass them on."))
    _text(stage / _free(NOTICE, taken), _notice(spec, artifact, known, rule))
    terms = _terms(facts, known, rule)
    if terms:
        _text(stage / TERMS, terms)
    if rule and "gemma" in rule.names:
        left.append(
            msg(
                "Section 3.1 of the Gemma Terms of Use: make the use restrictions of section 3.2 a binding part of "
                "whatever agreement the folder is passed on under, and tell its receivers that they hold."
            )
        )
    elif rule:
        left.append(msg("{licence} {asks}.", licence=rule.title, asks=rule.says))
    left += [msg("{caution}", caution=fact.value) for fact in _licence_cautions(facts)]
    return left


def _notice(spec: ModelSpec, artifact: Artifact, known: Known, rule: Rule | None) -> str:
    changed = msg(
        "The model's files were changed: open-model-playground exported the weights of {origin} to an ONNX graph in "
        "{precision}. No file here is the developer's own release.",
        origin=spec.upstream or spec.name,
        precision=artifact.variant.precision,
    )
    needed = GEMMA_NOTICE if rule and "gemma" in rule.names else known.terms.text if known.terms else ""
    return paragraphs([spec.name, needed, str(changed)])


def _terms(facts: ModelFacts, known: Known, rule: Rule | None) -> str:
    """The conditions that hold for whoever has the folder; empty where no more is known than the licence itself."""
    found = _licence_cautions(facts)
    if not (known.terms or rule or found):
        return ""
    parts: list[Translatable] = []
    if known.terms:
        addresses = [url for url in (known.terms.url, known.terms.policy_url) if url]
        parts += [msg("{text}", text=known.terms.text), msg("{addresses}", addresses=clauses(*map(str, addresses)))]
    if rule and "gemma" in rule.names:
        parts.append(
            msg(
                "Whoever receives this folder is bound by the use restrictions of section 3.2 of the Gemma Terms of "
                "Use: no use that the Gemma Prohibited Use Policy restricts, none against applicable law. Whoever "
                "passes it on passes these restrictions on (section 3.1)."
            )
        )
    elif rule:
        parts.append(msg("{licence} {asks}: {url}", licence=rule.title, asks=rule.says, url=rule.source))
    if note := facts.license.note:
        parts.append(msg("{note}", note=note))
    parts += [msg("{caution} {url}", caution=fact.value, url=fact.url) for fact in found]
    return paragraphs([f"# {msg('Terms')}", *map(str, parts), str(ADVICE)])


def _licence_cautions(facts: ModelFacts) -> list[Fact]:
    return [fact for key, fact in facts.extra.items() if key.startswith("licence_caution")]


def _free(name: str, taken: Sequence[str]) -> str:
    """A name that none of the files that came with the weights has."""
    return f"{name}.playground" if name in taken else name


def _quoted(spec: ModelSpec) -> str:
    return '"What is the capital of Japan?"' if spec.kind == "chat" else '"The capital of France is"'


def section(title: Translatable, lines: Sequence[Translatable]) -> str:
    """A heading and a list, as markdown; empty without lines."""
    if not lines:
        return ""
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in dict.fromkeys(map(str, lines)))


def paragraphs(parts: Sequence[str]) -> str:
    """Those that are not empty, with lines between them."""
    return "\n\n".join(part for part in parts if part and part != NOTHING) + "\n"


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
