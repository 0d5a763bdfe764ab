"""What the original answered to the texts of the check, kept for the next variant of the same model.

The original is asked the same each time: whether its int8 or its int4 is judged, its rows of logits are the same, and
asking it takes as long as everything else together. They lie in one folder below ``answers``, raw rows of fp32, mapped
into memory when they are read. Whose answers they are, and to what, is in the folder's name.
It knows neither transformers nor what is judged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from playground.export import passages
from playground.export.fidelity import Logits
from playground.export.passages import Passage
from playground.export.reference import NO_PLACES, Expected, Reference
from playground.sources.files import bytes_in, discard, put_in_place, staging, write_text

log = logging.getLogger(__name__)

FORMAT = 1
"""Raise it when the original is asked otherwise, or its answers are written otherwise."""

DOCUMENT = "answers.json"
KEPT_MB = 4_000
"""What all answers may take on the disk together; the oldest go first."""

SHARE = 0.1
"""Of the disk's free room, what those of one model may take."""


def folder_of(imported: Path, home: Path) -> Path:
    """Where the answers of an import's original lie: to these texts, as they are read now.

    Args:
        imported: The import's folder; its name says which weights it holds, and which tools read them.
        home: PLAYGROUND_HOME.
    """
    texts = [passages.STEPS, *((text.kind, text.digest, text.prompt, text.greedy) for text in passages.TEXTS)]
    key = hashlib.sha256(json.dumps([FORMAT, *texts]).encode()).hexdigest()[:16]
    return home / "answers" / f"{imported.name}-{key}"


def keep(folder: Path, home: Path, asked: Reference) -> Reference | None:
    """Write answers to ``folder``, by the process that holds its lock; the same answers as they lie there.

    Returns:
        None where they are not worth keeping: they are too large for the disk, or something is odd about them.

    Raises:
        OSError: The disk.
    """
    size = sum(each.rows.nbytes + each.greedy.nbytes for each in asked.expected)
    most = min(SHARE * shutil.disk_usage(home).free, KEPT_MB * 1e6 / 2)
    if asked.notes or size > most:
        return None
    _make_room(folder.parent, KEPT_MB * 1e6 - size)
    with staging(home, "answers") as stage:
        for number, each in enumerate(asked.expected):
            for name, rows in (("rows", each.rows), ("greedy", each.greedy)):
                if rows.size:
                    np.save(stage / f"{name}-{number}.npy", np.ascontiguousarray(rows, np.float32))
        document = {
            "tokens": asked.tokens,
            "expected": [
                {
                    "kind": each.passage.kind,
                    "ids": each.passage.ids,
                    "prompt": each.passage.prompt,
                    "greedy": each.passage.greedy,
                    "continued": each.continued,
                }
                for each in asked.expected
            ],
            "files": {path.name: [*_about(path)] for path in sorted(stage.glob("*.npy"))},
        }
        write_text(stage / DOCUMENT, json.dumps(document))
        put_in_place(stage, folder)
    return read(folder)


def read(folder: Path) -> Reference | None:
    """The answers in ``folder``, mapped; None where there are none, or files are not as they were written."""
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        if any([*_about(folder / name)] != about for name, about in document["files"].items()):
            return None
        return Reference(tuple(_expected(folder, document)), int(document["tokens"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _expected(folder: Path, document: dict[str, Any]) -> Iterator[Expected]:
    for number, each in enumerate(document["expected"]):
        passage = Passage(each["kind"], tuple(each["ids"]), each["prompt"], each["greedy"])
        rows, greedy = (_rows(folder / f"{name}-{number}.npy", document) for name in ("rows", "greedy"))
        yield Expected(passage, rows, tuple(each["continued"]), greedy)


def _rows(path: Path, document: dict[str, Any]) -> Logits:
    if path.name not in document["files"]:
        return NO_PLACES
    found: Logits = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    if found.dtype != np.float32 or found.ndim != 2:
        raise ValueError(path.name)
    return found


def _about(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _make_room(root: Path, most: float) -> None:
    """Throw the oldest away until no more than ``most`` bytes are left. Who has them mapped keeps them."""
    found = sorted(root.iterdir(), key=lambda each: each.stat().st_mtime) if root.is_dir() else []
    sizes = {folder: bytes_in(folder) for folder in found}
    for folder in found:
        if sum(sizes.values()) <= most:
            return
        log.info("%s: its answers are thrown away to make room", folder.name)
        discard(folder)
        del sizes[folder]
