"""Which architectures there are: transformers' own lists of the networks that write text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ListName = Literal["causal", "seq2seq", "image-text"]
LISTS: tuple[ListName, ...] = get_args(ListName)

_MAPPINGS = {
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "image-text": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
}
_AUTO = {
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "image-text": "AutoModelForImageTextToText",
}


@dataclass(frozen=True)
class Architecture:
    """One entry of a list.

    Attributes:
        listed: The list it stands in.
        name: Its ``model_type``; behind a ``~`` a shape of its own (``shapes.py``), which no list has.
        classes: Names of transformers' classes for it, the first is taken.
    """

    listed: ListName
    name: str
    classes: tuple[str, ...]

    @property
    def model_type(self) -> str:
        return self.name.partition("~")[0]

    @property
    def auto(self) -> str:
        """The automatic class that reads such a checkpoint."""
        return _AUTO[self.listed]

    @property
    def folder(self) -> str:
        return f"{self.listed}-{self.name}"


def architectures(listed: ListName) -> dict[str, Architecture]:
    """The architectures of one list, by name, in transformers' order."""
    from transformers.models.auto import modeling_auto

    found = {}
    for name, classes in getattr(modeling_auto, _MAPPINGS[listed]).items():
        found[name] = Architecture(listed, name, (classes,) if isinstance(classes, str) else tuple(classes))
    return found


def chosen(listed: ListName, only: tuple[str, ...] = ()) -> list[Architecture]:
    """Those of ``only`` that stand in the list, shapes behind a ``~`` included; without ``only`` all of them."""
    known = architectures(listed)
    if not only:
        return list(known.values())
    wanted = ((name, name.partition("~")[0]) for name in only)
    return [Architecture(listed, name, known[plain].classes) for name, plain in wanted if plain in known]
