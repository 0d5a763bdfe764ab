"""What follows from a licence, and where a model's licence and its base's do not go together.

A table of rules, each with the text it was read in. What it finds are cautions for a reader, not legal advice: it
knows licence ids, names of repositories and of data sets, and nothing about who uses a model for what.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from playground.messages import Translatable, msg
from playground.records import Fact

ADVICE = msg("A caution from a table of rules, not legal advice: read the licence.")
_LLAMA2 = "https://github.com/meta-llama/llama/blob/689c7f261b9c5514636ecc3c5fefefcbb3e6eed7/LICENSE"


@dataclass(frozen=True)
class Rule:
    """A licence that goes with everything derived from the model.

    Attributes:
        names: Licence ids that mean it.
        says: What it asks of a derivative, to follow "…'s licence (X)".
        source: Where that stands.
        commercial: Whether it allows commercial use at all.
    """

    names: tuple[str, ...]
    title: Translatable
    says: Translatable
    source: str
    commercial: bool = True


RULES = (
    Rule(
        ("llama2",),
        msg("the Llama 2 Community License"),
        msg(
            "asks that a copy of it go with every derivative (section 1.b), and keeps its own limits on use: 700 "
            "million monthly users, an acceptable-use policy, no training of other language models"
        ),
        _LLAMA2,
    ),
    Rule(
        ("llama3", "llama3.1", "llama3.2", "llama3.3"),
        msg("a Llama 3 Community License"),
        msg(
            "asks that a copy of it, “Built with Llama” and a name that begins with Llama go with every derivative "
            "(section 1.b)"
        ),
        "https://www.llama.com/llama3_2/license/",
    ),
    Rule(
        ("gemma",),
        msg("the Gemma Terms of Use"),
        msg("ask that their use restrictions and a copy go with every model derivative (section 3.1)"),
        "https://ai.google.dev/gemma/terms",
    ),
    Rule(
        ("opt", "opt-175b"),
        msg("the OPT licence"),
        msg("allows non-commercial research use only"),
        "https://github.com/facebookresearch/metaseq/blob/main/projects/OPT/MODEL_LICENSE.md",
        commercial=False,
    ),
    Rule(
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
        msg("a Creative Commons NonCommercial licence"),
        msg("allows no use for commercial advantage or monetary compensation"),
        "https://creativecommons.org/licenses/by-nc/4.0/legalcode.en",
        commercial=False,
    ),
)

REPOSITORIES = (
    ("meta-llama/llama-2-", "llama2"),
    ("meta-llama/meta-llama-3-", "llama3"),
    ("meta-llama/llama-3.1-", "llama3.1"),
    ("meta-llama/llama-3.2-", "llama3.2"),
    ("meta-llama/llama-3.3-", "llama3.3"),
    ("google/gemma-2b", "gemma"),
    ("google/gemma-7b", "gemma"),
    ("google/gemma-2-", "gemma"),
    ("google/gemma-3-", "gemma"),
    ("facebook/opt-", "opt"),
)
"""Repositories, by how their names begin, whose licence holds for what was made of them even if no card says so."""

DATASETS = {
    "tatsu-lab/alpaca": "https://huggingface.co/datasets/tatsu-lab/alpaca",
    "vicgalle/alpaca-gpt4": "https://huggingface.co/datasets/vicgalle/alpaca-gpt4",
    "HuggingFaceH4/no_robots": "https://huggingface.co/datasets/HuggingFaceH4/no_robots",
}
"""Data sets whose own card gives CC BY-NC 4.0."""

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc-by-4.0", "cc0-1.0", "unlicense")


def license_of(repo: str, stated: str = "") -> str:
    """The licence id of a repository: what is stated, or what its name tells."""
    if stated and stated not in ("other", "unknown"):
        return stated.lower()
    return next((license for begin, license in REPOSITORIES if repo.lower().startswith(begin)), stated.lower())


def cautions(stated: str, bases: Iterable[tuple[str, str]], datasets: Sequence[str] = ()) -> list[Fact]:
    """What a reader should know before trusting a model's licence tag.

    Args:
        stated: The model's own licence id, as its card gives it; empty where unknown.
        bases: Models it descends from, nearest first: repository and licence id (empty where unknown).
        datasets: Names of what it was trained on.
    """
    found = []
    told: set[Rule] = set()
    for repo, licence in bases:
        rule = rule_of(license_of(repo, licence))
        if rule is None or rule in told or rule is rule_of(stated):
            continue
        told.add(rule)
        named = {"repo": repo, "licence": rule.title, "asks": rule.says}
        if not stated:
            words = msg("No licence is stated; it descends from {repo}, under {licence}, which {asks}.", **named)
        elif not rule.commercial or stated in PERMISSIVE:
            words = msg(
                "The card says {stated}, but it descends from {repo}, under {licence}, which {asks}.",
                stated=stated,
                **named,
            )
        else:
            words = msg(
                "It descends from {repo}, under {licence}, which {asks}; {stated} is another licence.",
                stated=stated,
                **named,
            )
        found.append(_fact(words, rule.source))
    own = rule_of(stated)
    if own is None or own.commercial:
        for name, address in DATASETS.items():
            if any(name.lower() in dataset.lower().split() for dataset in datasets):
                words = msg("It was trained on {dataset}, which is licensed for non-commercial use.", dataset=name)
                found.append(_fact(words, address))
    return found


def commercial_use(licence: str) -> tuple[str, str]:
    """Whether a licence, known by its id alone, allows commercial use: yes, conditional, no or unknown; and its text.

    For a model that nobody researched: a licence that is in no table is unknown, never allowed.
    """
    rule = rule_of(licence)
    if rule is not None:
        return ("conditional" if rule.commercial else "no"), rule.source
    return ("yes" if licence.lower() in PERMISSIVE else "unknown"), ""


def forbids_commercial_use(caution: Fact) -> bool:
    """Whether what a caution is about is for non-commercial use only."""
    return caution.url in {*DATASETS.values(), *(rule.source for rule in RULES if not rule.commercial)}


def rule_of(licence: str) -> Rule | None:
    """What a licence, known by its id, asks of everything derived from the model; None where no rule is known."""
    return next((rule for rule in RULES if licence.lower() in rule.names), None)


def _fact(words: Translatable, address: str) -> Fact:
    return Fact(words, msg("The licence text linked here, applied by rule"), address, status="catalogue", note=ADVICE)
