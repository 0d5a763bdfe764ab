"""Which files of a repository or folder are the model's weights, by whatever name.

One list of candidates for the Hub, its cache, a folder and the estimate of a download. It works on names, and reads one
small file where it must: the index, which alone knows what the shards are called. Safetensors come before GGUF, a
folder's top before what lies below, and a name that transformers itself looks for before any other. Where several
models remain, nobody guesses: the error names them. What the files hold is not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from playground.errors import SourceError, some
from playground.messages import NOTHING, Translatable, msg

Read = Callable[[str], str]
"""Gives the text of a small file by its name; what it raises where it can't is passed on."""

ADAPTER = msg("is an adapter without its base model")

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
GGUF_FILE = "model.gguf"
"""The weights of an import that came as GGUF, as they came."""


def packed_in(folder: Path) -> Path | None:
    """The GGUF file that holds an import's weights; None where safetensors do."""
    file = folder / GGUF_FILE
    return file if file.is_file() and not any(folder.rglob("*.safetensors")) else None


INDEX_END = ".safetensors.index.json"
"""How every list of shards is called, whatever it begins with."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Weights that Python unpickles: whoever wrote them says which code runs while they are read."""
OTHER_LIBRARIES = (".h5", ".msgpack")
"""Weights of TensorFlow and Flax, which nothing here reads."""
REFUSED = (*PICKLED, *OTHER_LIBRARIES, ".py")
"""What is never fetched nor read, whatever asks for it: pickles, weights of other libraries, and code."""

_OTHER_THINGS = re.compile(
    r"^(consolidated|adapter|adapters|optimizer|scheduler|training|rng_state|mm_projector|embeddings)\b"
    r"|(^|[-_.])(lora|optimizer)([-_.]|$)|^adapter_model|^rng_state|^mm_projector"
)
"""Safetensors that are not the network under the names of transformers: Mistral's own copy, adapters, a trainer's."""

_OTHER_GGUF = re.compile(r"mmproj|imatrix|(^|[-_.])(lora|control[-_]?vector|vocab)([-_.]|$)", re.IGNORECASE)
"""GGUF files that are no language model: projectors for images and sounds, statistics, adapters, vocabularies."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.safetensors|\.gguf)", re.IGNORECASE)


class IncompleteFiles(SourceError):
    """Parts of the weights are not there.

    Attributes:
        problem: Which, without the repository or folder.
    """

    def __init__(self, where: str, problem: Translatable, next_step: Translatable) -> None:
        super().__init__(msg("{where}: {problem}", where=where, problem=problem), next_step)
        self.problem = problem


class SeveralGgufs(SourceError):
    """Several models as GGUF and nothing else.

    Attributes:
        sets: Each one's files under the first of them.
    """

    def __init__(self, what: Translatable, next_step: Translatable, sets: dict[str, list[str]]) -> None:
        super().__init__(what, next_step)
        self.sets = sets


@dataclass(frozen=True)
class Weights:
    """The files that are loaded together.

    Attributes:
        files: Their names as the repository has them, in order.
        index: The file that says which tensor lies where, "" without one.
    """

    files: tuple[str, ...]
    index: str = ""
    format: Literal["safetensors", "gguf"] = "safetensors"

    @property
    def folder(self) -> str:
        """The folder they lie in, "" for the top."""
        parent = PurePosixPath(self.index or self.files[0]).parent
        return "" if parent == PurePosixPath(".") else parent.as_posix()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the index last."""
        return (*self.files, self.index) if self.index else self.files


def weights_of(
    where: str, names: Iterable[str], read: Read, choose: Callable[[str], Translatable] | None = None
) -> Weights | None:
    """The weights among ``names``; None where there are none that may be loaded.

    Args:
        where: The repository or folder, as an error begins with it.
        names: Every file, with ``/``, relative to the top.
        read: For the index.
        choose: Says how one of several GGUF files is chosen; it is given the name of one.

    Raises:
        IncompleteFiles: A part is missing, and which.
        SeveralGgufs: There are several models, all as GGUF.
        SourceError: There are several models, or an index that can't be used.
    """
    every = sorted({name for name in names if ".." not in name.split("/")})
    folders = {_folder(name) for name in every}
    ggufs = gguf_sets(every)
    at_top = [first for first in ggufs if not _folder(first)]
    if found := _safetensors(where, "", every, read):
        return found
    if not at_top:
        # A folder below is a model of its own only with a configuration; others hold towers, adapters, copies.
        own = sorted(folder for folder in folders if folder and f"{folder}/config.json" in every)
        models = [(folder, found) for folder in own if (found := _safetensors(where, folder, every, read))]
        if len(models) > 1:
            raise SourceError(
                msg(
                    "{where} has models in several folders ({folders})",
                    where=where,
                    folders=some([folder for folder, _ in models]),
                ),
                msg("Put one of them into a folder of its own and name it as path:FOLDER."),
            )
        if models:
            return models[0][1]
    if len(ggufs) > 1:
        first = next(iter(ggufs.values()))
        shown = first[0] if len(first) == 1 else _SHARD.sub(r"\g<stem>-*\g<end>", first[0])
        raise SeveralGgufs(
            msg(
                "{where} has {count} GGUF files ({files}) and no safetensors",
                where=where,
                count=len(ggufs),
                files=some(list(ggufs)),
            ),
            choose(shown) if choose else msg("Name one of them."),
            ggufs,
        )
    return whole_gguf(where, next(iter(ggufs.values()))) if ggufs else None


def gguf_sets(names: Iterable[str]) -> dict[str, list[str]]:
    """The language models among GGUF files, the parts of each under the first of them."""
    every = [name for name in names if ".." not in name.split("/")]
    return _sets([name for name in every if name.lower().endswith(".gguf") and not _other_gguf(name)])


def is_pickled(name: str) -> bool:
    """Whether a file is by its name a pickle."""
    return name.lower().endswith(PICKLED)


def is_refused(name: str) -> bool:
    """Whether a file is by its name one that is never fetched nor read."""
    return name.lower().endswith(REFUSED)


def why_none(names: Iterable[str]) -> Translatable:
    """What the safetensors and GGUF files are that are no weights of a language model; "" without such files.

    A phrase that goes on where the repository or folder is named.
    """
    plain = [PurePosixPath(name).name for name in names]
    if any(name.startswith(("adapter_model", "adapters")) and name.endswith(".safetensors") for name in plain):
        return ADAPTER
    if own := [name for name in plain if name.startswith("consolidated") and name.endswith(".safetensors")]:
        return msg("has its weights as {file} only, with Mistral's own names of tensors", file=own[0])
    if projector := [name for name in plain if "mmproj" in name.lower() and name.lower().endswith(".gguf")]:
        return msg(
            "has {file} only, the part of a GGUF model that reads images, without the language model", file=projector[0]
        )
    return NOTHING


def parts_of(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """All parts of the split GGUF that ``name`` is one of, in order; ``name`` alone where it is not split.

    Raises:
        IncompleteFiles: One of them is not among ``names``.
    """
    matched = _SHARD.fullmatch(name)
    if matched is None:
        return (name,)
    alike = [each for each in names if (other := _SHARD.fullmatch(each)) and _set_of(other) == _set_of(matched)]
    return whole_gguf(PurePosixPath(name).name, sorted({*alike, name})).files


def is_other_gguf(name: str) -> bool:
    """Whether a GGUF file is by its name a part that is no language model, such as ``mmproj-F16.gguf``."""
    return _other_gguf(name)


def _safetensors(where: str, folder: str, every: Sequence[str], read: Read) -> Weights | None:
    """The weights that lie in one folder."""
    inside = [name for name in every if _folder(name) == folder]
    files = [each for each in inside if each.endswith(".safetensors") and not _OTHER_THINGS.search(_plain(each))]
    start = f"{folder}/" if folder else ""
    if start + WHOLE in files:
        return Weights((start + WHOLE,))
    below = [each for each in every if each.startswith(start) and each.endswith(".safetensors")]
    if not below:
        return None
    indexes = [each for each in inside if each.endswith(INDEX_END) and not _OTHER_THINGS.search(_plain(each))]
    if start + INDEX in indexes or len(indexes) == 1:
        index = start + INDEX if start + INDEX in indexes else indexes[0]
        return Weights(_shards(where, start, index, every, read), index)
    if len(indexes) > 1:
        raise SourceError(
            msg("{where} has several lists of weights ({files})", where=where, files=some(indexes)),
            msg("Keep one of them."),
        )
    sets = _sets(files)
    if not sets:
        return None
    if len(sets) > 1:
        raise SourceError(
            msg(
                "{where} has several files of weights, none called {wanted} and no list of them ({files})",
                where=where,
                wanted=WHOLE,
                files=some(list(sets)),
            ),
            msg(
                "Put the model's own into a folder with its config.json, as {wanted}, and name it as path:FOLDER.",
                wanted=WHOLE,
            ),
        )
    return Weights(_complete(where, next(iter(sets.values()))))


def _shards(where: str, start: str, index: str, every: Sequence[str], read: Read) -> tuple[str, ...]:
    """The files that an index names, in order."""
    text = read(index)
    try:
        document = json.loads(text)
        places = document["weight_map"].values()
        shards = sorted({start + place for place in places})
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(
            msg("{where}: {file} has no weight_map", where=where, file=index), msg("Get the file again.")
        ) from error
    known = set(every)
    if odd := [shard for shard in shards if not shard.endswith(".safetensors")]:
        raise SourceError(
            msg(
                "{where}: {file} names {other}, which is not a safetensors file",
                where=where,
                file=index,
                other=repr(odd[0][:80]),
            ),
            msg("Only safetensors are loaded."),
        )
    if gone := [shard for shard in shards if shard not in known]:
        raise IncompleteFiles(
            where,
            msg("{missing} is missing, which {file} names", missing=gone[0][:80], file=index),
            msg("Get it as well."),
        )
    if not shards:
        raise SourceError(msg("{where}: {file} names no file", where=where, file=index), msg("Get the file again."))
    return tuple(shards)


def _sets(names: Iterable[str]) -> dict[str, list[str]]:
    """Files that belong together by their names (``X-00001-of-00003``), each set under its first name."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(names):
        matched = _SHARD.fullmatch(name)
        sets.setdefault(_set_of(matched) if matched else (name,), []).append(name)
    return {parts[0]: parts for parts in sets.values()}


def _set_of(matched: re.Match[str]) -> tuple[str, ...]:
    return matched["stem"], matched["count"], matched["end"].lower()


def whole_gguf(where: str, parts: list[str]) -> Weights:
    """A model as GGUF, if none of its parts is missing.

    Raises:
        IncompleteFiles: One is, and which.
    """
    return Weights(_complete(where, parts), format="gguf")


def _complete(where: str, parts: list[str]) -> tuple[str, ...]:
    """The parts, if none is missing."""
    matched = [_SHARD.fullmatch(part) for part in parts]
    if matched[0] is None:
        return tuple(parts)
    count = int(matched[0]["count"])
    there = {int(each["number"]) for each in matched if each}
    absent = [number for number in range(1, count + 1) if number not in there]
    if absent:
        example = f"{matched[0]['stem']}-{absent[0]:05d}-of-{count:05d}{matched[0]['end']}"
        raise IncompleteFiles(
            where,
            msg(
                "{missing} is missing; {there} of {count} parts are there",
                missing=example,
                there=len(there),
                count=count,
            ),
            msg("Get the other parts as well."),
        )
    return tuple(parts)


def _other_gguf(name: str) -> bool:
    return bool(_OTHER_GGUF.search(_plain(name).removesuffix(".gguf")))


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _plain(name: str) -> str:
    return name.rpartition("/")[2]
