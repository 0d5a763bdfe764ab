"""What only the asking side knows of a run that a worker has finished.

A value is made of a value; how the run came about, the experiments know.
"""

from __future__ import annotations

from dataclasses import replace

from playground.catalog.tokenizer_source import tokenizer_words
from playground.records import Artifact, ModelRun, ModelSpec, Variant


def completed(run: ModelRun, variant: Variant, spec: ModelSpec | None, artifact: Artifact | None) -> ModelRun:
    """The run under the asked variant, with what is known of its artifact. ``runtime`` and ``precision`` stay those
    that really ran; ``fallbacks`` says why they differ.
    """
    run = replace(run, variant=variant)
    if not spec or not artifact:
        return run
    return replace(
        run,
        fallbacks=tuple(dict.fromkeys(artifact.fallbacks + run.fallbacks)),  # each reason once
        recipe=artifact.recipe,
        fidelity=artifact.fidelity,
        tokenizer=tokenizer_words(spec, artifact),
        revision=artifact.revision or None,
        artifact_sha256=artifact.sha256 or None,
    )
