"""Which files of a repository of the Hub are the weights of the model that was named, with or without a quantisation.

``weight_files.py`` and ``gguf_names.py`` know files; here are the words for whoever named a repository: what it has,
with sizes, and the name to use instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from playground.catalog.gguf_names import fitting, tags_of, usual
from playground.catalog.hub_names import HUB_TAG, HubName
from playground.catalog.weight_files import (
    IncompleteFiles,
    Read,
    SeveralGgufs,
    Weights,
    gguf_sets,
    weights_of,
    whole_gguf,
)
from playground.errors import SourceError
from playground.messages import Translatable, msg


def hub_weights(name: HubName, sizes: Mapping[str, int], read: Read) -> Weights | None:
    """The weights of ``name``; None where there are none that may be loaded.

    Args:
        name: A quantisation takes the GGUF file, whatever else there is.
        sizes: Every file and its bytes, 0 where they are not known.
        read: As ``weights_of`` has it.

    Raises:
        IncompleteFiles: A part is missing, or the quantisation that was named.
        SourceError: There are several models, or an index that can't be used.
    """
    if name.tag:
        return _tagged(name, sizes)
    try:
        return weights_of(name.source, sizes, read)
    except SeveralGgufs as error:
        several = msg("{where} has {count} GGUF files and no safetensors", where=name.source, count=len(error.sets))
        raise SourceError(
            msg("{problem}: {files}", problem=several, files=_told(error.sets, sizes)), _advice(name, error.sets)
        ) from error


def _tagged(name: HubName, sizes: Mapping[str, int]) -> Weights:
    where, sets = name.tagged("").source, gguf_sets(sizes)
    if not sets:
        raise IncompleteFiles(
            where,
            msg("it has no GGUF file of a language model, so there is no {tag} of it", tag=name.tag),
            msg("Name it without a quantisation: {name}", name=str(name.tagged(""))),
        )
    found = fitting(list(sets), name.tag)
    if not found:
        raise IncompleteFiles(
            where,
            msg("it has no GGUF file {tag}, but {files}", tag=name.tag, files=_told(sets, sizes)),
            _advice(name, sets),
        )
    if len(found) > 1:
        fit = {first: sets[first] for first in found}
        raise SourceError(
            msg(
                "{where}: {tag} fits several GGUF files, {files}",
                where=where,
                tag=name.tag,
                files=_told(fit, sizes, sets),
            ),
            _advice(name, fit, sets),
        )
    return whole_gguf(where, sets[found[0]])


def _told(
    sets: Mapping[str, Sequence[str]], sizes: Mapping[str, int], among: Mapping[str, Sequence[str]] | None = None
) -> list[Translatable]:
    """Each of them, as it can be named ``among`` all, and its size."""
    tags = _tags(among or sets)
    return [_sized(tags[first] or first, sum(sizes.get(part, 0) for part in parts)) for first, parts in sets.items()]


def _sized(name: str, size: int) -> Translatable:
    if size >= 1e9:
        return msg("{name} ({gb:.1f} GB)", name=name, gb=size / 1e9)
    return msg("{name} ({mb:.1f} MB)", name=name, mb=size / 1e6) if size else msg("{name}", name=name)


def _advice(
    name: HubName, sets: Mapping[str, Sequence[str]], among: Mapping[str, Sequence[str]] | None = None
) -> Translatable:
    """How one of them is named."""
    tags = _tags(among or sets)
    if tag := usual([tags[first] for first in sets]):
        return msg("Name the one that you want, for example {name}", name=str(name.tagged(tag)))
    return msg(
        "Choose one: `hf download {repo} --include '{file}' --local-dir .`, then name it as path:FILE.",
        repo=name.repo,
        file=next(iter(sets)),
    )


def _tags(sets: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """By first file; "" where the tag can't be written."""
    return {first: tag if HUB_TAG.fullmatch(tag) else "" for first, tag in tags_of(list(sets)).items()}
