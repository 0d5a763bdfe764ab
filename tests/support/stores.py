"""Small stores as Ollama and LM Studio lay them out, with a real GGUF of a random Llama."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from tests.support import ggufs

MEDIA = "application/vnd.ollama.image"


def write_gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return ggufs.write_llama(path)[0]


def add_to_ollama(root: Path, name: str, gguf: Path, *, manifests: str = "manifests", **more: Any) -> str:
    """Keep ``gguf`` as ``HOST/NAMESPACE/NAME/TAG``; returns the digest of its blob.

    Args:
        more: ``kind``: of the model's layer instead of ``model``; ``digest``: instead of its own; ``licence``: a text.
    """
    digest = _blob(root, gguf.read_bytes())
    config = _blob(root, json.dumps({"model_format": "gguf", "file_type": "F32"}).encode())
    layers = [{"mediaType": f"{MEDIA}.{more.get('kind', 'model')}", "digest": more.get("digest", digest), "size": 1}]
    if "licence" in more:
        layers.append({"mediaType": f"{MEDIA}.license", "digest": _blob(root, more["licence"].encode()), "size": 1})
    layers.append({"mediaType": f"{MEDIA}.template", "digest": _blob(root, b"{{ .Prompt }}"), "size": 13})
    if more.get("adapter"):
        layers.append({"mediaType": f"{MEDIA}.adapter", "digest": digest, "size": 1})
    place = root / manifests / name
    place.parent.mkdir(parents=True, exist_ok=True)
    document = {"schemaVersion": 2, "config": {"digest": config, "size": 1}, "layers": layers}
    place.write_text(json.dumps(document))
    return digest


def add_to_lmstudio(root: Path, name: str, gguf: Path) -> Path:
    """Keep it as ``PUBLISHER/REPO/FILE.gguf``."""
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(gguf, place)
    return place


def _blob(root: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / f"sha256-{digest}").write_bytes(content)
    return f"sha256:{digest}"
