"""Graphs that are built and not compared with their original: where only speed is asked, for that takes longest.

What is built so is never served: it lies in a folder of its own, outside PLAYGROUND_HOME.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from playground.errors import ExportError, RunError
from playground.export import kernels
from playground.export.cache import DOCUMENT
from playground.export.recipes.base import Work
from playground.export.recipes.registry import RECIPES
from playground.export.weights import copy_side_files
from playground.kernels.building import LIBRARY


def build(folder: Path, target: Path, precision: str) -> str:
    """Fill ``target`` by the first recipe that builds ``folder``'s network, and put the kernels beside it where they
    can run it.

    Args:
        folder: As an import: config.json, tokenizer, weights.
        precision: Of the weights, ``int8`` or ``int4``.

    Returns:
        The recipe's name.

    Raises:
        RunError: None builds it.
    """
    for recipe in RECIPES:
        if recipe.name in {"prebuilt", "optimum"}:
            continue
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        try:
            recipe.build(Work(folder, folder, target, precision, recipe.options[precision], target, lambda *_: None))
        except ExportError:
            continue
        kernels.attach(target, lambda *_: None)
        return recipe.name
    raise RunError(f"{folder.name}: no recipe builds it", "Leave it out.")


def finished(folder: Path, target: Path) -> str:
    """Make ``target`` readable for ``_contender.bare``, which wants the document of an artifact.

    Returns:
        What computes it, as receipts say.
    """
    copy_side_files(folder, target)
    engine, library = kernels.engine(target), kernels.built(target)
    files = {LIBRARY: {"sha256": library.sha256}} if library else {}
    (target / DOCUMENT).write_text(json.dumps({"engine": engine, "files": files}), encoding="utf-8")
    return engine
