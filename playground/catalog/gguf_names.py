"""Which of several GGUF files is meant, by their names: ``Q4_K_M`` of ``model-Q4_K_M.gguf`` or ``Q4_K_M/model.gguf``.

llama.cpp and the Hub choose so: a tag is a whole part of the name, capitals don't matter. Where a tag fits several
files, nobody guesses. A file stands for all its parts; it is called by the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
"""What a part of a split file has at the end of its name."""
USUAL = ("Q4_K_M", "Q4_0", "Q8_0")
"""What is proposed where there are several: llama.cpp's own choice, then what is often there instead."""
BITS = {"1": 2.0, "2": 3.0, "3": 3.9, "4": 4.8, "5": 5.7, "6": 6.6, "8": 8.5, "16": 16.0, "32": 32.0}
"""Bits a weight of a whole file takes, by the number in its quantisation: some tensors have more than the others."""

_QUANTISATION = re.compile(
    r"(?:^|[-._])"
    r"(?P<tag>(?:ud-)?(?:(?:i?q|tq)(?P<q>[1-8])(?:_\w*)?|(?:bf|fp?)(?P<f>16|32)|(?:mx|nv)fp(?P<fp>4)(?:_\w*)?))"
    r"(?=$|[-.])",
    re.IGNORECASE,
)


def unsplit(name: str) -> str:
    """The name of a GGUF file without its folder, its ending and the number of its part."""
    plain = name.rpartition("/")[2]
    return SPLIT.sub("", plain[: -len(".gguf")] if plain.lower().endswith(".gguf") else plain)


def quantisation_in(name: str) -> str:
    """As the name of a file tells it, or else its folder's: ``Q4_K_M``, ``UD-Q4_K_XL``; "" where they don't."""
    found = _last(name)
    return found["tag"].upper() if found else ""


def bits_of(tag: str) -> float:
    """How many bits a weight takes, about; 16 where the tag does not tell."""
    found = _last(tag)
    return BITS.get(found["q"] or found["f"] or found["fp"], 16.0) if found else 16.0


def fitting(names: Sequence[str], tag: str) -> list[str]:
    """Those of ``names`` that ``tag`` means, one if it is clear.

    What is called so as a whole comes before what has this quantisation (so ``Q4_K_M`` is not ``UD-Q4_K_M``), and that
    before what has the tag as a part of its name, and that before what lies in such a folder.
    """
    wanted = tag.lower()
    part = re.compile(rf"(?:^|[-./]){re.escape(wanted)}(?=$|[-./])")
    ways: tuple[Callable[[str], bool], ...] = (
        lambda name: unsplit(name).lower() == wanted,
        lambda name: quantisation_in(name).lower() == wanted,
        lambda name: bool(part.search(unsplit(name).lower())),
        lambda name: bool(part.search(_place(name).lower())),
    )
    return next((found for fits in ways if (found := [name for name in names if fits(name)])), [])


def tags_of(names: Sequence[str]) -> dict[str, str]:
    """By which tag each of ``names`` is chosen: its quantisation where that is clear, else its folder, else its own
    name; "" where none of them means this one alone.
    """
    folders = {name: name.rpartition("/")[0].rpartition("/")[2] for name in names}
    asked = {folder.lower() for folder in folders.values()}
    # The ways of ``fitting``, each with all that it finds: a repository may have thousands of files.
    ways: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for name in names:
        whole = unsplit(name).lower()
        tags = ({whole}, {quantisation_in(name).lower()}, asked & _runs(whole), asked & _runs(_place(name).lower()))
        for known, some in zip(ways, tags, strict=True):
            for tag in some:
                known.setdefault(tag, []).append(name)

    def means(tag: str, name: str) -> bool:
        return next((known[tag] for known in ways if tag in known), []) == [name]

    return {
        name: next(
            (tag.upper() for tag in (quantisation_in(name), folder, unsplit(name)) if tag and means(tag.lower(), name)),
            "",
        )
        for name, folder in folders.items()
    }


def _place(name: str) -> str:
    return name.rpartition("/")[0]


def _runs(text: str) -> set[str]:
    """What stands in ``text`` between its ends or separators, single parts and several in a row."""
    cuts = [index for index, letter in enumerate(text) if letter in "-./"]
    return {text[start:end] for start in (0, *(cut + 1 for cut in cuts)) for end in (*cuts, len(text)) if start < end}


def usual(tags: Sequence[str]) -> str:
    """The one to propose of these; "" of none."""
    named = [tag for tag in tags if tag]
    return next((tag for tag in USUAL if tag in named), named[0] if named else "")


def _last(name: str) -> re.Match[str] | None:
    """The last quantisation in a file's name, or else in its folder's."""
    folder = name.rpartition("/")[0].rpartition("/")[2]
    return next((found[-1] for part in (unsplit(name), folder) if (found := list(_QUANTISATION.finditer(part)))), None)
