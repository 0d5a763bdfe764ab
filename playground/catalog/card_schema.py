"""The shape of a catalogue entry's ``card`` block: what was researched about a model.

The keys are those of the research files the facts come from, so that a researched model moves in as it stands.
Every key is optional: what is not written is unknown. ``cards.py`` says what the keys mean to a reader; this module
only names them.
"""

from __future__ import annotations

from playground.config.validation import count, flag, list_of, mapping, nullable, one_of, scalar, text, url

OPENNESS = ("training_data", "weights", "evaluation_code", "finetuning_code", "training_metrics")

STATUS = one_of("yes", "partial", "no", "unknown")

_TEXTS = (
    *("family", "developer", "release", "release_note"),
    *("parameters_note", "context_note", "architecture", "architecture_note", "model_type"),
    *("languages_note", "datasets_note", "specialisation", "specialisation_note", "limitations"),
    *("gated_note", "chat_template_note", "prompt_format", "quality_note"),
    *("source_notes", "lifecycle_note", "cpu_note"),
)

_HOW_READ = ("verified", "verified_via_secondary", "from_memory", "unverified")
"""Lists of keys by how they were read: in a primary source, in a third party's copy, not at all, not found."""

_LICENSE = mapping(
    {"id": text, "name": text},
    {"url": url, "commercial_use": one_of("yes", "no", "conditional", "unknown"), "note": text},
)

_ARCHITECTURE = mapping(
    {},
    {
        **dict.fromkeys(("layers", "hidden_size", "attention_heads", "key_value_heads", "head_dim"), count),
        **dict.fromkeys(("vocab_size", "rope_theta"), count),
        **dict.fromkeys(("attention", "precision"), text),
        "tied_embeddings": flag,
    },
)

_TRAINING = mapping(
    {},
    {
        **dict.fromkeys(
            ("tokens", "hardware", "software", "precision", "method", "recipe", "filtering", "dates"), text
        ),
        **dict.fromkeys(("data_until", "knowledge_cutoff", "knowledge_cutoff_note"), text),
        "paper": url,
    },
)

_SCORES = list_of(
    mapping({"benchmark": text, "value": scalar, "source": url}, {"setting": text, "caution": text}),
)

_WEIGHTS = mapping({"format": text, "note": text, "source": text}, {"url": url})
"""The weights that really run here, where they are not the upstream release."""

ONNX = mapping(
    {
        "repo": text,
        "files": list_of(
            mapping({"name": text, "precision": text, "evidence": text}, {"bytes": count, "external_data": text}),
            least=1,
        ),
    },
    {"kind": one_of("optimum", "genai-builder")},
)
"""Ready-made graphs on the Hub: a hint of where to look, each file with how it is known to be there."""

PROMPT_FORMAT = mapping({"template": text, "source": url}, {"note": text})
"""A documented prompt format as a Jinja chat template, for a tokenizer that brings none."""

_OWN_CODE = mapping({"note": text, "source": url, "instead": text})
"""For a model whose files need Python code from their repository, which is never run here: who says so, what it would
need, and the id of the model to take instead."""

CARD = mapping(
    {},
    {
        **dict.fromkeys(_TEXTS, text),
        **dict.fromkeys(_HOW_READ, list_of(text)),
        **dict.fromkeys(("parameters", "parameters_active", "context_length"), nullable(count)),
        **dict.fromkeys(("languages", "datasets"), list_of(text)),
        **dict.fromkeys(("gated", "chat_template"), STATUS),
        **dict.fromkeys(("quality", "quality_base_model"), _SCORES),
        "license": _LICENSE,
        "architecture_detail": _ARCHITECTURE,
        "base_model": mapping({"id": nullable(text), "relation": text}, {"note": text}),
        "datasets_detail": list_of(mapping({"name": text, "stage": text}, {"note": text})),
        "openness": mapping(
            {}, dict.fromkeys(OPENNESS, mapping({"status": STATUS}, {"evidence": nullable(url), "note": text}))
        ),
        "training": _TRAINING,
        "weights": _WEIGHTS,
        "own_code": _OWN_CODE,
        "sources": list_of(url, least=1),
    },
)
