"""Which files of a repository make the model: weights, tokenizer, configuration, card and licence; nothing else.

Works on names alone. Pickled weights and code are never among them, so nothing that is fetched can run by being read.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch

from playground.errors import SourceError
from playground.sources.onnxnames import promised

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
DESCRIBING = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
)
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


def needed(
    repo: str, names: Iterable[str], extra: tuple[str, ...] = (), onnx: str = "", *, originals: bool = True
) -> tuple[str, ...]:
    """The files to fetch, weights first.

    Args:
        repo: As ``OWNER/NAME``, for messages.
        names: Every file of the repository.
        extra: Patterns of further files, for example ``onnx/model_int8.onnx*``. Pickles and code stay out.
        onnx: Where there are no weights, take the ready-made graphs of this precision (int8, int4, fp32), by their
            names; "" takes none.
        originals: False takes the graphs of ``onnx`` though there are weights, if there are such graphs.

    Raises:
        SourceError: There are no weights that may be loaded, or no configuration.
    """
    every = sorted(set(names))
    top = [name for name in every if "/" not in name]
    wanted = [name for name in every if any(fnmatch(name, each) for each in extra)]
    asked = [name for name in wanted if not name.endswith((*PICKLES, ".py"))]
    graphs = () if originals else promised(every, onnx)
    weights = [] if graphs else _safetensors(top) or _gguf(repo, top)
    if not weights and not asked:
        asked = list(promised(every, onnx))
    if not weights and not asked:
        raise _no_weights(repo, every, onnx)
    beside = [name for name in top if name in DESCRIBING or any(fnmatch(name, each) for each in LEGAL)]
    if weights and weights[0].lower().endswith(".gguf"):
        return (*weights, *(name for name in beside if name != "config.json"))
    if "config.json" not in top:
        raise SourceError(f"hub:{repo} has no config.json", "This is not a transformers model; look for another copy.")
    if "tokenizer.json" not in top:
        beside += [name for name in top if name in SLOW_TOKENIZERS]
    return tuple(dict.fromkeys((*weights, *asked, *beside)))


def _safetensors(top: list[str]) -> list[str]:
    """``model.safetensors`` or its shards with their index; other collections (consolidated, adapters) are not it."""
    if "model.safetensors" in top:
        return ["model.safetensors"]
    if "model.safetensors.index.json" in top:
        shards = [name for name in top if fnmatch(name, "model-*-of-*.safetensors")]
        return [*shards, "model.safetensors.index.json"] if shards else []
    return []


def _gguf(repo: str, top: list[str]) -> list[str]:
    files = [name for name in top if name.lower().endswith(".gguf")]
    if len(files) > 1:
        raise SourceError(
            f"hub:{repo} has {len(files)} GGUF files ({', '.join(files[:3])}, …) and no safetensors",
            f"Choose one: `hf download {repo} {files[0]} --local-dir .`, then name it as path:{files[0]}.",
        )
    return files


def _no_weights(repo: str, names: list[str], onnx: str) -> SourceError:
    pickles = [name for name in names if name.endswith(PICKLES)]
    if any(name == "adapter_model.safetensors" for name in names):
        return SourceError(f"hub:{repo} is an adapter without its base model", "Merge it into its base and share that.")
    graphs = [precision for precision in ("int8", "int4", "fp32") if promised(names, precision)]
    if graphs:
        what = f"no ONNX files that are called {onnx}" if onnx else "ONNX files only, without the original weights"
        ways = " or ".join(f"hub:{repo}@onnx-{precision}" for precision in graphs)
        return SourceError(f"hub:{repo} has {what}", f"Ask for {ways}, or name the repository it was converted from.")
    if pickles:
        return SourceError(
            f"hub:{repo} has pickled weights only ({pickles[0]}), which can run code when they are loaded",
            "They are refused. Look for a copy with safetensors, ask its authors for one, or convert it elsewhere "
            "(save_pretrained) and name the folder as path:FOLDER.",
        )
    if any(name.endswith(".onnx") for name in names):
        return SourceError(
            f"hub:{repo} has ONNX files only, and none of them is called as a whole language model is",
            "Name the repository it was converted from.",
        )
    return SourceError(
        f"hub:{repo} has no weights in safetensors or GGUF", "Check the name; look at the Files tab of its page."
    )
