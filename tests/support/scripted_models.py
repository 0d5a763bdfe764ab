"""Scripted models: without catalogue and preparation for tests below those rooms, and as entries of a catalogue."""

from __future__ import annotations

from typing import Any

from playground.records import Artifact, LoadSpec, ModelSpec, Variant


def scripted(source: str, name: str = "scripted", threads: int = 1, size_bytes: int = 0) -> LoadSpec:
    """What loads a model with this ``fake:`` script."""
    variant = Variant(name, "fake", "none")
    spec = ModelSpec(name, name, source, "", "fake", "none", 512, "chat", ("fake-none",))
    return LoadSpec(spec, Artifact(variant, "", "none", "", "", size_bytes), threads)


def catalog_entry(name: str, script: str, **more: Any) -> dict[str, Any]:
    """An entry of a catalogue for a model with this script; ``more`` replaces or adds keys."""
    return {
        "id": name,
        "name": name.title(),
        "kind": "chat",
        "task": "text-generation",
        "context_length": 64,
        "source": f"fake:{script}",
        "revision": "none",
        "variants": ["fake-none"],
        **more,
    }
