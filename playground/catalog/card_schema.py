"""The shape of catalog.yaml: an entry, and its ``card`` block, which is what was researched about a model.

The keys of a card are those of the research files the facts come from, so that a researched model moves in as it
stands. Every key is optional: what is not written is unknown. ``cards.py`` says what the keys mean to a reader; this
module only names them. It loads pydantic, see ``config/schema.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from playground.config.schema import Amount, Block, Count, Text, Url, mistake
from playground.errors import ConfigError
from playground.messages import msg

Status = Literal["yes", "partial", "no", "unknown"]
Permission = Literal["yes", "no", "conditional", "unknown"]


def _scalar(value: Any) -> Any:
    if not isinstance(value, (str, int, float)) or value == "":
        raise mistake(
            lambda place: ConfigError(
                msg("{place} must be a number or text, not {value}", place=place, value=repr(value)),
                msg("Leave it out where it is unknown."),
            )
        )
    return value


Scalar = Annotated[Any, BeforeValidator(_scalar)]
"""A number or a text."""


class License(Block):
    id: Text
    name: Text
    url: Url = ""
    commercial_use: Permission = "unknown"
    note: Text = ""


class Architecture(Block):
    layers: Count = 0
    hidden_size: Count = 0
    attention_heads: Count = 0
    key_value_heads: Count = 0
    head_dim: Count = 0
    vocab_size: Count = 0
    attention: Text = ""
    tied_embeddings: bool = False
    rope_theta: Count = 0
    precision: Text = ""


class Training(Block):
    tokens: Text = ""
    hardware: Text = ""
    software: Text = ""
    precision: Text = ""
    method: Text = ""
    recipe: Text = ""
    filtering: Text = ""
    dates: Text = ""
    data_until: Text = ""
    knowledge_cutoff: Text = ""
    knowledge_cutoff_note: Text = ""
    paper: Url = ""


class Score(Block):
    """A figure as published; one with a ``caution`` is not shown as a score."""

    benchmark: Text
    value: Scalar
    source: Url
    setting: Text = ""
    caution: Text = ""


class Weights(Block):
    """The weights that really run here, where they are not the upstream release."""

    format: Text
    note: Text
    source: Text
    url: Url = ""


class BaseModelBlock(Block):
    id: Text | None
    relation: Text
    note: Text = ""


class TrainingSet(Block):
    name: Text
    stage: Text
    note: Text = ""


class Answer(Block):
    """Of one question of openness."""

    status: Status
    evidence: Url | None = None
    note: Text = ""


class Answers(Block):
    """The five questions, see ``records.Openness``."""

    training_data: Answer | None = None
    weights: Answer | None = None
    evaluation_code: Answer | None = None
    finetuning_code: Answer | None = None
    training_metrics: Answer | None = None


class OwnCode(Block):
    """For a model whose files need Python code from their repository, which is never run here: who says so, what it
    would need, and the id of the model to take instead.
    """

    note: Text
    source: Url
    instead: Text


class Sampling(Block):
    """How its card recommends to choose tokens; what it does not name is left out."""

    source: Url
    temperature: Amount | None = None
    top_k: Count | None = None
    top_p: Amount | None = None
    min_p: Amount | None = None
    repetition_penalty: Amount | None = None
    note: Text = ""


class Card(Block):
    """What was researched about a model.

    Attributes:
        verified: Keys that were read in a primary source.
        verified_via_secondary: Keys that were read in a third party's copy.
        from_memory: Keys that were not read anywhere.
        unverified: Keys that were looked for and not found.
    """

    family: Text = ""
    developer: Text = ""
    release: Text = ""
    release_note: Text = ""
    parameters: Count | None = None
    parameters_active: Count | None = None
    parameters_note: Text = ""
    context_length: Count | None = None
    context_note: Text = ""
    architecture: Text = ""
    architecture_note: Text = ""
    architecture_detail: Architecture | None = None
    model_type: Text = ""
    languages: list[Text] = Field(default_factory=list)
    languages_note: Text = ""
    license: License | None = None
    base_model: BaseModelBlock | None = None
    datasets: list[Text] = Field(default_factory=list)
    datasets_detail: list[TrainingSet] = Field(default_factory=list)
    datasets_note: Text = ""
    specialisation: Text = ""
    specialisation_note: Text = ""
    limitations: Text = ""
    gated: Status | None = None
    gated_note: Text = ""
    chat_template: Status | None = None
    chat_template_note: Text = ""
    prompt_format: Text = ""
    openness: Answers | None = None
    training: Training | None = None
    quality: list[Score] = Field(default_factory=list)
    quality_base_model: list[Score] = Field(default_factory=list)
    quality_note: Text = ""
    weights: Weights | None = None
    own_code: OwnCode | None = None
    sampling: Sampling | None = None
    source_notes: Text = ""
    lifecycle_note: Text = ""
    cpu_note: Text = ""
    verified: list[Text] = Field(default_factory=list)
    verified_via_secondary: list[Text] = Field(default_factory=list)
    from_memory: list[Text] = Field(default_factory=list)
    unverified: list[Text] = Field(default_factory=list)
    sources: Annotated[list[Url], Field(min_length=1)] = Field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything was researched at all."""
        return bool(self.model_fields_set)


class OnnxFile(Block):
    """``evidence`` says how it is known to be there."""

    name: Text
    precision: Text
    evidence: Text
    bytes: Count = 0
    external_data: Text = ""


class Onnx(Block):
    """Ready-made graphs on the Hub: a hint of where to look."""

    repo: Text
    files: Annotated[list[OnnxFile], Field(min_length=1)]
    kind: Literal["optimum", "genai-builder"] = "optimum"


class DocumentedFormat(Block):
    """A documented prompt format as a Jinja chat template, for a tokenizer that brings none."""

    template: Text
    source: Url
    note: Text = ""


class TermsBlock(Block):
    text: Text
    url: Url
    policy_url: Url = ""


class EntryBlock(Block):
    """One model of catalog.yaml, as it is written; ``entries.CatalogEntry`` is made of it."""

    id: Text
    name: Text
    kind: Literal["chat", "base", "text2text"]
    task: Text
    source: Text
    variants: Annotated[
        list[Literal["onnx-int8", "onnx-int4", "onnx-fp32", "torch-fp32", "fake-none"]], Field(min_length=1)
    ]
    context_length: Count = 0
    revision: Text = ""
    upstream: Text = ""
    download_bytes: Count = 0
    terms: TermsBlock | None = None
    prompt_format: DocumentedFormat | None = None
    onnx: Onnx | None = None
    card: Card = Field(default_factory=Card)


class CatalogFile(Block):
    """The file; its entries are checked one by one, so that a mistake is told with their id."""

    schema_version: Count
    models: Annotated[list[Any], Field(min_length=1)]
