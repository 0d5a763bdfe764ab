"""The playground's own questions for the harness: read from the files beside this one, wherever they are installed.

lm-eval loads this module by its path (``!function questions.choice`` in the YAML files), in the harness's process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def choice(**_: Any) -> Any:
    """211 questions with four answers each, of which one is right."""
    return _read("choice.jsonl")


def cloze(**_: Any) -> Any:
    """100 texts whose last word is to be found."""
    return _read("cloze.jsonl")


def sums(**_: Any) -> Any:
    """60 sums, to be answered with a number."""
    return _read("sums.jsonl")


def _read(name: str) -> Any:
    """The lines of a file as the split ``test``."""
    from datasets import Dataset, DatasetDict

    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    return DatasetDict({"test": Dataset.from_list([json.loads(line) for line in lines])})
