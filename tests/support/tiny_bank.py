"""Homes in which the tiny Llama is prepared already: made once for all tests of a session, copied for each who asks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from playground.export import pipeline
from playground.records import Artifact, ModelSpec, Variant
from tests.support import tiny


@dataclass(frozen=True)
class TinyBank:
    """For tests that begin with an artifact. Who asks how one is made makes it.

    Attributes:
        folder: For the model and the home that is copied; all workers have it in common.
    """

    folder: Path

    @property
    def source(self) -> Path:
        """The model's folder, for all who only read."""
        with self._lock():
            return self._source()

    def home(self, target: Path, *precisions: str) -> Path:
        """``target``, now a PLAYGROUND_HOME with artifacts of ``source`` in these precisions, and nobody else's."""
        with self._lock():
            made = self.folder / "-".join(("home", *precisions))
            for precision in precisions:
                make(self._source(), made, precision)
            shutil.copytree(made, target, dirs_exist_ok=True)
        return target

    def _source(self) -> Path:
        source = self.folder / "model"
        if not (source / "model.safetensors").is_file():
            tiny.write_model(source)
        return source

    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "lock")


def make(source: Path, home: Path, precision: str = "int8") -> Artifact:
    """The artifact of the tiny model in ``source`` as onnx-``precision``, made now or found in ``home``."""
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", precision, tiny.CONTEXT, "chat")
    return pipeline.make(spec, Variant("tiny", "onnx", precision), home, lambda *_: None, lambda: False)
