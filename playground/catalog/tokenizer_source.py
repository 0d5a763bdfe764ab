"""Who counts a model's tokens: a figure per token means little without it."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from playground.messages import Translatable, msg
from playground.records import Artifact, ModelSpec


def tokenizer_words(spec: ModelSpec, artifact: Artifact) -> Translatable:
    """A model's own tokenizer, named so that another one would show.

    The file is hashed at the first call; ask when nothing is being measured.
    """
    if spec.remote:
        return msg("the server of {model}: its own count, where it sends one", model=spec.id)
    if artifact.variant.runtime == "fake":
        return msg("the script's words")
    revision = artifact.revision or spec.revision
    origin = msg("{source}", source=spec.upstream or spec.source)
    if revision:
        origin = msg("{source}, weights at {revision}", source=origin, revision=revision[:19])
    path = Path(artifact.path) / "tokenizer.json"
    try:
        stat = path.stat()
        digest = _sha256(str(path), stat.st_mtime_ns, stat.st_size)
    except OSError:
        return msg("the model's own ({origin})", origin=origin)
    return msg("the model's own: tokenizer.json of {origin}, sha256 {digest}", origin=origin, digest=digest[:12])


@lru_cache(maxsize=256)
def _sha256(path: str, mtime_ns: int, size: int) -> str:
    """Of a file as it is now; a changed one has another time or size."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
