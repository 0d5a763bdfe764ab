"""From whatever a source brought to one form: a folder as transformers writes it, weights in the type they came in.
Those of a GGUF file stay in it, packed.

Every export starts from this folder, torch loads it as it is, and prompting reads its tokenizer files. Of a network
that also sees or hears, the language model alone is kept where it writes the same. It knows transformers; it does not
know ONNX.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from playground.catalog import quantization
from playground.catalog.template_files import bring_template
from playground.catalog.weight_files import GGUF_FILE, INDEX, WHOLE
from playground.errors import ExportError, PlaygroundError, either, first_line
from playground.export import vocabulary
from playground.export.gguf.splits import merge
from playground.export.gguf.tokens import keep_to_vocabulary
from playground.export.prompt_check import check_prompts
from playground.export.text_part import text_part
from playground.messages import Translatable, clauses, msg
from playground.records import ModelSpec
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.runtimes.torch.libraries import load_libraries
from playground.runtimes.torch.networks import Network, load_network
from playground.sources.files import Progress, of_the_disk

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SIDE_FILES = (*TOKENIZER_FILES, "config.json", "generation_config.json")
"""What stands beside the weights, in the import and, unchanged, in every export made from it."""

SHARD = "1GB"
"""The most that one file of weights holds: they are gathered in memory before they are written."""

TEXT_ONLY = msg(
    "This model is made for more than text. Only its language part answers here: images, video and sound are not "
    "served."
)


def copy_side_files(model: Path, target: Path) -> None:
    """Put the import's ``SIDE_FILES`` into an export, in place of what an exporter wrote."""
    for name in SIDE_FILES:
        (target / name).unlink(missing_ok=True)
        if (model / name).exists():
            shutil.copyfile(model / name, target / name)


def import_model(
    spec: ModelSpec, files: tuple[Path, ...], target: Path, progress: Progress
) -> tuple[Translatable, ...]:
    """Write weights and ``SIDE_FILES`` (a chat template only where there is one) into ``target``.

    Args:
        spec: Named in errors.
        files: From ``sources.fetch``: one GGUF file, or the files of a transformers folder.
        target: An empty folder.
        progress: Told the share of weights read.

    Returns:
        What a reader of the answers should know of what was kept and what was left aside.

    Raises:
        ExportError: The files hold no model that transformers can read, or not all of its weights.
    """
    progress(msg("importing"), None)
    try:
        notes = _import(spec, files, target, progress)
    except (PlaygroundError, MemoryError):
        raise
    except IncompleteWeights as error:
        raise ExportError(
            msg(
                "{model} is refused: its files and the network they describe do not fit together ({reason})",
                model=spec.name,
                reason=error.reason,
            ),
            msg(
                "transformers would put random numbers where weights are missing and leave out those it does not know. "
                "Take a copy whose weights are whole and have the names that its config.json's architecture uses."
            ),
        ) from error
    except ImportError as error:
        raise ExportError(
            msg(
                "{model} can't be read by transformers without another package: {reason}",
                model=spec.name,
                reason=_said(error),
            ),
            msg("Install what is named, and prepare the model again."),
        ) from error
    except Exception as error:  # transformers, gguf and safetensors raise whatever happens to break
        if disk := of_the_disk(error):
            raise disk from error
        raise ExportError(
            msg(
                "{model} can't be read by transformers ({kind}: {reason})",
                model=spec.name,
                kind=type(error).__name__,
                reason=_said(error),
            ),
            msg("Check that the file is whole and that its architecture is one transformers knows."),
        ) from error
    weights = next((name for name in (WHOLE, GGUF_FILE) if (target / name).exists()), INDEX)
    missing = [name for name in ("tokenizer.json", "config.json", weights) if not (target / name).exists()]
    if missing:
        raise ExportError(
            msg("Importing {model} gave no {files}", model=spec.name, files=either(missing)),
            msg("See the log in PLAYGROUND_HOME."),
        )
    return notes


def original_folder(files: tuple[Path, ...]) -> Path:
    """The folder that transformers reads: the one with config.json, or the one with the GGUF file."""
    return next((path.parent for path in files if path.name == "config.json"), files[0].parent)


def _import(spec: ModelSpec, files: tuple[Path, ...], target: Path, progress: Progress) -> tuple[Translatable, ...]:
    load_libraries()
    from transformers import AutoTokenizer

    from playground.runtimes.torch.deferred import as_stored
    from playground.runtimes.torch.gguf_weights import quick_gguf

    folder = original_folder(files)
    gguf = files[0].name if files[0].suffix.lower() == ".gguf" else ""
    with _joined(files, target) as joined:
        folder, gguf = (joined.parent, joined.name) if joined else (folder, gguf)
        with quick_gguf() if gguf else contextlib.nullcontext():
            tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **({"gguf_file": gguf} if gguf else {})
            )
        network = load_network(folder, gguf, deferred=True)
        if gguf:
            keep_to_vocabulary(tokenizer)
        model, notes = _kept(network)
        _forget_quantisation(model)
        tokenizer.save_pretrained(target)
        _forget_places(target / "tokenizer_config.json")
        _keep_answers(tokenizer, target)
        if gguf and model is network.model:
            _describe(model, target)
            _keep(folder / gguf, target / GGUF_FILE)
        else:
            with as_stored(model):
                model.save_pretrained(target, max_shard_size=SHARD)
        model.generation_config.save_pretrained(target)
    if not gguf:
        bring_template(folder, target)
    _judge_prompts(spec, tokenizer, target)
    return notes


def _keep_answers(tokenizer: Any, target: Path) -> None:
    """Spare those who come later in this process reading what was just written."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # How it takes control tokens in a text is the one thing of it that tokenizer.json does not say.
    if isinstance(backend, Tokenizer) and not backend.encode_special_tokens and (target / vocabulary.FILE).is_file():
        vocabulary.keep(target, backend)


def _judge_prompts(spec: ModelSpec, tokenizer: Any, target: Path) -> None:
    """Compare what a worker will read here with what transformers' own tokenizer makes of the same prompts.

    Raises:
        ExportError: They differ.
    """
    verdict = check_prompts(tokenizer, target, spec)
    if verdict.differences:
        raise ExportError(
            msg(
                "{model} can't be served: the prompts made from its files are not transformers' own ({differences})",
                model=spec.name,
                differences=clauses(*verdict.differences),
            ),
            msg("This is a fault of the playground or of the model's tokenizer files; the log is in PLAYGROUND_HOME."),
        )
    log.info("%s: %d prompts are the same text and ids as transformers'", spec.id, verdict.compared)


@contextlib.contextmanager
def _joined(files: tuple[Path, ...], target: Path) -> Iterator[Path | None]:
    """The parts of a split GGUF as one file, for as long as it is read; None where there is one file already."""
    parts = [path for path in files if path.suffix.lower() == ".gguf"]
    if len(parts) < 2:
        yield None
        return
    place = target / "joined"
    place.mkdir()
    try:
        yield merge(parts, place / "model.gguf")
    finally:
        shutil.rmtree(place)


def _kept(network: Network) -> tuple[Any, tuple[Translatable, ...]]:
    """What is written down of a network, and what is to be said of it."""
    if not network.sees or network.has_encoder:
        return network.model, ()
    return text_part(network.model) or network.model, (TEXT_ONLY,)


def _describe(model: Any, target: Path) -> None:
    """Write config.json as transformers does beside weights that it saves."""
    model.config.dtype = "float32"
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(target)


def _keep(file: Path, target: Path) -> None:
    """Have a file here as well: as a second name of it, which takes no room, or as a copy where there can be none."""
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or somebody else's file
        shutil.copyfile(file, target)


def _forget_quantisation(model: Any) -> None:
    """The weights are plain fp32 by now, but transformers refuses to save what it calls quantised."""
    model.hf_quantizer = None
    model.is_quantized = False
    quantization.forget(model.config)


def _forget_places(path: Path) -> None:
    """Where the files happened to lie while they were read is nobody's business later."""
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("local_files_only", "is_local", "gguf_file"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _said(error: BaseException) -> Translatable:
    first, *more = [line.strip() for line in str(error).strip().splitlines()] or [""]
    # A line that ends in a colon announces what is wrong; the next one says it.
    return first_line(" ".join([first, *more[: first.endswith(":")]]))
