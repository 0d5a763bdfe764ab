"""The families' tiny models and what is made of them, once for all tests of a session and all of its workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from playground.export import pipeline
from playground.records import Artifact, ModelSpec, Variant
from tests.families.builders import write
from tests.families.table import CONTEXT, FAMILIES, Family


@dataclass(frozen=True)
class Bank:
    """A place for them; what lies there, nobody changes.

    Attributes:
        models: Of folders as publishers write them, by the family's name.
        home: PLAYGROUND_HOME, where the exporter's overlay is installed once.
    """

    models: Path
    home: Path

    def model(self, family: Family) -> Path:
        """The folder of one of ``FAMILIES``, written if nobody did."""
        assert family in FAMILIES, "a name stands for one network here"
        folder = self.models / family.name
        self.models.mkdir(parents=True, exist_ok=True)
        with FileLock(self.models / f"{family.name}.lock"):
            if not (folder / "config.json").is_file():
                write(family, folder)
        return folder

    def spec(self, family: Family, precision: str) -> ModelSpec:
        source = f"path:{self.model(family)}"
        return ModelSpec(family.name, family.name, source, "", "onnx", precision, CONTEXT, family.kind)

    def artifact(self, family: Family, precision: str) -> Artifact:
        """What is made of it as onnx-``precision``, now or before."""
        variant = Variant(family.name, "onnx", precision)
        return pipeline.make(self.spec(family, precision), variant, self.home, lambda *_: None, lambda: False)
