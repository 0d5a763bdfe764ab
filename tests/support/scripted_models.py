"""Scripted models without catalogue and preparation, for tests below those rooms."""

from __future__ import annotations

from playground.records import Artifact, LoadSpec, ModelSpec, Variant


def scripted(source: str, name: str = "scripted", threads: int = 1, size_bytes: int = 0) -> LoadSpec:
    """What loads a model with this ``fake:`` script."""
    variant = Variant(name, "fake", "none")
    spec = ModelSpec(name, name, source, "", "fake", "none", 512, "chat", ("fake-none",))
    return LoadSpec(spec, Artifact(variant, "", "none", "", "", size_bytes), threads)
