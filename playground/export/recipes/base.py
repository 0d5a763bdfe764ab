"""What a way to make an ONNX graph is: data, and one function that is given a ``Work``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playground.sources.files import Progress


@dataclass(frozen=True)
class Work:
    """All that a recipe is given.

    Attributes:
        model: The imported folder: config.json, tokenizer.json, weights in safetensors. Of a source that brings
            ONNX files and no weights, the source itself.
        source: The folder as it was fetched.
        target: An empty folder, for the graph and what stands beside it.
        precision: As asked for.
        options: The recipe's options for it.
        home: PLAYGROUND_HOME, for tools that are kept there.
        progress: Told the step and its share.
    """

    model: Path
    source: Path
    target: Path
    precision: str
    options: Mapping[str, str]
    home: Path
    progress: Progress


Build = Callable[[Work], str]
"""Fills ``target`` and returns the precision of what is in it.

Raises:
    ExportError: The recipe does not know the architecture, or its tool fails; the reason goes into ``fallbacks``.
"""


@dataclass(frozen=True)
class Recipe:
    """One way to make a graph.

    Attributes:
        name: As in ``Artifact.recipe``.
        options: For each precision it offers, the tool's options; part of the artifact's key.
        build: Does it.
        packages: Installed tools whose version changes the result.
        pinned: Versions of tools that are not installed beside the application.
        whole: Whether the tool holds the whole model in fp32; else it reads one matrix at a time.
    """

    name: Literal["prebuilt", "fused", "dynamo", "optimum"]
    options: Mapping[str, Mapping[str, str]]
    build: Build
    packages: tuple[str, ...]
    pinned: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
