"""Which files of a repository make the model: weights, tokenizer, configuration, templates, card and licence.

Works on names, and on the index of shards where there is one; ``catalog/hub_weights.py`` knows which are weights.
Pickled weights and code are never among them, so nothing that is fetched can run by being read.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

from playground.catalog.hub_names import HubName
from playground.catalog.hub_weights import hub_weights
from playground.catalog.weight_files import ADAPTER, OTHER_LIBRARIES, Read, is_pickled, is_refused, why_none
from playground.errors import SourceError, either
from playground.messages import msg
from playground.sources.hub.onnx_names import precision_files

DESCRIBING = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "processor_config.json",
    "preprocessor_config.json",
)
CARD = "README.md"
SLOW_TOKENIZERS = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
"""Fetched only where there is no tokenizer.json; transformers can turn most of them into one."""
LEGAL = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


def files_to_fetch(
    name: HubName,
    sizes: Mapping[str, int],
    extra: tuple[str, ...] = (),
    onnx: str = "",
    *,
    originals: bool = True,
    read: Read | None = None,
) -> tuple[str, ...]:
    """The files to fetch, weights first.

    Args:
        name: As whom it was asked for; a quantisation in it takes that GGUF file and neither other weights nor graphs.
        sizes: Every file of the repository and its bytes, 0 where they are not known.
        extra: Patterns of further files, for example ``onnx/model_int8.onnx*``. Pickles and code stay out.
        onnx: Where there are no weights, take the ready-made graphs of this precision (int8, int4, fp32), by their
            names; "" takes none.
        originals: False takes the graphs of ``onnx`` though there are weights, if there are such graphs.
        read: Gives the text of a small file, for the index of shards.

    Raises:
        SourceError: There are no weights that may be loaded, several models, or no configuration.
    """
    repo, every = name.repo, sorted(sizes)
    wanted = [file for file in every if any(fnmatch(file, each) for each in extra)]
    asked = [file for file in wanted if not is_refused(file)]
    graphs = () if originals else precision_files(every, onnx)
    weights = None if graphs else hub_weights(name, sizes, read or _unreadable)
    if weights is None and not asked:
        asked = list(precision_files(every, onnx))
    if weights is None and not asked:
        raise _no_weights(repo, every, onnx)
    legal = [file for file in every if file == CARD or any(_matches(file, each) for each in LEGAL)]
    if weights and weights.format == "gguf":
        return (*weights.files, *(file for file in _beside(every, "") if file != "config.json"), *legal)
    folder = weights.folder + "/" if weights and f"{weights.folder}/config.json" in every else ""
    if f"{folder}config.json" not in every:
        raise SourceError(
            msg("hub:{repo} has no config.json", repo=repo),
            msg("This is not a transformers model; look for another copy."),
        )
    return tuple(dict.fromkeys((*(weights.names if weights else ()), *asked, *_beside(every, folder), *legal)))


def _beside(every: list[str], folder: str) -> list[str]:
    """What describes a model whose configuration lies in ``folder`` ("" or ending with /)."""
    inside = {name.removeprefix(folder): name for name in every if name.startswith(folder)}
    described = [name for short, name in inside.items() if any(_matches(short, each) for each in DESCRIBING)]
    slow = [name for short, name in inside.items() if short in SLOW_TOKENIZERS]
    return described if "tokenizer.json" in inside else described + slow


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def _unreadable(name: str) -> str:
    raise OSError(name)


def _no_weights(repo: str, names: list[str], onnx: str) -> SourceError:
    pickles = [name for name in names if is_pickled(name)]
    graphs = [precision for precision in ("int8", "int4", "fp32") if precision_files(names, precision)]
    if graphs:
        if onnx:
            what = msg("hub:{repo} has no ONNX files that are called {precision}", repo=repo, precision=onnx)
        else:
            what = msg("hub:{repo} has ONNX files only, without the original weights", repo=repo)
        ways = either([f"hub:{repo}@onnx-{precision}" for precision in graphs])
        return SourceError(what, msg("Ask for {ways}, or name the repository it was converted from.", ways=ways))
    if other := why_none(names):
        elsewhere = msg("Look for the model's repository with safetensors.")
        next_step = msg("Merge it into its base and share that.") if other == ADAPTER else elsewhere
        return SourceError(msg("hub:{repo} {problem}", repo=repo, problem=other), next_step)
    if pickles:
        return SourceError(
            msg(
                "hub:{repo} has pickled weights only ({file}), which can run code when they are loaded",
                repo=repo,
                file=pickles[0],
            ),
            msg(
                "They are refused. Look for a copy with safetensors, ask its authors for one, or convert it elsewhere "
                "(save_pretrained) and name the folder as path:FOLDER."
            ),
        )
    if others := [name for name in names if name.lower().endswith(OTHER_LIBRARIES)]:
        return SourceError(
            msg("hub:{repo} has weights for TensorFlow or Flax only ({file})", repo=repo, file=others[0]),
            msg("Look for a copy with safetensors, or ask its authors for one."),
        )
    if any(name.endswith(".onnx") for name in names):
        return SourceError(
            msg("hub:{repo} has ONNX files only, and none of them is called as a whole language model is", repo=repo),
            msg("Name the repository it was converted from."),
        )
    return SourceError(
        msg("hub:{repo} has no weights in safetensors or GGUF", repo=repo),
        msg("Check the name; look at the Files tab of its page."),
    )
